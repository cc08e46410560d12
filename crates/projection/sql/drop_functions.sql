-- Everything that functions.sql makes.
drop function if exists
    read.{name}__swap, read.{name}__stage_journal, read.{name}__stage, read.{name}__advance;
drop type if exists read.{name}__step, read.{name}__key, read.{name}__row cascade;
drop function if exists read.{name}__keys;

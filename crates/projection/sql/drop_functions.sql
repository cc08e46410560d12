-- Everything that functions.sql makes.
drop function if exists
    {schema}.{name}__as_of_key, {schema}.{name}__as_of, {schema}.{name}__as_of_events,
    {schema}.{name}__as_of_streams,
    {schema}.{name}__swap, {schema}.{name}__stage_journal, {schema}.{name}__stage,
    {schema}.{name}__advance_journal, {schema}.{name}__advance, {schema}.{name}__is_active,
    {schema}.{name}__move, {schema}.{name}__retry, {schema}.{name}__advance_parking,
    {schema}.{name}__is_events_fault;
drop type if exists {schema}.{name}__step, {schema}.{name}__key, {schema}.{name}__row cascade;
drop function if exists {schema}.{name}__keys;

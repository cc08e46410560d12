-- Writes down how many rows each statement removes, and in which transaction.
create table pieces (transaction xid8 not null, removed bigint not null);
create function note_piece() returns trigger language plpgsql as $$
begin
    insert into public.pieces select pg_current_xact_id(), count(*) from gone;
    return null;
end $$;
create trigger note_piece after delete on journal.commands
    referencing old table as gone for each statement execute function note_piece();
create trigger note_piece after delete on journal.jobs
    referencing old table as gone for each statement execute function note_piece();

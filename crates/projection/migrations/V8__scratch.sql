-- Where the journal is in another database, what is to be folded of it is copied first: to a
-- temporary table, which only the session that copies sees and which is empty again at the end of
-- the transaction.

-- Makes the session's table of copied events, unless it is there. It is the owner's, so that nobody
-- else need have the right to make temporary tables.
create function projection.open_scratch() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
begin
    if to_regclass('pg_temp.daybook_events') is not null then return; end if;
    create temporary table daybook_events (
        tenant integer not null,
        position bigint not null,
        stream text collate "C" not null,
        version integer not null,
        type text collate "C" not null,
        schema_version smallint not null,
        data jsonb not null,
        meta jsonb not null,
        occurred_at timestamptz not null,
        recorded_at timestamptz not null
    ) on commit delete rows;
    execute format('grant select, insert, delete on pg_temp.daybook_events to %I', session_user);
end $$;

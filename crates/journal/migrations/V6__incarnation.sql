-- Which history this is, told sooner and in one more case.
--
-- The timeline is that of the WAL that is being written now. The one in the control file is that of
-- the last checkpoint, and after a promotion the next one may take minutes: meanwhile two histories
-- would have had one id. And a dump that is restored beside the original, in the same cluster, is
-- another history too: its database is another one. (A restore of files without a new timeline can't
-- be told from a server that was stopped: whoever does that deletes the row.)
alter table journal.incarnations add column database oid;
update journal.incarnations
    set database = (select oid from pg_database where datname = current_database());
alter table journal.incarnations alter column database set not null;

create or replace function journal.incarnation() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    here_system bigint;
    here_timeline integer;
    here_database oid;
    answer uuid;
begin
    if pg_is_in_recovery() then
        -- A standby has its primary's history as long as it follows.
        select id into answer from journal.incarnations;
        return answer;
    end if;
    here_system := (select system_identifier from pg_control_system());
    here_timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    here_database := (select oid from pg_database where datname = current_database());
    select id into answer from journal.incarnations
        where system_identifier = here_system and timeline = here_timeline
          and database = here_database;
    if answer is null then
        insert into journal.incarnations (id, system_identifier, timeline, database)
            values (gen_random_uuid(), here_system, here_timeline, here_database)
            on conflict (only_row) do update
            set id = excluded.id, system_identifier = excluded.system_identifier,
                timeline = excluded.timeline, database = excluded.database,
                since = clock_timestamp()
            where incarnations.system_identifier <> excluded.system_identifier
               or incarnations.timeline <> excluded.timeline
               or incarnations.database <> excluded.database;
        select id into answer from journal.incarnations;
    end if;
    return answer;
end $$;

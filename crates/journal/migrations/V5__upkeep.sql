-- What makes room: expired idempotency records and jobs that were done long ago go, in pieces of at
-- most `a_limit` rows. Functions of the owner's, so that whoever calls them can remove nothing else.
-- A row that somebody holds is left for the next time. The limit is forced on the index that is in
-- order of time: on any other plan each piece would read what all the others leave.

create index jobs_done on journal.jobs (ended_at) where state = 'done';

create function journal.remove_expired_commands(a_limit integer) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    removed integer;
begin
    delete from journal.commands where ctid = any (array(
        select ctid from journal.commands
        where expires_at <= statement_timestamp()   -- null: kept for ever
        order by expires_at limit a_limit for update skip locked));
    get diagnostics removed = row_count;
    return removed;
end $$;

-- A dead letter stays until a person has decided about it.
create function journal.remove_done_jobs(a_older_than_s bigint, a_limit integer) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    removed integer;
begin
    delete from journal.jobs where ctid = any (array(
        select ctid from journal.jobs
        where state = 'done' and ended_at <= statement_timestamp() - make_interval(secs => a_older_than_s)
        order by ended_at limit a_limit for update skip locked));
    get diagnostics removed = row_count;
    return removed;
end $$;

-- Whoever appends or registers does it through these functions alone, with the owner's rights: no
-- role needs any on the tables that they write.
alter function journal.append security definer set search_path = pg_catalog, pg_temp;
alter function journal.register_process security definer set search_path = pg_catalog, pg_temp;
alter function journal.heartbeat security definer set search_path = pg_catalog, pg_temp;

-- A process that ends takes itself off the list, and nobody else: the others' ids are theirs alone.
create function journal.deregister_process(a_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    delete from journal.processes where id = a_id
$$;

-- What analysts see of the journal: events in their current form. The schema's other views are the
-- read models'.
create schema if not exists analyst;

create view analyst.tenants as
select name as tenant, created_at from journal.tenants;

create view analyst.events as
select t.name as tenant, e.position, e.stream, e.version, e.type, e.schema_version, e.data, e.meta,
       e.occurred_at, e.recorded_at, e.stored_version
from journal.current_events e join journal.tenants t using (tenant);

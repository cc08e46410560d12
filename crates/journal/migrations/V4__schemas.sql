-- Versions of event types: how what was stored in an older one is read in the current form, which
-- of them may be written, and which processes can read what.

-- The current form of an event's data. Here nothing has evolved; `daybook migrate` replaces it by
-- the upcasters of its model. Plain SQL without settings of its own, so that the planner inlines
-- it: an event in its current version costs a comparison.
create function journal.upcast(type text, schema_version smallint, data jsonb) returns jsonb
language sql immutable parallel safe return data;

-- The version that `journal.upcast` lifts to.
create function journal.current_version(type text, schema_version smallint) returns smallint
language sql immutable parallel safe return schema_version;

-- The events as folds, aggregates and analysts want them: every type in its current version. What
-- is copied, exported or audited is the stored form, in journal.events.
create view journal.current_events as
select tenant, position, stream, version, type,
       journal.current_version(type, schema_version) as schema_version,
       journal.upcast(type, schema_version, data) as data,
       meta, occurred_at, recorded_at,
       schema_version as stored_version
from journal.events;

-- The versions that may be written. What stands here stays.
create table journal.activations (
    type text collate "C" not null,
    version smallint not null check (version > 0),
    activated_at timestamptz not null default clock_timestamp(),
    primary key (type, version)
);

-- Processes that read events, and the newest version of each type that they can read.
create table journal.processes (
    id uuid primary key,
    name text not null,
    types text[] not null,
    versions smallint[] not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);               -- one short row a process, written every few seconds

-- How long a process that doesn't say anything still counts.
create function journal.process_lapse() returns interval
language sql immutable return interval '30 seconds';

-- Registrations and heartbeats exclude activations, not each other.
create function journal.lock_activations(exclusively boolean) returns void
language plpgsql volatile as $$
begin
    if exclusively then
        perform pg_advisory_xact_lock(1684107379, 0);          -- "days"
    else
        perform pg_advisory_xact_lock_shared(1684107379, 0);
    end if;
end $$;

-- Registers a process, or registers it again. Raises DB003 where a version is activated that it
-- can't read: it must not run.
create function journal.register_process(
    a_id uuid, a_name text, a_types text[], a_versions smallint[]
) returns void language plpgsql volatile as $$
declare
    unreadable text;
begin
    perform journal.lock_activations(false);
    select string_agg(a.type || '/' || a.version, ', ' order by a.type, a.version) into unreadable
        from journal.activations a
        where not exists (select from unnest(a_types, a_versions) as r (type, version)
                          where r.type = a.type and r.version >= a.version);
    if unreadable is not null then
        raise exception '% activated here, and this program can''t read it', unreadable
            using errcode = 'DB003', detail = unreadable;
    end if;
    insert into journal.processes as p (id, name, types, versions)
        values (a_id, a_name, a_types, a_versions)
        on conflict (id) do update set seen_at = clock_timestamp();
    delete from journal.processes where seen_at < clock_timestamp() - interval '1 day';
end $$;

-- False: the process has lapsed, and must register again before it may count on what it knew.
create function journal.heartbeat(a_id uuid) returns boolean language plpgsql volatile as $$
begin
    perform journal.lock_activations(false);
    update journal.processes set seen_at = clock_timestamp()
        where id = a_id and seen_at > clock_timestamp() - journal.process_lapse();
    return found;
end $$;

-- Processes that count and can't read a version.
create function journal.blind_processes(a_type text, a_version smallint) returns text[]
language sql volatile as $$
    select coalesce(array_agg(p.name order by p.name), '{}')
    from journal.processes p
    where p.seen_at > clock_timestamp() - journal.process_lapse()
      and not exists (select from unnest(p.types, p.versions) as r (type, version)
                      where r.type = a_type and r.version >= a_version)
$$;

-- From here on the version is written. False: it was already. Raises DB004 with the names of the
-- processes that can't read it (a JSON array) as detail, DB005 while an earlier version of the
-- type is not activated.
create function journal.activate(a_type text, a_version smallint) returns boolean
language plpgsql volatile as $$
declare
    blind text[];
begin
    perform journal.lock_activations(true);
    if exists (select from journal.activations where type = a_type and version = a_version) then
        return false;
    end if;
    if a_version > 1 and not exists (
        select from journal.activations where type = a_type and version = a_version - 1)
    then
        raise exception '%/% is not activated yet', a_type, a_version - 1
            using errcode = 'DB005';
    end if;
    blind := journal.blind_processes(a_type, a_version);
    if blind <> '{}' then
        raise exception 'processes can''t read %/%: %', a_type, a_version,
            array_to_string(blind, ', ')
            using errcode = 'DB004', detail = to_json(blind)::text;
    end if;
    insert into journal.activations (type, version) values (a_type, a_version);
    return true;
end $$;

-- What `migrate` activates by itself: in a journal without events every version that is known and
-- that all processes can read; in one that was written before activations were kept, the versions
-- it was written with. Otherwise nothing. Returns how many were added.
create function journal.adopt_activations(
    known_types text[], known_versions smallint[], first_types text[], first_versions smallint[]
) returns bigint language plpgsql volatile as $$
declare
    added bigint := 0;
begin
    perform journal.lock_activations(true);
    if not exists (select from journal.events) then
        insert into journal.activations (type, version)
            select type, version from unnest(known_types, known_versions) as k (type, version)
            where journal.blind_processes(type, version) = '{}'
            on conflict do nothing;
        get diagnostics added = row_count;
    elsif not exists (select from journal.activations) then
        insert into journal.activations (type, version)
            select type, version from unnest(first_types, first_versions) as f (type, version);
        get diagnostics added = row_count;
    end if;
    return added;
end $$;

-- Versions of a projection stand side by side, each in a schema of its own; which of them answers
-- queries is one row. The read models of the layout before are folded again from the journal.

drop schema if exists read cascade;     -- with the views of schema analyst that show its tables
drop function projection.make_staging(text), projection.drop_staging(text);
drop table projection.checkpoints, projection.definitions;

-- An event as `key.sql` and `apply.sql` see it: the columns of journal.events without the mac.
create type projection.event as (
    tenant integer,
    position bigint,
    stream text,
    version integer,
    type text,
    schema_version smallint,
    data jsonb,
    meta jsonb,
    occurred_at timestamptz,
    recorded_at timestamptz
);

-- Every version of every projection, with all that its folder said. Programs read definitions from
-- here, never from a folder.
create table projection.versions (
    projection text collate "C" not null,
    version text collate "C" not null,      -- hash of what decides the rows
    schema text collate "C" not null unique,    -- holds its table, types and functions
    title text not null,
    definition jsonb not null,              -- {toml, table, key, apply, queries: {name: sql}}
    upcasters text not null,                -- digest of what lifts its events; '' nothing
    engine text not null,                   -- hash of what its functions were made from
    -- building: not switched to yet; active: answers queries; retired: follows on until dropped
    state text not null check (state in ('building', 'active', 'retired')),
    automatic boolean not null,             -- a building one: switched to once it has caught up
    made_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    primary key (projection, version)
);

-- The version that answers queries. Every query reads its row in its own statement.
create table projection.active (
    projection text collate "C" primary key,
    version text collate "C" not null,
    switched_at timestamptz not null default clock_timestamp(),
    shown text,                             -- the version that the analysts' view shows
    foreign key (projection, version) references projection.versions
);

-- How far a version has read a tenant's journal. Moved by compare-and-set, in the transaction that
-- changes the rows, so rows and position always agree.
create table projection.checkpoints (
    projection text collate "C" not null,
    version text collate "C" not null,
    tenant integer not null,
    position bigint not null check (position >= 0),
    incarnation uuid,                   -- the history that `position` counts in
    error jsonb,                        -- {position, type, message}: where it stopped, and why
    updated_at timestamptz not null default clock_timestamp(),
    primary key (projection, version, tenant),
    foreign key (projection, version) references projection.versions on delete cascade
) with (fillfactor = 50);               -- a row a version, written with every batch

-- Roles that every version's schema is opened to.
create table projection.grantees (
    role text not null,                 -- as it stands in a grant, quoted
    may text not null check (may in ('read', 'fold')),
    primary key (role, may)
);

-- Gives the grantees what they need in a version's schema.
create function projection.open_schema(a_schema text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    grantee record;
begin
    for grantee in select role, may from projection.grantees loop
        execute format('grant usage on schema %I to %s', a_schema, grantee.role);
        execute format('grant execute on all routines in schema %I to %s', a_schema, grantee.role);
        execute format('grant %s on all tables in schema %I to %s',
            case grantee.may when 'fold' then 'select, insert, update, delete' else 'select' end,
            a_schema, grantee.role);
    end loop;
end $$;

-- The staging table of a rebuild: made and dropped by the owner of the tables, through these two
-- functions, and filled by whoever rebuilds, who so needs no right to make tables.
create function projection.drop_staging(a_projection text, a_version text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    its_schema text;
begin
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    execute format('drop table if exists %I.%I', its_schema, a_projection || '__staging');
end $$;

-- Unlogged: a crash throws the work away, and the old rows stay as they are.
create function projection.make_staging(a_projection text, a_version text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    its_schema text;
    staging text := a_projection || '__staging';
begin
    perform projection.drop_staging(a_projection, a_version);
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    execute format(
        'create unlogged table %I.%I (like %I.%I including defaults including indexes)',
        its_schema, staging, its_schema, a_projection);
    execute format('grant select, insert, update, delete on %I.%I to %I',
        its_schema, staging, session_user);
end $$;

-- Makes a version the one that answers queries, if no tenant's position would fall. Nobody who has
-- seen a position sees an older one afterwards: the version that answers now stands still while the
-- other one, which goes on, is given a moment to reach it. False: it did not; nothing has changed.
create function projection.switch_to(a_projection text, a_version text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    before text;
    behind boolean;
begin
    -- meanwhile nobody else switches, and no version gets its first checkpoint of a tenant
    perform pg_advisory_xact_lock(hashtext('daybook.projection.switch'), hashtext(a_projection));
    select version into before from projection.active where projection = a_projection;
    if before = a_version then return true; end if;
    perform from projection.versions where projection = a_projection and version = a_version;
    if not found then
        raise exception 'projection % has no version %', a_projection, a_version
            using errcode = 'undefined_object';
    end if;
    perform from projection.checkpoints
        where projection = a_projection and version = before order by tenant for update;
    for attempt in 1..100 loop
        select exists (
            select from projection.checkpoints o
            left join projection.checkpoints n
                on n.projection = o.projection and n.version = a_version and n.tenant = o.tenant
            where o.projection = a_projection and o.version = before
              and coalesce(n.position, 0) < o.position
              -- what was folded from another history of the journal will never be reached
              and (n.incarnation is null or o.incarnation is null
                   or n.incarnation = o.incarnation)
        ) into behind;
        exit when not behind;
        perform pg_sleep(0.005);
    end loop;
    if behind then return false; end if;

    insert into projection.active as a (projection, version) values (a_projection, a_version)
        on conflict (projection) do update
            set version = excluded.version, switched_at = clock_timestamp();
    update projection.versions
        set state = case version when a_version then 'active' else 'retired' end,
            automatic = false, changed_at = clock_timestamp()
        where projection = a_projection and (version = a_version or state = 'active');
    perform pg_notify('daybook_read', 'versions');
    return true;
end $$;

-- The same for the running projector: only to a version that is to be switched to by itself.
create function projection.switch_when_ready(a_projection text, a_version text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform from projection.versions where projection = a_projection and version = a_version
        and state = 'building' and automatic;
    return found and projection.switch_to(a_projection, a_version);
end $$;

-- Analysts read a view, so that nothing of theirs depends on a version's table. Made anew after a
-- switch, apart from it, since it waits for everybody who is reading. False: somebody is.
create function projection.show_analysts(a_projection text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
    its_schema text;
    now_active text;
    now_shown text;
begin
    select a.version, a.shown, v.schema into now_active, now_shown, its_schema
        from projection.active a join projection.versions v using (projection, version)
        where a.projection = a_projection for update of a;
    if not found or now_shown = now_active then return true; end if;
    execute format('drop view if exists analyst.%I', a_projection);
    execute format('create view analyst.%I as select * from %I.%I',
        a_projection, its_schema, a_projection);
    update projection.active set shown = version where projection = a_projection;
    return true;
exception when lock_not_available or dependent_objects_still_exist then
    return false;
end $$;

-- Drops a version with all that is its own. Whoever reads or folds it is waited for, shortly.
create function projection.drop_version(a_projection text, a_version text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    its_schema text;
begin
    perform pg_advisory_xact_lock(hashtext('daybook.projection.switch'), hashtext(a_projection));
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    execute format('drop schema %I cascade', its_schema);
    delete from projection.versions where projection = a_projection and version = a_version;
    perform pg_notify('daybook_read', 'versions');
end $$;

-- Keys that a projection with on_error = "park" has put aside, because an event could not be folded
-- onto their rows. Their rows stay as they were; their later events wait in the journal.
create table projection.parked (
    projection text collate "C" not null,
    version text collate "C" not null,
    tenant integer not null,
    key text collate "C" not null,      -- the key's columns as a JSON array
    position bigint not null,           -- of the first event that is not in the row
    type text not null,
    error text not null,                -- what PostgreSQL said when it was last tried
    parked_at timestamptz not null default clock_timestamp(),
    primary key (projection, version, tenant, key),
    foreign key (projection, version) references projection.versions on delete cascade
);

-- How far a rebuild's staging table is, so that one that was killed goes on. Unlogged like that
-- table: a crash of the server empties both.
create unlogged table projection.rebuilds (
    projection text collate "C" not null,
    version text collate "C" not null,
    tenant integer not null,
    source text not null,               -- journal or kafka
    position bigint not null,
    incarnation uuid,
    primary key (projection, version, tenant),
    foreign key (projection, version) references projection.versions on delete cascade
);

-- Drops a version with all that is its own. Whoever reads or folds it is waited for, shortly. A
-- batch holds its checkpoint before it reads the table, so in this order here too.
create or replace function projection.drop_version(a_projection text, a_version text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    its_schema text;
begin
    perform pg_advisory_xact_lock(hashtext('daybook.projection.switch'), hashtext(a_projection));
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    perform from projection.checkpoints
        where projection = a_projection and version = a_version order by tenant for update;
    execute format('drop schema %I cascade', its_schema);
    delete from projection.versions where projection = a_projection and version = a_version;
    perform pg_notify('daybook_read', 'versions');
end $$;

-- For the running projector: only to a version that is to be switched to by itself, and not while
-- keys are parked that the version which answers has rows of.
create or replace function projection.switch_when_ready(a_projection text, a_version text)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform from projection.versions where projection = a_projection and version = a_version
        and state = 'building' and automatic;
    if not found then return false; end if;
    perform from projection.parked n
        where n.projection = a_projection and n.version = a_version and not exists (
            select from projection.parked o join projection.active using (projection, version)
            where o.projection = a_projection and o.tenant = n.tenant and o.key = n.key);
    return not found and projection.switch_to(a_projection, a_version);
end $$;

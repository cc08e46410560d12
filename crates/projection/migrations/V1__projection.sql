-- What the projection engine keeps: definitions, checkpoints, and the type of an event.

create schema if not exists projection;
create schema if not exists read;

-- Which definition of a projection its table and functions in schema `read` were made from.
create table projection.definitions (
    projection text collate "C" primary key,
    definition text not null,           -- hash of what decides the rows: table, key, apply, events
    engine text not null,               -- hash of the generated functions
    title text not null,
    installed_at timestamptz not null default clock_timestamp()
);

-- How far a projection has read a tenant's journal. Moved by compare-and-set, in the transaction
-- that changes the rows, so rows and position always agree.
create table projection.checkpoints (
    projection text collate "C" not null,
    tenant integer not null,
    position bigint not null check (position >= 0),
    incarnation uuid,                   -- the history that `position` counts in
    error jsonb,                        -- {position, type, message}: where it stopped, and why
    updated_at timestamptz not null default clock_timestamp(),
    primary key (projection, tenant)
) with (fillfactor = 50);               -- a row a projection, written with every batch

-- An event as `key.sql` and `apply.sql` see it: the columns of journal.events without the mac.
create type read.event as (
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

-- The journal: one total order of events per tenant, written once and never changed.

create schema if not exists journal;

-- A random id of this history. A restored backup or a promoted standby may hold other events at
-- the same positions, so `journal.incarnation()` replaces the id when the cluster's identifier or
-- timeline is no longer the one it was made for. It stands beside every position that leaves.
create table journal.incarnations (
    only_row boolean primary key default true check (only_row),
    id uuid not null,
    system_identifier bigint not null,
    timeline integer not null,
    since timestamptz not null default clock_timestamp()
);

create function journal.incarnation() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog as $$
declare
    here_system bigint := (select system_identifier from pg_control_system());
    here_timeline integer := (select timeline_id from pg_control_checkpoint());
    answer uuid;
begin
    select id into answer from journal.incarnations
        where system_identifier = here_system and timeline = here_timeline;
    if answer is null then
        insert into journal.incarnations (id, system_identifier, timeline)
            values (gen_random_uuid(), here_system, here_timeline)
            on conflict (only_row) do update
            set id = excluded.id, system_identifier = excluded.system_identifier,
                timeline = excluded.timeline, since = clock_timestamp()
            where incarnations.system_identifier <> excluded.system_identifier
               or incarnations.timeline <> excluded.timeline;
        select id into answer from journal.incarnations;
    end if;
    return answer;
end $$;

-- A tenant's Kafka partition is chosen once and kept, so that adding partitions moves nobody.
create table journal.tenants (
    tenant integer primary key generated always as identity,
    name text not null unique check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
    partition integer not null check (partition >= 0),
    created_at timestamptz not null default clock_timestamp()
);

-- Fixed-width columns first: no padding between them.
create table journal.events (
    position bigint not null check (position > 0),
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    tenant integer not null,            -- no foreign key: it would cost a look-up a row
    version integer not null check (version > 0),
    schema_version smallint not null check (schema_version > 0),
    stream text collate "C" not null,
    type text collate "C" not null,
    mac bytea not null check (length(mac) = 33),
    data jsonb not null,
    meta jsonb not null,
    primary key (tenant, position),
    unique (tenant, stream, version)
);

create function journal.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'journal.events is append-only: % refused', tg_op
        using errcode = 'insufficient_privilege';
end $$;
create trigger events_never_change before update or delete on journal.events
    for each statement execute function journal.refuse_change();
create trigger events_never_truncated before truncate on journal.events
    for each statement execute function journal.refuse_change();
alter table journal.events enable always trigger events_never_change;
alter table journal.events enable always trigger events_never_truncated;

-- What a command ended in, found again by its idempotency key.
create table journal.commands (
    tenant integer not null,
    position bigint,                    -- of the last event, null when nothing was appended
    recorded_at timestamptz not null,
    expires_at timestamptz,             -- null: kept for ever
    principal text collate "C" not null,
    key text collate "C" not null,
    fingerprint bytea not null check (length(fingerprint) = 32),
    outcome jsonb not null,
    primary key (tenant, principal, key)
);
create index commands_expiring on journal.commands (expires_at) where expires_at is not null;

-- What must happen next, written with what happened. Opaque here: `work` claims and ends them.
create table journal.jobs (
    id uuid primary key,
    tenant integer not null references journal.tenants,
    position bigint not null,           -- of the last event of the command that made it
    run_at timestamptz not null,
    leased_until timestamptz,
    lease uuid,
    attempts integer not null default 0,
    state text not null default 'waiting' check (state in ('waiting', 'done', 'dead')),
    kind text not null,
    payload jsonb not null,
    sealed bytea,                       -- a secret the job needs, cleared when it ends
    last_error text,
    created_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);
create index jobs_waiting on journal.jobs (run_at) where state = 'waiting';
create index jobs_unfinished on journal.jobs (tenant, state) where state <> 'done';

-- Who may ask: API keys.

create schema if not exists identity;

-- A key's text is known to its holder alone; here stands its SHA-256. The text holds 256 random
-- bits, so a slow hash would protect nothing and cost every request.
create table identity.api_keys (
    id text collate "C" primary key check (id ~ '^[0-9a-z]{8}$'),
    -- Whose key it is. Rotation makes a new key with the same owner, so that idempotency keys and
    -- orders stay with their sender.
    owner uuid not null,
    tenant integer not null,
    role text not null check (
        role in ('customer', 'partner', 'operator', 'analyst', 'auditor', 'admin')),
    -- Customer or partner that the key is bound to.
    subject uuid,
    label text not null check (length(label) <= 200),
    hash bytea not null check (length(hash) = 32),
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,       -- coarse: written at most once a minute
    check ((role in ('customer', 'partner')) = (subject is not null))
);
create index api_keys_by_tenant on identity.api_keys (tenant, created_at);

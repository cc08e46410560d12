-- The sandbox gateway's own books: another company's database, as it were. Nothing of Daybook
-- reads them but the gateway and the tests that compare.

create schema if not exists sandbox;

-- Every answer the gateway gave, by idempotency key: the same key gets the same answer for ever.
create table sandbox.answers (
    key text collate "C" primary key,
    request jsonb not null,             -- what was asked for, without the token
    answer jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);

-- Requests that were lost on the way, so that the second try arrives.
create table sandbox.lost (
    key text collate "C" primary key,
    created_at timestamptz not null default clock_timestamp()
);

-- Money taken or refused. `payment_id` is not unique on purpose: a caller that comes with two keys
-- is charged twice, as anywhere, and the tests must be able to see it.
create table sandbox.charges (
    id text collate "C" primary key,
    payment_id uuid not null,
    status text not null check (status in ('captured', 'declined')),
    amount bigint not null check (amount > 0),      -- minor units
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    reason text,                                    -- of a decline
    created_at timestamptz not null default clock_timestamp()
);
create index charges_by_payment on sandbox.charges (payment_id);

-- Money given back.
create table sandbox.refunds (
    id text collate "C" primary key,
    refund_id uuid not null,
    charge_id text collate "C" not null references sandbox.charges,
    amount bigint not null check (amount > 0),      -- minor units
    currency text not null,
    created_at timestamptz not null default clock_timestamp()
);
create index refunds_by_refund on sandbox.refunds (refund_id);
create index refunds_by_charge on sandbox.refunds (charge_id);

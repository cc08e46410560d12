-- One row a payment. Money is in minor units of `currency`.
create table read.payments (
    tenant integer not null,
    payment_id uuid not null,
    order_id uuid not null,
    customer_id uuid,
    -- open, unresolved (open, and a person must look), captured, declined
    status text not null,
    amount bigint not null,
    currency text not null,
    refunded bigint not null default 0,     -- given back, settled
    method text not null,                   -- gateway, or how it was settled elsewhere
    gateway text,
    gateway_payment_id text,
    reference text,
    reason text,
    attention text,                         -- what a person must look at
    requested_at timestamptz not null,
    deadline timestamptz,
    settled_at timestamptz,
    -- {refund_id: {amount, status, at, reason}}; status: open, settled, failed
    refunds jsonb not null default '{}',
    -- {dispute_id: {amount, currency, status, reason, at}}; status in the gateway's words
    disputes jsonb not null default '{}',
    primary key (tenant, payment_id)
);
create index on read.payments (tenant, requested_at, payment_id);
create index on read.payments (tenant, status, requested_at, payment_id);
create index on read.payments (tenant, order_id, requested_at, payment_id);
create index on read.payments (tenant, customer_id, requested_at, payment_id)
    where customer_id is not null;
create index on read.payments (tenant, requested_at, payment_id) where attention is not null;

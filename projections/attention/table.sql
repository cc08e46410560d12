-- One row an order that somebody still waits for: the shop for money, the customer for goods or
-- money, or both for a person. An order with nothing open has no row, and one that opens again
-- begins a new row from nothing, which is right because nothing was open.
-- Money is in minor units of `currency`.
create table read.attention (
    tenant integer not null,
    order_id uuid not null,
    customer_id uuid,
    currency text not null,
    balance bigint not null default 0,      -- kept - due: below 0 the customer owes, above it the shop
    refunding bigint not null default 0,    -- on its way back
    to_ship boolean not null default false, -- something was ordered and is not sent
    expires_at timestamptz,
    paid_since timestamptz,                 -- paid and still to be sent
    unpaid_since timestamptz,               -- sent and still to be paid
    -- {payment_id: amount} of payments under way
    payments jsonb not null default '{}',
    -- {id of payment, dispute or refund: {kind, payment_id, since, amount, text}};
    -- kind: unresolved, contradiction, dispute, refund_failed
    matters jsonb not null default '{}',
    since timestamptz,                      -- the oldest of them
    updated_at timestamptz not null,
    primary key (tenant, order_id)
);
create index on read.attention (tenant, since, order_id) where since is not null;
create index on read.attention (tenant, paid_since, order_id) where paid_since is not null;
create index on read.attention (tenant, unpaid_since, order_id) where unpaid_since is not null;
create index on read.attention (tenant, expires_at, order_id) where expires_at is not null;

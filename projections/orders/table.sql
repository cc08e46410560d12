-- One row an order. Money is in minor units of `currency`.
create table read.orders (
    tenant integer not null,
    order_id uuid not null,
    customer_id uuid,
    partner_id uuid,
    reference text,
    country text,
    currency text not null,
    -- placed, paid, partly_shipped, shipped, delivered, cancelled, expired
    status text not null,
    version integer not null,               -- of the order's stream, for If-Match
    total bigint not null default 0,
    credited bigint not null default 0,     -- cancelled, expired and returned lines, goodwill
    paid bigint not null default 0,         -- captured
    refunded bigint not null default 0,     -- given back, settled
    units bigint not null default 0,
    placed_at timestamptz not null,
    expires_at timestamptz,
    paid_at timestamptz,
    shipped_at timestamptz,                 -- the first shipment
    delivered_at timestamptz,
    closed_at timestamptz,                  -- cancelled or expired
    close_reason text,
    updated_at timestamptz not null,
    -- [{line, sku, name, quantity, unit_price, amount, shipped, returned, cancelled}]
    lines jsonb not null default '[]',
    -- {payment_id: {amount, status, at, reason}}; status: open, captured, closed
    payments jsonb not null default '{}',
    -- {refund_id: {payment_id, amount, status, at, reason}}; status: open, settled, failed
    refunds jsonb not null default '{}',
    -- [{shipment, shipped_at, lines: [{line, sku, quantity}]}]
    shipments jsonb not null default '[]',
    -- [{at, reason, credit, lines: [{line, sku, quantity, credit}]}], goodwill without lines
    credits jsonb not null default '[]',
    primary key (tenant, order_id)
);
create index on read.orders (tenant, placed_at, order_id);
create index on read.orders (tenant, customer_id, placed_at, order_id) where customer_id is not null;
create index on read.orders (tenant, partner_id, placed_at, order_id) where partner_id is not null;
create index on read.orders (tenant, reference) where reference is not null;

-- One row a customer and currency; orders of guests are nobody's. Money is in minor units of `currency`.
create table read.customers (
    tenant integer not null,
    customer_id uuid not null,
    currency text collate "C" not null,
    orders bigint not null default 0,           -- placed
    closed_orders bigint not null default 0,    -- of these, cancelled or expired
    sales bigint not null default 0,            -- totals of the orders placed
    returned bigint not null default 0,         -- credits of returned lines
    cancelled bigint not null default 0,        -- credits of cancelled and expired orders
    goodwill bigint not null default 0,         -- credits without a line
    value bigint not null default 0,            -- sales - returned - cancelled - goodwill
    paid bigint not null default 0,             -- captured, and recorded as settled elsewhere
    refunded bigint not null default 0,
    first_order_at timestamptz,
    last_order_at timestamptz,
    primary key (tenant, customer_id, currency)
);
-- Partial, so that neither can be taken for the key when rows are looked up while the table is young.
create index on read.customers (tenant, currency, value, customer_id) where last_order_at is not null;
create index on read.customers (tenant, last_order_at, customer_id, currency)
    where last_order_at is not null;

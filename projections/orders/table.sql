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
    shipping bigint not null default 0,
    tax bigint not null default 0,          -- beside the prices
    total bigint not null default 0,        -- lines, shipping and tax
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
    -- as placed: [{line, sku, name, quantity, unit_price, amount, tracked}]; how much of a line was
    -- shipped, returned and cancelled is worked out by read.order_lines when somebody looks
    lines jsonb not null default '[]',
    -- {payment_id: {amount, status, at, reason}}; status: open, captured, closed
    payments jsonb not null default '{}',
    -- {refund_id: {payment_id, amount, status, at, reason}}; status: open, settled, failed
    refunds jsonb not null default '{}',
    -- [{shipment, shipped_at, lines: [{line, sku, quantity}]}]
    shipments jsonb not null default '[]',
    -- [{kind, at, reason, credit, lines: [{line, sku, quantity, …}]}]; kind: cancelled, expired,
    -- returned, goodwill (without lines)
    credits jsonb not null default '[]',
    primary key (tenant, order_id)
);
create index on read.orders (tenant, placed_at, order_id);
create index on read.orders (tenant, customer_id, placed_at, order_id) where customer_id is not null;
create index on read.orders (tenant, partner_id, placed_at, order_id) where partner_id is not null;
create index on read.orders (tenant, reference) where reference is not null;

-- Lines as a frontend wants them: [{line, sku, name, quantity, unit_price, amount, shipped,
-- returned, cancelled}].
create or replace function read.order_lines(lines jsonb, shipments jsonb, credits jsonb)
returns jsonb language sql immutable parallel safe as $$
    with moved as (
        select m.line->>'line' as line, (m.line->>'quantity')::bigint as quantity, 'shipped' as how
            from jsonb_array_elements(shipments) as s (shipment)
            cross join jsonb_array_elements(s.shipment->'lines') as m (line)
        union all
        select m.line->>'line', (m.line->>'quantity')::bigint,
               case c.credit->>'kind' when 'returned' then 'returned' else 'cancelled' end
            from jsonb_array_elements(credits) as c (credit)
            cross join jsonb_array_elements(c.credit->'lines') as m (line)
    ), sums as (
        select line,
               sum(quantity) filter (where how = 'shipped') as shipped,
               sum(quantity) filter (where how = 'returned') as returned,
               sum(quantity) filter (where how = 'cancelled') as cancelled
            from moved group by line
    )
    select coalesce(jsonb_agg((l.line - 'tracked') || jsonb_build_object(
            'shipped', coalesce(s.shipped, 0),
            'returned', coalesce(s.returned, 0),
            'cancelled', coalesce(s.cancelled, 0)) order by l.place), '[]')
        from jsonb_array_elements(lines) with ordinality as l (line, place)
        left join sums s on s.line = l.line->>'line'
$$;

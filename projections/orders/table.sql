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
    -- position of the last change: no two orders share one, and it only ever grows, so whoever has
    -- read up to a position has seen every change up to it
    position bigint not null,
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
    -- [[at, event type, amount or, of a shipment, whether it completed the order]] in order; put into
    -- words by read.order_history when somebody looks
    history jsonb not null default '[]',
    primary key (tenant, order_id)
);
create index on read.orders (tenant, placed_at, order_id);
create index on read.orders (tenant, customer_id, placed_at, order_id) where customer_id is not null;
create index on read.orders (tenant, partner_id, placed_at, order_id) where partner_id is not null;
create index on read.orders (tenant, partner_id, status, placed_at, order_id)
    where partner_id is not null;
create index on read.orders (tenant, partner_id, position) where partner_id is not null;
create index on read.orders (tenant, status, placed_at, order_id);
create index on read.orders (tenant, reference) where reference is not null;

-- PostgreSQL can't fold the functions of lines and history into the query that calls them, and would
-- plan what they say anew at each call, were they in SQL or free to plan for the values at hand.

-- Lines as a frontend wants them: [{line, sku, name, quantity, unit_price, amount, shipped,
-- returned, cancelled}].
create or replace function read.order_lines(lines jsonb, shipments jsonb, credits jsonb)
returns jsonb language plpgsql immutable parallel safe set plan_cache_mode = force_generic_plan as $$
begin
    return (
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
    );
end $$;

-- An amount as people read it: GBP 15.30, JPY 1530. Minor units by ISO 4217.
create or replace function read.money(amount bigint, currency text)
returns text language sql immutable parallel safe as $$
    select currency || ' ' || case
        when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX',
                          'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF')
            then amount::text
        when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND')
            then round(amount / 1000.0, 3)::text
        else round(amount / 100.0, 2)::text end
$$;

-- The beginning of a name that takes at most so many bytes as JSON, and 28 characters.
create or replace function read.short(name text, bytes integer)
returns text language sql immutable parallel safe as $$
    select left(name, n) from generate_series(28, 0, -1) n
    where octet_length(to_jsonb(left(name, n))::text) <= bytes
    limit 1
$$;

-- An order's history in words: [{at, kind, text}]. Nothing of it is anybody's own text.
create or replace function read.order_history(history jsonb, currency text)
returns jsonb language plpgsql immutable parallel safe set plan_cache_mode = force_generic_plan as $$
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_object('at', w.at, 'kind', w.kind, 'text', w.text)
                                  order by w.place), '[]')
        from (
            select h.place, h.entry->0 as at, k.kind,
                   case k.kind
                   when 'placed' then 'Order placed: ' || m.money || '.'
                   when 'payment_opened' then 'Payment of ' || m.money || ' started.'
                   when 'payment_captured' then 'Payment of ' || m.money || ' received.'
                   when 'payment_failed' then 'Payment of ' || m.money || ' did not go through.'
                   when 'paid' then 'Order paid.'
                   when 'shipped' then case
                       when h.entry->2 <> 'true' then 'Part of the order sent.'
                       when h.shipment > 1 then 'Rest of the order sent.'
                       else 'Order sent.' end
                   when 'delivered' then 'Order delivered.'
                   when 'cancelled' then 'Order cancelled.'
                   when 'expired' then 'Order expired: it was not paid in time.'
                   when 'returned' then 'Goods returned: ' || m.money || ' credited.'
                   when 'credited' then m.money || ' credited as goodwill.'
                   when 'refund_opened' then 'Refund of ' || m.money || ' started.'
                   when 'refunded' then 'Refund of ' || m.money || ' made.'
                   when 'refund_failed' then 'Refund of ' || m.money || ' failed: the shop looks after it.'
                   end as text
            from (
                select place, entry,
                       count(*) filter (where entry->>1 = 'OrderShipped') over (order by place) as shipment
                from jsonb_array_elements(history) with ordinality as x (entry, place)
            ) h
            cross join lateral (
                select case h.entry->>1
                    when 'OrderPlaced' then 'placed'
                    when 'OrderPaymentOpened' then 'payment_opened'
                    when 'OrderPaymentCaptured' then 'payment_captured'
                    when 'OrderPaymentClosed' then 'payment_failed'
                    when 'OrderPaid' then 'paid'
                    when 'OrderShipped' then 'shipped'
                    when 'OrderDelivered' then 'delivered'
                    when 'OrderCancelled' then 'cancelled'
                    when 'OrderExpired' then 'expired'
                    when 'OrderItemsReturned' then 'returned'
                    when 'OrderCredited' then 'credited'
                    when 'OrderRefundOpened' then 'refund_opened'
                    when 'OrderRefundSettled' then 'refunded'
                    when 'OrderRefundFailed' then 'refund_failed' end
            ) k (kind)
            cross join lateral (
                select case when jsonb_typeof(h.entry->2) = 'number'
                            then read.money((h.entry->>2)::bigint, currency) end
            ) m (money)
        ) w
    );
end $$;

-- A shop's history of $ORDERS orders, about fourteen events each, for measurements: what the shop's
-- own commands would have written, but for the macs, made in bulk. Orders overlap: between placing
-- and delivering one lie thousands of events of others.
--
-- Numbers are drawn by hash, so the history is the same each time. Order n has the id
-- b0000000-0000-7000-8000-<n in twelve digits>, its products are the codes 100001, 100002, …

create temp table bench_order as
    select n, ('b0000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid as order_id,
           ('c0000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid as payment_id,
           ('d0000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid as refund_id,
           -- guests have no customer
           case when d.draw % 10 > 0
                then ('a0000000-0000-7000-8000-' || lpad((d.draw / 16 % ($ORDERS / 5 + 1))::text, 12, '0'))::uuid
                end as customer_id,
           (array['United Kingdom', 'France', 'Germany', 'EIRE', 'Spain', 'Netherlands', 'Belgium',
                  'Switzerland', 'Portugal', 'Australia', 'Norway', 'Italy'])
               [case when d.draw % 4 > 0 then 1 else 1 + d.draw / 8 % 12 end] as country,
           1 + d.draw / 32 % 5 as line_count,
           d.draw / 64 % 100 < 4 as expires,
           d.draw / 64 % 100 >= 94 as comes_back
    from generate_series(1, $ORDERS) n
    cross join lateral (select hashint4(n) & 2147483647 as draw) d;

create temp table bench_line as
    select o.n, l.line, 100001 + d.draw % 4000 as sku, 1 + d.draw / 4096 % 6 as quantity,
           100 + d.draw % 4000 % 1900 as price
    from bench_order o
    cross join lateral generate_series(1, o.line_count) l (line)
    cross join lateral (select hashint4(o.n * 7 + l.line) & 2147483647 as draw) d;

create temp table bench_sold as
    select n, sum(quantity * price)::bigint as goods,
           jsonb_agg(jsonb_build_object(
               'line', line, 'sku', sku::text, 'name', 'PRODUCT NUMBER ' || sku, 'quantity', quantity,
               'unit_price', price, 'amount', quantity * price, 'tracked', true) order by line) as lines,
           jsonb_agg(jsonb_build_object('line', line, 'sku', sku::text, 'quantity', quantity)
                     order by line) as moved,
           jsonb_agg(jsonb_build_object('line', line, 'sku', sku::text, 'quantity', quantity,
                                        'amount', quantity * price) order by line) as given_up
    from bench_line group by n;

-- `at` is a time in orders: order n is placed at n. Within one time, `step` gives the order.
create temp table bench_event (
    at numeric, step integer, stream text collate "C", type text collate "C", data jsonb
);

insert into bench_event
    select 0, 2 * sku, 'product-' || sku, 'ProductAdded', jsonb_build_object(
               'sku', sku::text, 'name', 'PRODUCT NUMBER ' || sku, 'price', 100 + (sku - 100001) % 1900,
               'currency', 'GBP', 'tracked', true)
        from generate_series(100001, 104000) sku
    union all
    select 0, 2 * sku + 1, 'stock-' || sku, 'StockReceived',
           jsonb_build_object('sku', sku::text, 'quantity', 1000000)
        from generate_series(100001, 104000) sku;

insert into bench_event
    with sale as (
        select o.*, s.*, 'order-' || o.order_id as stream, 'payment-' || o.payment_id as payment,
               s.goods + 395 as total,
               o.n + 1 + d.draw % 40 as asked_at,
               o.n + 300 + d.draw % 3000 as shipped_at,
               o.n + 3500 + d.draw / 64 % 3000 as delivered_at,
               o.n + 7000 + d.draw / 128 % 2000 as returned_at,
               jsonb_build_object('order_id', o.order_id) as the_order,
               jsonb_build_object('order_id', o.order_id, 'payment_id', o.payment_id,
                                  'amount', s.goods + 395, 'currency', 'GBP') as the_payment,
               jsonb_build_object('order_id', o.order_id, 'payment_id', o.payment_id,
                                  'refund_id', o.refund_id, 'amount', back.credit,
                                  'currency', 'GBP') as the_refund,
               jsonb_build_object('customer_id', o.customer_id) as who,
               back.*
        from bench_order o
        join (select n as sold_n, goods, lines, moved, given_up from bench_sold) s on s.sold_n = o.n
        -- one unit of the first line comes back
        join (select n as back_n, price as credit, sku::text as back_sku
              from bench_line where line = 1) back on back.back_n = o.n
        cross join lateral (select hashint4(o.n * 13) & 2147483647 as draw) d
    )
    select e.at, e.step, e.stream, e.type, e.data from sale s cross join lateral (values
        (s.n::numeric, 1, s.stream, 'OrderPlaced', s.the_order || s.who || jsonb_build_object(
            'partner_id', null, 'reference', 'R' || s.n, 'country', s.country, 'currency', 'GBP',
            'lines', s.lines, 'shipping', 395, 'tax', 0, 'total', s.total,
            'expires_at', '2027-01-01T00:00:00.000000Z'), true),
        (s.n + 45.0, 1, s.stream, 'OrderExpired', s.the_order || s.who || jsonb_build_object(
            'country', s.country, 'currency', 'GBP', 'lines', s.given_up, 'credit', s.total),
            s.expires),
        (s.asked_at, 1, s.stream, 'OrderPaymentOpened', s.the_payment, not s.expires),
        (s.asked_at, 2, s.payment, 'PaymentRequested', s.the_payment || s.who || jsonb_build_object(
            'gateway', 'sandbox', 'deadline', '2027-01-01T00:00:00.000000Z'), not s.expires),
        (s.asked_at + 0.1, 1, s.payment, 'PaymentIdentified', s.the_payment || s.who
            || jsonb_build_object('gateway', 'sandbox', 'gateway_payment_id', 'sb_' || s.n),
            not s.expires),
        (s.asked_at + 0.4, 1, s.payment, 'PaymentCaptured', s.the_payment || s.who
            || jsonb_build_object('gateway', 'sandbox', 'gateway_payment_id', 'sb_' || s.n),
            not s.expires),
        (s.asked_at + 0.4, 2, s.stream, 'OrderPaymentCaptured', s.the_payment
            || '{"expires_at": null}', not s.expires),
        (s.asked_at + 0.4, 3, s.stream, 'OrderPaid', s.the_order || s.who || jsonb_build_object(
            'country', s.country, 'total', s.total, 'currency', 'GBP'), not s.expires),
        (s.shipped_at, 1, s.stream, 'OrderShipped', s.the_order || s.who || jsonb_build_object(
            'shipment', 1, 'lines', s.moved, 'complete', true), not s.expires),
        (s.delivered_at, 1, s.stream, 'OrderDelivered', s.the_order || s.who, not s.expires),
        (s.returned_at, 1, s.stream, 'OrderItemsReturned', s.the_order || s.who || jsonb_build_object(
            'country', s.country, 'currency', 'GBP', 'credit', s.credit,
            'lines', jsonb_build_array(jsonb_build_object(
                'line', 1, 'sku', s.back_sku, 'quantity', 1, 'credit', s.credit))), s.comes_back),
        (s.returned_at, 2, 'stock-' || s.back_sku, 'StockReturned', s.the_order
            || jsonb_build_object('sku', s.back_sku, 'quantity', 1), s.comes_back),
        (s.returned_at, 3, s.stream, 'OrderRefundOpened', s.the_refund, s.comes_back),
        (s.returned_at, 4, s.payment, 'PaymentRefundRequested', s.the_refund
            || '{"reason": "returned"}', s.comes_back),
        (s.returned_at + 0.5, 1, s.payment, 'PaymentRefunded', s.the_refund || s.who
            || '{"settled_elsewhere": false}', s.comes_back),
        (s.returned_at + 0.5, 2, s.stream, 'OrderRefundSettled', s.the_refund, s.comes_back)
    ) e (at, step, stream, type, data, happens)
    where e.happens;

insert into bench_event
    select m.at, 10 + l.line, 'stock-' || l.sku, m.type,
           jsonb_build_object('sku', l.sku::text, 'order_id', o.order_id, 'quantity', l.quantity)
    from bench_order o
    join bench_line l using (n)
    cross join lateral (select hashint4(o.n * 13) & 2147483647 as draw) d
    cross join lateral (values
        (o.n::numeric, 'StockReserved', true),
        (o.n + 45.0, 'StockReleased', o.expires),
        (o.n + 300 + d.draw % 3000, 'StockShipped', not o.expires)
    ) m (at, type, happens)
    where m.happens;

insert into journal.events (position, occurred_at, recorded_at, tenant, version, schema_version,
                            stream, type, mac, data, meta)
    select position, time, time, 1, row_number() over (partition by stream order by position),
           case type when 'OrderPlaced' then 2 else 1 end, stream, type,
           decode('01' || repeat('00', 32), 'hex'), data,
           '{"key": "measured", "actor": "bench", "command": "Bench",
             "command_id": "0190c5a0-1111-7000-8000-000000000001",
             "correlation": "0190c5a0-1111-7000-8000-000000000001"}'
    from (select row_number() over (order by at, step, stream) as position,
                 '2025-01-01 00:00Z'::timestamptz + at * interval '5 minutes' as time, e.*
          from (select at, step, stream, type, data from bench_event
                -- what lies beyond the last order has not happened yet
                where at <= $ORDERS) e) e
    order by position;

drop table bench_order, bench_line, bench_sold, bench_event;

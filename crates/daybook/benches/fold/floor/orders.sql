-- What this history has: one payment, one shipment and at most one return an order. Grouped in the
-- order of the events, so that the history needs no sorting of its own.
select 1 as tenant, order_id::uuid, customer_id::uuid, null::uuid as partner_id, reference, country,
       currency, status, version, shipping, tax, total, credited, paid, refunded,
       (select coalesce(sum((l.line->>'quantity')::bigint), 0)::bigint
        from jsonb_array_elements(lines) l (line)) as units,
       placed_at, case when pending = 1 then expires_at::timestamptz end as expires_at, paid_at,
       shipped_at, delivered_at, closed_at, null::text as close_reason, updated_at, position, lines,
       payments, refunds, shipments, credits, history
from (
    select data->>'order_id' as order_id,
           max(data->>'customer_id') filter (where type = 'OrderPlaced') as customer_id,
           max(data->>'reference') as reference,
           max(data->>'country') filter (where type = 'OrderPlaced') as country,
           max(data->>'currency') filter (where type = 'OrderPlaced') as currency,
           (array['placed', 'paid', 'shipped', 'delivered', 'expired'])[max(case type
               when 'OrderPaid' then 2 when 'OrderShipped' then 3 when 'OrderDelivered' then 4
               when 'OrderExpired' then 5 else 1 end)] as status,
           max(version) as version,
           max((data->>'shipping')::bigint) as shipping,
           max((data->>'tax')::bigint) as tax,
           max((data->>'total')::bigint) filter (where type = 'OrderPlaced') as total,
           coalesce(sum((data->>'credit')::bigint), 0)::bigint as credited,
           coalesce(sum((data->>'amount')::bigint) filter (where type = 'OrderPaymentCaptured'), 0)::bigint as paid,
           coalesce(sum((data->>'amount')::bigint) filter (where type = 'OrderRefundSettled'), 0)::bigint as refunded,
           min(occurred_at) filter (where type = 'OrderPlaced') as placed_at,
           max(data->>'expires_at') as expires_at,
           count(*) as pending,
           min(occurred_at) filter (where type = 'OrderPaid') as paid_at,
           min(occurred_at) filter (where type = 'OrderShipped') as shipped_at,
           max(occurred_at) filter (where type = 'OrderDelivered') as delivered_at,
           max(occurred_at) filter (where type = 'OrderExpired') as closed_at,
           max(occurred_at) as updated_at,
           max(position) as position,
           (array_agg(data->'lines') filter (where type = 'OrderPlaced'))[1] as lines,
           coalesce(jsonb_object_agg(data->>'payment_id', jsonb_build_object(
                   'amount', data->'amount', 'at', occurred_at,
                   'status', case type when 'OrderPaymentOpened' then 'open' else 'captured' end))
               filter (where type in ('OrderPaymentOpened', 'OrderPaymentCaptured')), '{}') as payments,
           coalesce(jsonb_object_agg(data->>'refund_id', jsonb_build_object(
                   'payment_id', data->'payment_id', 'amount', data->'amount', 'at', occurred_at,
                   'status', case type when 'OrderRefundOpened' then 'open' else 'settled' end))
               filter (where type in ('OrderRefundOpened', 'OrderRefundSettled')), '{}') as refunds,
           coalesce(jsonb_agg(jsonb_build_object('shipment', data->'shipment',
                   'shipped_at', occurred_at, 'lines', data->'lines'))
               filter (where type = 'OrderShipped'), '[]') as shipments,
           coalesce(jsonb_agg(case type
                   when 'OrderExpired' then jsonb_build_object('kind', 'expired', 'at', occurred_at,
                       'reason', data->'reason', 'credit', data->'credit', 'lines', data->'lines')
                   else jsonb_build_object('kind', 'returned', 'at', occurred_at,
                       'credit', data->'credit', 'lines', data->'lines') end)
               filter (where type in ('OrderExpired', 'OrderItemsReturned')), '[]') as credits,
           jsonb_agg(jsonb_build_array(occurred_at, type, case
               when type in ('OrderPlaced', 'OrderPaid') then data->'total'
               when type = 'OrderShipped' then data->'complete'
               else coalesce(data->'credit', data->'amount') end)) as history
    from (select position, version, type, occurred_at, data from journal.events
          where tenant = 1 and type in (
              'OrderPlaced', 'OrderPaymentOpened', 'OrderPaymentCaptured', 'OrderPaymentClosed',
              'OrderPaid', 'OrderShipped', 'OrderDelivered', 'OrderCancelled', 'OrderExpired',
              'OrderItemsReturned', 'OrderCredited', 'OrderRefundOpened', 'OrderRefundSettled',
              'OrderRefundFailed')
          order by data->>'order_id', position) e
    group by data->>'order_id'
) o

select 1 as tenant, customer_id, currency, orders, closed_orders, sales, returned, cancelled, goodwill,
       sales - returned - cancelled - goodwill as value, paid, refunded, first_order_at, last_order_at
from (
    select (data->>'customer_id')::uuid as customer_id, (data->>'currency') collate "C" as currency,
           count(*) filter (where type = 'OrderPlaced') as orders,
           count(*) filter (where type in ('OrderCancelled', 'OrderExpired')) as closed_orders,
           coalesce(sum((data->>'total')::bigint) filter (where type = 'OrderPlaced'), 0)::bigint as sales,
           coalesce(sum((data->>'credit')::bigint) filter (where type = 'OrderItemsReturned'), 0)::bigint as returned,
           coalesce(sum((data->>'credit')::bigint) filter (where type in ('OrderCancelled', 'OrderExpired')), 0)::bigint as cancelled,
           coalesce(sum((data->>'credit')::bigint) filter (where type = 'OrderCredited'), 0)::bigint as goodwill,
           coalesce(sum((data->>'amount')::bigint) filter (where type in ('PaymentCaptured', 'PaymentRecorded')), 0)::bigint as paid,
           coalesce(sum((data->>'amount')::bigint) filter (where type = 'PaymentRefunded'), 0)::bigint as refunded,
           min(occurred_at) filter (where type = 'OrderPlaced') as first_order_at,
           max(occurred_at) filter (where type = 'OrderPlaced') as last_order_at
    from journal.events
    where tenant = 1 and data->>'customer_id' is not null
      and type in ('OrderPlaced', 'OrderItemsReturned', 'OrderCancelled', 'OrderExpired',
                   'OrderCredited', 'PaymentCaptured', 'PaymentRecorded', 'PaymentRefunded')
    group by 1, 2
) c

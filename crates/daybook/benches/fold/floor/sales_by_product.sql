select 1 as tenant, (l.line->>'sku') collate "C" as sku, (data->>'currency') collate "C" as currency,
       count(distinct position) filter (where type = 'OrderPlaced') as orders,
       coalesce(sum((l.line->>'quantity')::bigint) filter (where type = 'OrderPlaced'), 0)::bigint as units,
       coalesce(sum((l.line->>'amount')::bigint) filter (where type = 'OrderPlaced'), 0)::bigint as sales,
       coalesce(sum((l.line->>'quantity')::bigint) filter (where type = 'OrderItemsReturned'), 0)::bigint as returned_units,
       coalesce(sum((l.line->>'credit')::bigint) filter (where type = 'OrderItemsReturned'), 0)::bigint as returned,
       coalesce(sum((l.line->>'quantity')::bigint) filter (where type in ('OrderCancelled', 'OrderExpired')), 0)::bigint as cancelled_units,
       coalesce(sum((l.line->>'amount')::bigint) filter (where type in ('OrderCancelled', 'OrderExpired')), 0)::bigint as cancelled
from journal.events
cross join lateral jsonb_array_elements(data->'lines') as l (line)
where tenant = 1 and type in ('OrderPlaced', 'OrderItemsReturned', 'OrderCancelled', 'OrderExpired')
group by 2, 3

select 1 as tenant, day, currency,
       count(*) filter (where type = 'OrderPlaced') as orders,
       coalesce(sum(units) filter (where type = 'OrderPlaced'), 0)::bigint as units,
       coalesce(sum(amount) filter (where type = 'OrderPlaced'), 0)::bigint as sales,
       coalesce(sum(units) filter (where type = 'OrderItemsReturned'), 0)::bigint as returned_units,
       coalesce(sum(amount) filter (where type = 'OrderItemsReturned'), 0)::bigint as returned,
       coalesce(sum(units) filter (where type in ('OrderCancelled', 'OrderExpired')), 0)::bigint as cancelled_units,
       coalesce(sum(amount) filter (where type in ('OrderCancelled', 'OrderExpired')), 0)::bigint as cancelled,
       coalesce(sum(amount) filter (where type = 'OrderCredited'), 0)::bigint as goodwill
from (
    select type, (occurred_at at time zone 'UTC')::date as day,
           (data->>'currency') collate "C" as currency,
           coalesce(data->>'total', data->>'credit')::bigint as amount,
           (select sum((l.line->>'quantity')::bigint) from jsonb_array_elements(data->'lines') l (line)) as units
    from journal.events
    where tenant = 1 and type in ('OrderPlaced', 'OrderItemsReturned', 'OrderCancelled', 'OrderExpired', 'OrderCredited')
) e
group by day, currency

select 1 as tenant, (data->>'sku') collate "C" as sku,
       max(data->>'name') filter (where type = 'ProductAdded') as name,
       bool_or(type = 'ProductDiscontinued') as discontinued,
       coalesce(sum((data->>'quantity')::bigint) filter (where type in ('StockReceived', 'StockAdjusted', 'StockReturned')), 0)::bigint
           - coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockShipped'), 0)::bigint as on_hand,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockReserved'), 0)::bigint
           - coalesce(sum((data->>'quantity')::bigint) filter (where type in ('StockShipped', 'StockReleased')), 0)::bigint as reserved,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockReceived'), 0)::bigint as received,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockAdjusted'), 0)::bigint as adjusted,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockShipped'), 0)::bigint as shipped,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockReturned'), 0)::bigint as returned,
       max(occurred_at) as updated_at
from journal.events
where tenant = 1 and type in ('ProductAdded', 'ProductDiscontinued', 'StockReceived', 'StockAdjusted',
                              'StockReserved', 'StockReleased', 'StockShipped', 'StockReturned')
group by 2

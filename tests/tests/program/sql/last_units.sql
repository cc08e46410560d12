-- What two hundred orders left in the journal.
select count(*) filter (where type = 'OrderPlaced') as orders,
       coalesce(sum((data->>'quantity')::bigint) filter (where type = 'StockReserved'), 0)::bigint
           as reserved,
       count(*) filter (where stream like 'payment-%')
           + (select count(*) from journal.jobs where kind = 'charge_payment') as charged
from journal.events

-- How often each reference was placed, and as which order.
select data->>'reference', count(*), min(data->>'order_id')
from journal.events
where type = 'OrderPlaced'
group by 1

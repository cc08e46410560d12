-- Moments at which a product had less on hand than reserved, or less than nothing. Folded here
-- from the events alone, apart from the program's own arithmetic.
with change as (
    select tenant, stream, position,
           case type
               when 'StockReceived' then quantity when 'StockAdjusted' then quantity
               when 'StockShipped' then -quantity when 'StockReturned' then quantity else 0
           end as on_hand,
           case type
               when 'StockReserved' then quantity when 'StockReleased' then -quantity
               when 'StockShipped' then -quantity else 0
           end as reserved
    from (
        select tenant, stream, position, type, (data->>'quantity')::bigint as quantity
        from journal.events where stream like 'stock-%'
    ) e
), running as (
    select tenant, stream, position,
           sum(on_hand) over w as on_hand, sum(reserved) over w as reserved
    from change
    window w as (partition by tenant, stream order by position)
)
select format('%s at position %s: %s on hand, %s reserved', stream, position, on_hand, reserved)
from running
where on_hand < reserved or reserved < 0
limit 10

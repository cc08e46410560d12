-- For one small screen: five lines and the last thing that happened, at most 1 KB however long the
-- order and its names are. What is left out is counted; all of it is at /v1/web/orders/{order_id}.
select order_id, status, version, placed_at, expires_at, currency, total,
       greatest(total - credited - paid + refunded, 0) as due, units,
       (select jsonb_agg(jsonb_build_object(
                'name', read.short(l.line->>'name', 44),
                'quantity', l.line->'quantity',
                'amount', l.line->'amount') order by l.place)
        from jsonb_array_elements(lines) with ordinality as l (line, place)
        where l.place <= 5) as lines,
       greatest(jsonb_array_length(lines) - 5, 0) as more_lines,
       read.order_history(history, currency)->-1 as last,
       jsonb_array_length(history) - 1 as more_history
from read.orders
where tenant = :tenant and order_id = :order_id and customer_id = :customer_id

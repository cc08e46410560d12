-- A row a line, in the order of their orders' last change.
select o.order_id, (l.line->>'line')::integer as line, l.line->>'sku' as sku, l.line->>'name' as name,
       o.currency, (l.line->>'quantity')::bigint as quantity,
       (l.line->>'unit_price')::bigint as unit_price, (l.line->>'amount')::bigint as amount,
       (l.line->>'shipped')::bigint as shipped, (l.line->>'returned')::bigint as returned,
       (l.line->>'cancelled')::bigint as cancelled, o.position as change
from read.orders o
cross join lateral jsonb_array_elements(read.order_lines(o.lines, o.shipments, o.credits)) as l (line)
where o.tenant = :tenant and o.partner_id = :partner_id
  and (:after is null or o.position > :after)
  and (:order_id is null or o.order_id = :order_id)

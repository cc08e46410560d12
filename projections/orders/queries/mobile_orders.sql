-- For a list on a small screen: the first line's name stands for the order.
select order_id, placed_at, status, currency, total, units,
       read.short(lines->0->>'name', 44) as title,
       jsonb_array_length(lines) - 1 as more_lines
from read.orders
where tenant = :tenant and customer_id = :customer_id
  and (:status is null or status = :status)

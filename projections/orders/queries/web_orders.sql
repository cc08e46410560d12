select order_id, reference, status, currency, total, credited, paid, refunded, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at
from read.orders
where tenant = :tenant and customer_id = :customer_id
  and (:status is null or status = :status)
  and (:placed_from is null or placed_at >= :placed_from)
  and (:placed_until is null or placed_at < :placed_until)

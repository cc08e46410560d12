select order_id, reference, customer_id, status, currency, total, credited, paid, refunded, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at
from read.orders
where tenant = :tenant and partner_id = :partner_id
  and (:status is null or status = :status)

select order_id, reference, customer_id, partner_id, status, country, currency,
       total, credited, paid, refunded, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at
from read.orders
where tenant = :tenant
  and (:status is null or status = :status)
  and (:customer is null or customer_id = :customer)
  and (:reference is null or reference = :reference)

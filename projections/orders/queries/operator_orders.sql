select order_id, reference, customer_id, partner_id, status, country, currency,
       total, credited, paid, refunded, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at
from read.orders
where tenant = :tenant
  and (:status is null or status = :status)
  and (:customer is null or customer_id = :customer)
  and (:partner is null or partner_id = :partner)
  and (:reference is null or reference = :reference)
  and (:placed_from is null or placed_at >= :placed_from)
  and (:placed_until is null or placed_at < :placed_until)

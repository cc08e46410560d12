select order_id, reference, customer_id, status, version, country, currency, shipping, tax, total,
       credited, paid, refunded, greatest(total - credited - paid + refunded, 0) as due, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at, updated_at,
       position as change
from read.orders
where tenant = :tenant and partner_id = :partner_id
  and (:status is null or status = :status)
  and (:reference is null or reference = :reference)
  and (:placed_from is null or placed_at >= :placed_from)
  and (:placed_until is null or placed_at < :placed_until)

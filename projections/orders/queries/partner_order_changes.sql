-- Each order once, in the order of its last change. An order that changes while somebody pages
-- moves behind everything seen so far, so it is met again and nothing is missed.
select order_id, reference, customer_id, status, version, country, currency, shipping, tax, total,
       credited, paid, refunded, greatest(total - credited - paid + refunded, 0) as due, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at, updated_at,
       position as change
from read.orders
where tenant = :tenant and partner_id = :partner_id
  and (:after is null or position > :after)

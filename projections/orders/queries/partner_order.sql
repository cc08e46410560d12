-- The same columns as in the list; its lines are at /v1/partner/order-lines?order_id=…
select order_id, reference, customer_id, status, version, country, currency, shipping, tax, total,
       credited, paid, refunded, greatest(total - credited - paid + refunded, 0) as due, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at, updated_at,
       position as change
from read.orders
where tenant = :tenant and order_id = :order_id and partner_id = :partner_id

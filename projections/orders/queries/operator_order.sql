select order_id, reference, customer_id, partner_id, status, version, country, currency, shipping, tax, total, credited, paid, refunded,
       greatest(total - credited - paid + refunded, 0) as due, units,
       placed_at, expires_at, paid_at, shipped_at, delivered_at, closed_at, close_reason,
       read.order_lines(lines, shipments, credits) as lines,
       coalesce((select jsonb_agg(jsonb_build_object('payment_id', p.key) || p.value
                                  order by p.value->>'at', p.key)
                 from jsonb_each(payments) p), '[]') as payments,
       coalesce((select jsonb_agg(jsonb_build_object('refund_id', p.key) || p.value
                                  order by p.value->>'at', p.key)
                 from jsonb_each(refunds) p), '[]') as refunds,
       shipments, credits,
       read.order_history(history, currency) as history
from read.orders
where tenant = :tenant and order_id = :order_id

select payment_id, order_id, status, amount, currency, refunded, method, reason,
       requested_at, deadline, settled_at,
       coalesce((select jsonb_agg(jsonb_build_object('refund_id', f.key) || f.value
                                  order by f.value->>'at', f.key)
                 from jsonb_each(refunds) f), '[]') as refunds
from read.payments
where tenant = :tenant and payment_id = :payment_id and customer_id = :customer_id

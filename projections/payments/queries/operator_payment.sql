select payment_id, order_id, customer_id, status, amount, currency, refunded,
       method, gateway, gateway_payment_id, reference, reason, attention, requested_at, deadline, settled_at,
       coalesce((select jsonb_agg(jsonb_build_object('refund_id', f.key) || f.value
                                  order by f.value->>'at', f.key)
                 from jsonb_each(refunds) f), '[]') as refunds,
       coalesce((select jsonb_agg(jsonb_build_object('dispute_id', d.key) || d.value
                                  order by d.value->>'at', d.key)
                 from jsonb_each(disputes) d), '[]') as disputes
from read.payments
where tenant = :tenant and payment_id = :payment_id

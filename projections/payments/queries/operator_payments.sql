select payment_id, order_id, customer_id, status, amount, currency, refunded, method, reference,
       reason, requested_at, settled_at
from read.payments
where tenant = :tenant and (:status is null or status = :status)

select payment_id, order_id, customer_id, status, amount, currency, refunded, method, reference,
       reason, attention, requested_at, settled_at
from read.payments
where tenant = :tenant and (:status is null or status = :status)
  and (:attention is null or (attention is not null) = :attention)

select payment_id, order_id, customer_id, status, amount, currency, refunded, method, reference,
       reason, attention, requested_at, settled_at
from read.payments
where tenant = :tenant
  and (:status is null or status = :status)
  and (:attention is null or (attention is not null) = :attention)
  and (:order_id is null or order_id = :order_id)
  and (:customer is null or customer_id = :customer)
  and (:requested_from is null or requested_at >= :requested_from)
  and (:requested_until is null or requested_at < :requested_until)

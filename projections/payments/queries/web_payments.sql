select payment_id, order_id, status, amount, currency, refunded, method, reason,
       requested_at, deadline, settled_at
from read.payments
where tenant = :tenant and customer_id = :customer_id
  and (:order_id is null or order_id = :order_id)

select order_id, customer_id, expires_at, currency, -balance as due
from read.attention
where tenant = :tenant and expires_at is not null
  and (:before is null or expires_at < :before)

select order_id, customer_id, unpaid_since, currency, -balance as due,
       payments <> '{}' as payment_under_way
from read.attention
where tenant = :tenant and unpaid_since is not null
  and (:unpaid_before is null or unpaid_since < :unpaid_before)

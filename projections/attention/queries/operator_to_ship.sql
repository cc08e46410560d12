select order_id, customer_id, paid_since, since is not null as needs_a_person
from read.attention
where tenant = :tenant and paid_since is not null
  and (:paid_before is null or paid_since < :paid_before)

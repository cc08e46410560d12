select customer_id, currency, value, orders, closed_orders, sales, returned, cancelled, goodwill, paid, refunded,
       first_order_at, last_order_at
from read.customers
where tenant = :tenant and customer_id = :customer

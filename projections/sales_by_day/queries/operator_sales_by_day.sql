select day, currency, orders, units, sales, returned_units, returned,
       cancelled_units, cancelled, goodwill, sales - returned - cancelled - goodwill as net
from read.sales_by_day
where tenant = :tenant
  and (:from is null or day >= :from)
  and (:until is null or day <= :until)
  and (:currency is null or currency = :currency)

-- An order without a country is counted under '' (an empty name).
select country, currency, orders, units, sales, returned_units, returned,
       cancelled_units, cancelled, goodwill, sales - returned - cancelled - goodwill as net
from read.sales_by_country
where tenant = :tenant
  and (:country is null or country = :country)
  and (:currency is null or currency = :currency)

select sku, currency, orders, units, sales, returned_units, returned,
       cancelled_units, cancelled, sales - returned - cancelled as net
from read.sales_by_product
where tenant = :tenant and (:sku is null or sku = :sku)
  and (:currency is null or currency = :currency)

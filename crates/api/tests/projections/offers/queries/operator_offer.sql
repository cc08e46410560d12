select sku, name, price, was from read.offers where tenant = :tenant and sku = :sku

select sku, price, was, name, history from read.offers where tenant = :tenant

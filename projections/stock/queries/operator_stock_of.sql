select sku, name, discontinued, on_hand, reserved, on_hand - reserved as available,
       received, adjusted, shipped, returned, updated_at
from read.stock
where tenant = :tenant and sku = :sku

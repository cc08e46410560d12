select sku, name, discontinued, on_hand, reserved, on_hand - reserved as available,
       received, adjusted, shipped, returned, updated_at
from read.stock
where tenant = :tenant
  and (:available_below is null or on_hand - reserved < :available_below)

select o.sku, n.sku as next_sku, array[o.price, n.price] as prices
from read.offers o
left join read.offers n on n.tenant = o.tenant and n.sku > o.sku
    and not exists (select from read.offers b
                    where b.tenant = o.tenant and b.sku > o.sku and b.sku < n.sku)
where o.tenant = :tenant

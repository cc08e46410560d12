-- Every installed projection for every tenant, with the tenant's head.
select d.projection, t.tenant, t.name, coalesce(c.position, 0), h.head, c.error::text, c.updated_at
from projection.definitions d
cross join journal.tenants t
cross join lateral (
    select coalesce((select e.position from journal.events e where e.tenant = t.tenant
                     order by e.position desc limit 1), 0) as head) h
left join projection.checkpoints c on c.projection = d.projection and c.tenant = t.tenant
order by d.projection, t.tenant

-- Every version of every projection for every tenant, with the tenant's head.
select v.projection, v.version, v.state, t.tenant, t.name, coalesce(c.position, 0), h.head,
       c.error::text, c.updated_at,
       (select count(*) from projection.parked p where p.projection = v.projection
          and p.version = v.version and p.tenant = t.tenant)
from projection.versions v
cross join journal.tenants t
cross join lateral (
    select coalesce((select e.position from journal.events e where e.tenant = t.tenant
                     order by e.position desc limit 1), 0) as head) h
left join projection.checkpoints c
    on c.projection = v.projection and c.version = v.version and c.tenant = t.tenant
order by v.projection, array_position(array['active', 'building', 'retired'], v.state), v.made_at,
         v.version, t.tenant

-- Every version of every projection for every tenant: numbers, names and heads are given.
select v.projection, v.version, v.state, t.tenant, t.name, coalesce(c.position, 0), t.head,
       c.error::text, c.updated_at,
       (select count(*) from projection.parked p where p.projection = v.projection
          and p.version = v.version and p.tenant = t.tenant)
from projection.versions v
cross join unnest($1::integer[], $2::text[], $3::bigint[]) as t (tenant, name, head)
left join projection.checkpoints c
    on c.projection = v.projection and c.version = v.version and c.tenant = t.tenant
order by v.projection, array_position(array['active', 'building', 'retired'], v.state), v.made_at,
         v.version, t.tenant

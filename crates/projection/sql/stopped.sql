-- Versions that something has stopped for a tenant.
select c.projection, c.version, v.state, c.tenant, c.position, c.error::text
from projection.checkpoints c
join projection.versions v using (projection, version)
where c.error is not null
order by c.projection, c.version, c.tenant

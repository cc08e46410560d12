-- Tenants whose positions are not 1, 2, 3, …
select format('tenant %s: %s events, head %s', tenant, count(*), max(position))
from journal.events
group by tenant
having count(*) <> max(position) or min(position) <> 1

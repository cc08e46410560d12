-- Every key of a tenant, ended ones included, oldest first.
select id, owner, role, subject, label, created_at, expires_at, revoked_at, last_used_at
from identity.api_keys
where tenant = $1
order by created_at, id

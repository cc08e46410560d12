-- The key as it may be used now; the hash is compared by the caller, in constant time.
select tenant, owner, role, subject, hash,
       coalesce(last_used_at < clock_timestamp() - interval '1 minute', true) as unnoted
from identity.api_keys
where id = $1
  and revoked_at is null
  and (expires_at is null or expires_at > clock_timestamp())

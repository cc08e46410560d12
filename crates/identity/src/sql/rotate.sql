-- A successor with the same owner and rights, while the old key's end is brought forward. One
-- statement, so that there is never a successor without an end. A key that has ended has none.
with old as (
    update identity.api_keys
    set expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $4))
    where id = $1
      and revoked_at is null
      and (expires_at is null or expires_at > clock_timestamp())
    returning owner, tenant, role, subject, label
)
insert into identity.api_keys (id, owner, tenant, role, subject, label, hash)
select $2, owner, tenant, role, subject, label, $3 from old
returning owner

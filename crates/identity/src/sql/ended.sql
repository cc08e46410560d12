-- Of these keys, those that can't be used any more.
select wanted.id
from unnest($1::text[]) as wanted (id)
where not exists (
    select from identity.api_keys k
    where k.id = wanted.id
      and k.revoked_at is null
      and (k.expires_at is null or k.expires_at > clock_timestamp())
)

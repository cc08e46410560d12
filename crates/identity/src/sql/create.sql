-- A new key; nothing where its random id is taken, so that the caller draws another.
insert into identity.api_keys (id, owner, tenant, role, subject, label, hash)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do nothing

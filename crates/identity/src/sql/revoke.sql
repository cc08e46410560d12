-- Ends a key for good; the first time stays.
update identity.api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = $1

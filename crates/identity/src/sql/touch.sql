update identity.api_keys set last_used_at = clock_timestamp() where id = $1

-- For the next statement of this connection: the tenant whose rows it sees, names that mean what
-- they say, times in UTC, an end, one snapshot, and no writing.
select pg_catalog.set_config('daybook.tenant', $1::integer::text, false),
       pg_catalog.set_config('search_path', 'pg_catalog', false),
       pg_catalog.set_config('timezone', 'UTC', false),
       pg_catalog.set_config('statement_timeout', '10000', false),
       pg_catalog.set_config('default_transaction_isolation', 'repeatable read', false),
       pg_catalog.set_config('default_transaction_read_only', 'on', false)

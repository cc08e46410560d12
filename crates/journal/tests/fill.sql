-- As many events as $1 says, straight into an empty journal: every hundredth in the same stream,
-- contents of about $2 bytes, a type of its own for one in ten thousand.
insert into journal.events (position, occurred_at, recorded_at, tenant, version, schema_version,
                            stream, type, mac, data, meta)
select n, timestamptz '2026-01-01', timestamptz '2026-01-01', 1, (n - 1) / 100 + 1, 1,
       'account-' || lpad(((n - 1) % 100)::text, 2, '0'),
       case when n % 10000 = 0 then 'Rare' else 'Moved' end,
       decode(repeat('00', 33), 'hex'),
       jsonb_build_object('by', n, 'text', repeat('x', $2::integer)),
       jsonb_build_object('correlation', md5(n::text)::uuid)
from generate_series(1, $1::integer) n

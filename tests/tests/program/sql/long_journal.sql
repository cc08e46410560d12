-- So many events of about 2 kB, straight into an empty journal.
insert into journal.events (position, occurred_at, recorded_at, tenant, version, schema_version,
                            stream, type, mac, data, meta)
select n, timestamptz '2026-01-01', timestamptz '2026-01-01', 1, n::integer, 1, 'stock-MUG',
       'StockReceived', decode(repeat('00', 33), 'hex'),
       jsonb_build_object('sku', 'MUG', 'quantity', 1, 'text', repeat('x', 2000)),
       jsonb_build_object('actor', 'test')
from generate_series(1, $1::bigint) n

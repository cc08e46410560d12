-- Events $2 to $3 of tenant $1 as some writer could have written them; $4 tells histories apart.
insert into journal.events
    (tenant, position, stream, version, type, schema_version, data, meta, occurred_at,
     recorded_at, mac)
select $1, p, 'order-' || p, 1, (array['OrderPlaced', 'OrderPaid'])[1 + p % 2], 1,
       jsonb_build_object('order_id', p, 'note', 'Größe 🦀 "' || repeat('x', (p % 300)::integer)),
       jsonb_build_object('actor', 'test', 'command_id', p),
       timestamptz '2010-12-01 08:26:00.000001+00' + p * interval '1 second',
       timestamptz '2026-01-01 00:00:00.123456+00' + p * interval '1 microsecond',
       set_byte(decode(lpad(to_hex(p), 66, '0'), 'hex'), 0, $4)
from generate_series($2::bigint, $3::bigint) p

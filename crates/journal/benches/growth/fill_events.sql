-- Events $1 + 1 to $2 as the writer of the measurements writes them, but for their streams, which
-- come in no order: four events each, the later ones a quarter of a million events after the first.
insert into journal.events (position, occurred_at, recorded_at, tenant, version, schema_version,
                            stream, type, mac, data, meta)
select n + 1, now(), now(), 1, (n % 250000) / 62500 + 1, 1,
       'order-' || md5((n / 250000 * 62500 + n % 62500)::text)::uuid, 'Noted',
       decode('01' || md5(n::text) || md5('mac' || n), 'hex'),
       '{"order_id": "0190c5a0-1111-7000-8000-000000000001",
         "lines": [{"sku": "85123A", "quantity": 6, "unit_price": 255},
                   {"sku": "71053", "quantity": 6, "unit_price": 339},
                   {"sku": "84406B", "quantity": 8, "unit_price": 275},
                   {"sku": "84029G", "quantity": 6, "unit_price": 339}],
         "total": 7798, "currency": "GBP", "country": "United Kingdom"}'::jsonb,
       jsonb_build_object(
           'actor', 'key:0190c5a0-2222-7000-8000-000000000001', 'command', 'Note',
           'command_id', md5('command' || n)::uuid, 'correlation', md5('correlation' || n)::uuid,
           'key', md5('key' || n)::uuid)
from generate_series($1::bigint, $2::bigint - 1) n

-- What is remembered of the commands that appended events $1 + 1 to $2: one each, kept for 30 days.
insert into journal.commands (tenant, position, recorded_at, expires_at, principal, key, fingerprint,
                              outcome)
select 1, n + 1, now(), now() + interval '30 days',
       'key:0190c5a0-2222-7000-8000-000000000001', md5('key' || n)::uuid::text,
       decode(md5(n::text) || md5('fingerprint' || n), 'hex'),
       jsonb_build_object('accepted', jsonb_build_object(
           'open', false, 'result', '{}'::jsonb, 'streams', jsonb_build_array(jsonb_build_array(
               'order-' || md5((n / 250000 * 62500 + n % 62500)::text)::uuid,
               (n % 250000) / 62500 + 1))))
from generate_series($1::bigint, $2::bigint - 1) n

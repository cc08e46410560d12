-- Keys and jobs of which two have expired by the default settings.
insert into journal.commands
    (tenant, recorded_at, expires_at, principal, key, fingerprint, outcome)
select 1, now(), expires_at, 'somebody', key, decode(repeat('00', 32), 'hex'), '{}'
from (values ('expired', now() - interval '1 second'), ('still kept', now() + interval '1 hour'),
             ('kept for ever', null)) as command (key, expires_at);
insert into journal.jobs (id, tenant, position, run_at, kind, payload, state, ended_at)
select gen_random_uuid(), 1, 1, now(), 'unheard_of', jsonb_build_object('name', name), state,
       now() - ago
from (values ('done long ago', 'done', interval '31 days'),
             ('done lately', 'done', interval '29 days'),
             ('dead long ago', 'dead', interval '1 year')) as job (name, state, ago);

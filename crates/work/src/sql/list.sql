-- Jobs for a person to look at, newest first. The secret is never shown, only whether there is one.
-- $1 state: waiting, running, dead, done, or null for all that have not been done; $2 kind;
-- $3 tenant; $4 how many at most; $5 one job.
select
    id, tenant, position, kind, payload, sealed is not null as has_secret, attempts, last_error,
    case when state = 'waiting' and leased_until > statement_timestamp() then 'running'
         else state end as state,
    run_at, leased_until, created_at, ended_at
from journal.jobs
where case
        when $5::uuid is not null then id = $5
        when $1::text is null then state <> 'done'
        when $1 = 'running' then state = 'waiting' and leased_until > statement_timestamp()
        when $1 = 'waiting' then state = 'waiting'
             and (leased_until is null or leased_until <= statement_timestamp())
        else state = $1
      end
  and ($2::text is null or kind = $2)
  and ($3::integer is null or tenant = $3)
order by created_at desc, id
limit $4;

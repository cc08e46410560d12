-- Takes up to $1 due jobs of the kinds $2 for $3 milliseconds each, every one under a lease of its
-- own, and says when the next one becomes due. There is always at least one row: where nothing was
-- claimed its id is null.
-- statement_timestamp() is stable, so the index on run_at finds what is due without reading the
-- jobs of the future; the clock is the database's, like that of every lease.
with due as (
    select id
    from journal.jobs
    where state = 'waiting'
      and run_at <= statement_timestamp()
      and (leased_until is null or leased_until <= statement_timestamp())
      and kind = any ($2)
    order by run_at
    limit $1
    for update skip locked
),
claimed as (
    update journal.jobs job
    set lease = gen_random_uuid(),
        leased_until = clock_timestamp() + $3 * interval '1 millisecond',
        attempts = job.attempts + 1
    from due
    where job.id = due.id
    returning job.*
),
next_due as (
    select ceil(extract(epoch from run_at - statement_timestamp()) * 1000)::bigint as in_ms
    from journal.jobs
    where state = 'waiting' and run_at > statement_timestamp()
    order by run_at
    limit 1
)
select
    (select in_ms from next_due) as next_due_in_ms,
    claimed.id,
    claimed.tenant,
    claimed.position,
    claimed.kind,
    claimed.payload,
    claimed.sealed,
    claimed.attempts,
    claimed.lease,
    clock_timestamp() as claimed_at,
    greatest(0, extract(epoch from clock_timestamp() - claimed.created_at) * 1000)::bigint as age_ms,
    greatest(0, extract(epoch from clock_timestamp() - claimed.run_at) * 1000)::bigint as late_ms,
    -- What caused the job, to be handed on to the command that it ends in.
    cause.meta ->> 'correlation' as correlation,
    cause.meta ->> 'traceparent' as traceparent
from (select 1) as always
left join claimed on true
left join journal.events cause
    on cause.tenant = claimed.tenant and cause.position = claimed.position
order by claimed.run_at, claimed.id;

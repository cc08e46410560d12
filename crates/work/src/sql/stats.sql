-- Unfinished work by kind, through the index on unfinished jobs.
select
    kind,
    count(*) filter (where state = 'waiting'
        and (leased_until is null or leased_until <= statement_timestamp())) as waiting,
    count(*) filter (where state = 'waiting'
        and leased_until > statement_timestamp()) as running,
    count(*) filter (where state = 'waiting' and attempts > 0 and last_error is not null
        and (leased_until is null or leased_until <= statement_timestamp())) as failed,
    count(*) filter (where state = 'dead') as dead,
    (extract(epoch from statement_timestamp() - min(run_at) filter (where state = 'waiting'
        and run_at <= statement_timestamp())) * 1000)::bigint as oldest_due_ms
from journal.jobs
where state <> 'done'
group by kind
order by kind;

-- Ends a job whose result is recorded; its secret goes. Nothing happens when the lease is another's.
update journal.jobs
set state = 'done', sealed = null, lease = null, leased_until = null, last_error = null,
    ended_at = clock_timestamp()
where id = $1 and lease = $2 and state = 'waiting';

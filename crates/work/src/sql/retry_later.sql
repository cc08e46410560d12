-- Gives a failed job back, due again in $3 milliseconds, if the lease is still the holder's.
update journal.jobs
set run_at = clock_timestamp() + $3 * interval '1 millisecond',
    lease = null, leased_until = null, last_error = $4
where id = $1 and lease = $2 and state = 'waiting';

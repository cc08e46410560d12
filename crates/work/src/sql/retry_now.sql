-- An operator's retry: a dead letter starts over, a job that waits after a failure runs now. A job
-- that is running, done, or waiting for its time is left alone.
update journal.jobs
set state = 'waiting', run_at = clock_timestamp(), attempts = 0, ended_at = null,
    lease = null, leased_until = null
where id = $1
  and (state = 'dead'
       or (state = 'waiting' and attempts > 0
           and (leased_until is null or leased_until <= clock_timestamp())));

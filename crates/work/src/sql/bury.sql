-- Makes a job a dead letter: a person decides. Its secret goes, so it can never charge again.
update journal.jobs
set state = 'dead', sealed = null, lease = null, leased_until = null, last_error = $3,
    ended_at = clock_timestamp()
where id = $1 and lease = $2 and state = 'waiting';

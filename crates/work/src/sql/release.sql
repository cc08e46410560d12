-- Gives an untried or interrupted job back at once, as if it had not been claimed.
update journal.jobs
set lease = null, leased_until = null, attempts = attempts - 1
where id = $1 and lease = $2 and state = 'waiting';

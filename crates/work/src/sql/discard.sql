-- An operator's word that a dead letter needs nothing more. What it died of is kept, and from now on
-- it counts as any job that is done.
update journal.jobs
set state = 'done', last_error = left('discarded: ' || coalesce(last_error, ''), $2),
    ended_at = clock_timestamp()
where id = $1 and state = 'dead';

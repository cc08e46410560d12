-- An operator's word that a dead letter needs nothing more. What it died of is kept.
update journal.jobs
set state = 'done', last_error = left('discarded: ' || coalesce(last_error, ''), $2)
where id = $1 and state = 'dead';

-- Prolongs a lease by $3 milliseconds from now, if it is still the holder's.
update journal.jobs
set leased_until = clock_timestamp() + $3 * interval '1 millisecond'
where id = $1 and lease = $2 and state = 'waiting';

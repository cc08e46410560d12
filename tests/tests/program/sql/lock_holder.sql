-- The backend of a writer that holds a tenant's lock and waits for its client to go on.
select activity.pid, activity.state_change::text
from pg_stat_activity activity
join pg_locks locks on locks.pid = activity.pid
where activity.datname = current_database()
  and activity.application_name = 'daybook writer'
  and activity.state = 'idle in transaction'
  and locks.locktype = 'advisory' and locks.granted and locks.classid = 1684107371
limit 1

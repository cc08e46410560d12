-- A writer's backend that has committed and waits for the standby to have it.
select pid
from pg_stat_activity
where datname = current_database() and application_name = 'daybook writer'
  and wait_event = 'SyncRep' and position($1 in query) > 0
limit 1

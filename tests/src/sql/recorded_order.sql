-- Events recorded before their predecessor.
select format('position %s', position)
from (
    select position, recorded_at,
           lag(recorded_at) over (partition by tenant order by position) as before
    from journal.events
) e
where recorded_at < before
limit 10

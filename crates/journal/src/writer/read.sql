-- One snapshot of what a writer lacks: the tail from its head on ($2, the head's own event
-- included, to compare its mac), at most to $3; and the older events of the streams in $4.
select position, stream, version, type, journal.current_version(type, schema_version),
       journal.upcast(type, schema_version, data)::text, mac, recorded_at
from journal.events
where tenant = $1 and position between $2 and $3
union all
select position, stream, version, type, journal.current_version(type, schema_version),
       journal.upcast(type, schema_version, data)::text, mac, recorded_at
from journal.events
where tenant = $1 and stream = any ($4) and position < $2
order by position

-- What was appended behind position $2, that event itself included to compare its mac; up to $3.
select position, stream, version, type, journal.current_version(type, schema_version),
       journal.upcast(type, schema_version, data)::text, mac, recorded_at
from journal.events
where tenant = $1 and position between $2 and $3
order by tenant, position

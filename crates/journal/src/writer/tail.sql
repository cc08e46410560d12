-- What was appended behind position $2, that event itself included to compare its mac; up to $3.
-- A stream's first event comes without its data: hardly any writer has a stream in memory that it
-- knows to be empty, and one that has reads it anew.
select position, stream, version, type, journal.current_version(type, schema_version),
       case when version > 1 then journal.upcast(type, schema_version, data)::text end,
       mac, recorded_at
from journal.events
where tenant = $1 and position between $2 and $3
order by tenant, position

-- Events of a stream from version $3 down, newest first, at most $4.
select tenant, position, stream, version, type, schema_version, data::text, meta::text,
       occurred_at, recorded_at, mac
from journal.events
where tenant = $1 and stream = $2 and version <= $3
order by version desc limit $4

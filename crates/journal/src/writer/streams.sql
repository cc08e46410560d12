-- The streams in $2 as one snapshot has them: of each, its snapshot (a row without a type) where
-- there is one of fingerprint $3 and incarnation $4 (but none of those in $5), and the events behind
-- it. One index scan a stream, whatever the planner thinks of an empty table.
with wanted as materialized (
    select w.stream, s.version, s.position, s.mac, s.state
    from unnest($2::text[]) as w (stream)
    left join lateral (
        select * from journal.snapshots s
        where s.tenant = $1 and s.stream = w.stream and s.fingerprint = $3 and s.incarnation = $4
          and w.stream <> all ($5::text[])
    ) s on true
)
select position, stream, version, null as type, null::smallint as schema_version, null as data,
       mac, state
from wanted where state is not null
union all
select e.position, e.stream, e.version, e.type,
       journal.current_version(e.type, e.schema_version),
       journal.upcast(e.type, e.schema_version, e.data)::text, null, null
from wanted w
cross join lateral (
    select * from journal.events e
    where e.tenant = $1 and e.stream = w.stream and e.version > coalesce(w.version, 0)
    order by e.tenant, e.stream, e.version
) e

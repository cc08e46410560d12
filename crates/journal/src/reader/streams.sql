-- Names of streams with their ends, by a loose scan of the index (tenant, stream, version): from
-- each name straight to the next one, so that a long stream costs no more than a short one.
-- $1 tenant, $2 prefix, $3 the name to begin after, $4 how many.
with recursive names as (
    (
        select stream from journal.events
        where tenant = $1 and stream >= $2 and stream > $3
        order by stream limit 1
    )
    union all
    select next.stream
    from names
    cross join lateral (
        select e.stream from journal.events e
        where e.tenant = $1 and e.stream > names.stream
        order by e.stream limit 1
    ) next
    -- Names with the same beginning are neighbours: the first other one ends the scan.
    where starts_with(names.stream, $2)
)
select names.stream, last.version, last.position, last.recorded_at
from names
cross join lateral (
    select e.version, e.position, e.recorded_at from journal.events e
    where e.tenant = $1 and e.stream = names.stream
    order by e.version desc limit 1
) last
where starts_with(names.stream, $2)
limit $4

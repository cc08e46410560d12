-- Streams whose versions are not 1, 2, 3, … in order of position.
select format('%s: version %s at position %s', stream, version, position)
from (
    select *, row_number() over (partition by tenant, stream order by position) as expected
    from journal.events
) e
where version <> expected
limit 10

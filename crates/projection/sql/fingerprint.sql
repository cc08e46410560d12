-- The same text for as long as no version is made, changed, switched or dropped.
select coalesce(string_agg(concat_ws('/', projection, version, state, automatic, changed_at), ' '
                           order by projection, version), '')
from projection.versions

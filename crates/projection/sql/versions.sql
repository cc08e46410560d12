-- Every version with its definition, by projection, the active one first.
select projection, version, definition::text, upcasters, state, automatic, engine
from projection.versions
order by projection, array_position(array['active', 'building', 'retired'], state), made_at, version

-- Who we are; whether we are the owner of the read models or could become it; and whether we may
-- enter schema $1. No row: there are no read models.
select current_user::text,
       pg_has_role(c.relowner, 'member'),
       coalesce(has_schema_privilege(to_regnamespace($1), 'usage'), false)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'projection' and c.relname = 'versions'

-- Who we are; whether we could change events: by a right, as the owner, or by becoming it (a
-- superuser can do all three); and whether we may enter schema $1. No row: there is no journal.
select current_user::text,
       has_table_privilege(c.oid, 'update, delete, truncate')
           or has_any_column_privilege(c.oid, 'update')
           or pg_has_role(c.relowner, 'member'),
       coalesce(has_schema_privilege(to_regnamespace($1), 'usage'), false)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'journal' and c.relname = 'events'

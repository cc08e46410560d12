-- Functions outside PostgreSQL's own schemas, and which of the roles $1 of database $2 may execute
-- each.
select format('%I.%I', n.nspname, p.proname),
       array(select role from unnest($1::text[]) as role
             where has_function_privilege($2 || '_' || role, p.oid, 'execute') order by role)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname !~ '^(pg_|information_schema$)'

-- Relations outside PostgreSQL's own schemas: name, kind, columns by name.
select format('%I.%I', n.nspname, c.relname), c.relkind::text,
       coalesce((select array_agg(quote_ident(a.attname) order by a.attname) from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and n.nspname !~ '^(pg_|information_schema$)'

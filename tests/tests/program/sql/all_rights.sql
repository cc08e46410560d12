-- Every right that anybody has, as one text.
select string_agg(line, e'\n' order by line)
from (
    select format('%s %s', c.oid::regclass, acl) as line
    from pg_class c cross join unnest(c.relacl) as acl
    union all
    select format('%s.%s %s', a.attrelid::regclass, a.attname, acl)
    from pg_attribute a cross join unnest(a.attacl) as acl
    union all
    select format('%s %s %s %s', p.oid::regprocedure, acl, p.prosecdef, p.proconfig)
    from pg_proc p cross join unnest(p.proacl) as acl
    union all
    select format('%s %s', n.nspname, acl) from pg_namespace n cross join unnest(n.nspacl) as acl
    union all
    select format('%s %s', d.datname, acl) from pg_database d cross join unnest(d.datacl) as acl
    where d.datname = current_database()
    union all
    select format('%s %s %s', d.defaclnamespace, d.defaclobjtype, acl)
    from pg_default_acl d cross join unnest(d.defaclacl) as acl
) as rights

-- Bytes of the tables that grow (their oversized values included) and of each of their indexes.
select c.relname::text, pg_table_size(c.oid)::bigint
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'journal' and c.relname in ('events', 'commands')
union all
select i.relname::text, pg_relation_size(i.oid)::bigint
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class t on t.oid = x.indrelid
join pg_namespace n on n.oid = t.relnamespace
where n.nspname = 'journal' and t.relname in ('events', 'commands')
order by 1

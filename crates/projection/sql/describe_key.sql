-- Key columns of a projection's table, without the tenant, in their order.
select a.attname::text
from pg_index i
cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
where i.indrelid = to_regclass(quote_ident($1) || '.' || quote_ident($2)) and i.indisprimary and a.attname <> 'tenant'
order by k.place

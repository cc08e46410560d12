-- Columns of a projection's table, in order: name, type, collation where it is not the type's
-- own, default, and the place in the primary key (from 1) or null.
select a.attname::text,
       format_type(a.atttypid, a.atttypmod),
       case when a.attcollation <> y.typcollation then quote_ident(o.collname) end,
       pg_get_expr(d.adbin, d.adrelid),
       array_position(i.indkey::smallint[], a.attnum) + 1     -- indkey counts from 0
from pg_attribute a
join pg_type y on y.oid = a.atttypid
left join pg_collation o on o.oid = a.attcollation
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
where a.attrelid = format('%I.%I', $1::text, $2::text)::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum

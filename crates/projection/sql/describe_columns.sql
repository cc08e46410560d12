-- Of columns of tables (oids, and numbers of columns, in pairs): whether they are never null, and
-- what their comments say.
select a.attrelid, a.attnum, a.attnotnull, col_description(a.attrelid, a.attnum)
from unnest($1::oid[], $2::smallint[]) as wanted (attrelid, attnum)
join pg_attribute a using (attrelid, attnum)

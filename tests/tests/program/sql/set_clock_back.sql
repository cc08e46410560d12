-- From here on the database's clock is ten seconds late for whoever asks it by this name, in new
-- connections and in the append.
create schema late;
create function late.clock_timestamp() returns timestamptz
language sql volatile return pg_catalog.clock_timestamp() - interval '10 seconds';
grant usage on schema late to public;
alter database {database} set search_path = late, pg_catalog;
alter function journal.append set search_path = late, pg_catalog, pg_temp;

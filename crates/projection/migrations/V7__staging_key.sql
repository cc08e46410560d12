-- A staging table is looked into by key alone: the other indexes would cost more than the fold.
create or replace function projection.make_staging(a_projection text, a_version text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    its_schema text;
    staging text := a_projection || '__staging';
    its_key text;
begin
    perform projection.drop_staging(a_projection, a_version);
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    select string_agg(quote_ident(a.attname), ', '
                      order by array_position(i.indkey::smallint[], a.attnum))
        into strict its_key
        from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = format('%I.%I', its_schema, a_projection)::regclass and i.indisprimary;
    execute format('create unlogged table %I.%I (like %I.%I including defaults, primary key (%s))',
                   its_schema, staging, its_schema, a_projection, its_key);
    execute format('grant select, insert, update, delete on %I.%I to %I',
                   its_schema, staging, session_user);
end $$;

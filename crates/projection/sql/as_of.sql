
-- Events of this projection's types up to a position: all of them, or those of some streams. Of the
-- tenant that the transaction is for (`daybook.tenant`) alone, since it reads the journal with its
-- owner's rights. It runs nothing of the folder's.
create function {schema}.{name}__as_of_events(p_tenant integer, p_until bigint, p_streams text[])
returns setof projection.event language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
as $daybook$
declare
    p_after constant bigint := 0;
begin
    if p_tenant is distinct from nullif(current_setting('daybook.tenant', true), '')::integer then
        raise exception 'this transaction is for another tenant'
            using errcode = 'insufficient_privilege';
    end if;
    if p_streams is null then
        return query select p_tenant, event.* from ({from_journal}) event;
    else
        return query select p_tenant, event.* from ({from_streams}) event;
    end if;
end $daybook$;

-- The rows as they were at a position: every key's history up to there, folded from nothing.
-- Writes nothing.
create function {schema}.{name}__as_of(p_tenant integer, p_until bigint)
returns setof {schema}.{name} language plpgsql stable
set work_mem = '64MB'
{plan_settings}
as $daybook$
declare
    p_streams constant text[] := null;
begin
    return query
        {fold_as_of};
end $daybook$;

-- Names of streams, with the values of the key in place of its columns' names in braces.
create function {schema}.{name}__as_of_streams(p_streams text[], p_key jsonb)
returns text[] language plpgsql stable
set search_path = pg_catalog, {schema} set timezone = 'UTC'
as $daybook$
declare
    given record;
begin
    -- as the columns' own types write the values
    p_key := jsonb_strip_nulls(to_jsonb(jsonb_populate_record(null::{schema}.{name}__key, p_key)));
    for given in select * from jsonb_each_text(p_key) loop
        p_streams := array(select replace(s, format('{%s}', given.key), given.value)
                           from unnest(p_streams) s);
    end loop;
    return p_streams;
end $daybook$;

-- The same for the rows with these values in their key, whose events lie in these streams alone.
create function {schema}.{name}__as_of_key(
    p_tenant integer, p_until bigint, p_streams text[], p_key jsonb
) returns setof {schema}.{name} language plpgsql stable
{plan_settings}
as $daybook$
begin
    p_streams := {schema}.{name}__as_of_streams(p_streams, p_key);
    -- as the columns' own types write the values
    p_key := jsonb_strip_nulls(to_jsonb(jsonb_populate_record(null::{schema}.{name}__key, p_key)));
    return query
        {fold_key_as_of};
end $daybook$;

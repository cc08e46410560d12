
-- One event that can't be folded as a whole: folded key by key, and the keys whose rows it can't be
-- folded onto are parked. What is no fault of the event's is raised as ever.
create function {schema}.{name}__advance_parking(
    p_tenant integer, p_incarnation uuid, p_expected bigint, p_next bigint,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[],
    out o_moved boolean, out o_active boolean, out o_keys text[], out o_parked text[]
) language plpgsql volatile
{plan_settings}
as $daybook$
declare
    p_key text;
    touched text[] := array[]::text[];
begin
    o_moved := {schema}.{name}__move(p_tenant, p_incarnation, p_expected, p_next);
    if not o_moved then return; end if;
    o_parked := array[]::text[];
    for p_key in
        with event as (
            {event_source}
        )
        select distinct json_build_array({keys_k})::text
        from event cross join lateral {schema}.{name}__keys(row({event_row})::projection.event) k
        {step_filter}
    loop
        declare
            o_keys text[];
        begin
            {fold_arrays_of_key_into_table}
            touched := touched || p_key;
        exception when others then
            if not {schema}.{name}__is_events_fault(sqlstate) then raise; end if;
            insert into projection.parked (projection, version, tenant, key, position, type, error)
                values ('{name}', '{version}', p_tenant, p_key, p_positions[1], p_types[1], sqlerrm);
            o_parked := o_parked || p_key;
        end;
    end loop;
    o_keys := touched;
    o_active := exists (select from projection.active a
                        where a.projection = '{name}' and a.version = '{version}');
end $daybook$;

-- Whether an error comes from what the events and the folder say.
create function {schema}.{name}__is_events_fault(state text) returns boolean
language sql immutable
return state ~ '^(20|21|22|23|2F|38|39|42|54|P0)' and state <> '42501';

-- Folds what a parked key has missed onto its row, from the journal. Null: its row is up to date
-- again; else what PostgreSQL said, and it stays parked.
create function {schema}.{name}__retry(p_tenant integer, p_key text) returns text
language plpgsql volatile
{plan_settings}
as $daybook$
declare
    p_after bigint;
    p_until bigint;
    o_keys text[];
begin
    -- meanwhile no batch is folded
    select position into p_until from projection.checkpoints
        where projection = '{name}' and version = '{version}' and tenant = p_tenant for update;
    select position - 1 into p_after from projection.parked
        where projection = '{name}' and version = '{version}' and tenant = p_tenant and key = p_key
        for update;
    if not found then return null; end if;
    begin
        {fold_journal_of_key_into_table}
        delete from projection.parked
            where projection = '{name}' and version = '{version}' and tenant = p_tenant
              and key = p_key;
        return null;
    exception when others then
        if not {schema}.{name}__is_events_fault(sqlstate) then raise; end if;
        update projection.parked set error = sqlerrm
            where projection = '{name}' and version = '{version}' and tenant = p_tenant
              and key = p_key;
        return sqlerrm;
    end;
end $daybook$;

-- The functions of one projection, made from its folder. The words in braces are filled in by
-- `generate.rs`; everything here is dropped and made again when it or the folder changes.

create type {schema}.{name}__row as ({row_attributes});
create type {schema}.{name}__key as ({key_attributes});
create type {schema}.{name}__step as (e projection.event, k {schema}.{name}__key, part jsonb);

-- Which rows an event touches. One statement, so that the planner can inline it.
create function {schema}.{name}__keys(e projection.event) returns table ({key_columns}, part jsonb)
language sql stable parallel safe as $daybook$
{key_sql}
$daybook$;

-- One step of the fold: the row after the event. Null: there is no row (any more).
create function {schema}.{name}__apply(
    r {schema}.{name}__row, e projection.event, k {schema}.{name}__key, part jsonb
) returns {schema}.{name}__row language plpgsql immutable parallel safe as $daybook$
begin
    if r.tenant is null then
        r.tenant := e.tenant;
        {new_row}
    end if;
{apply_sql}
    return r;
end $daybook$;

-- The fold of everything that ever happened to a key.
create aggregate {schema}.{name}__fold(e projection.event, k {schema}.{name}__key, part jsonb) (
    sfunc = {schema}.{name}__apply, stype = {schema}.{name}__row, parallel = safe
);

-- The fold of a few more steps onto a row.
create function {schema}.{name}__fold_onto(r {schema}.{name}__row, steps {schema}.{name}__step[])
returns {schema}.{name}__row language plpgsql immutable parallel safe as $daybook$
declare
    step {schema}.{name}__step;
begin
    foreach step in array steps loop
        r := {schema}.{name}__apply(r, step.e, step.k, step.part);
    end loop;
    return r;
end $daybook$;

-- Moves the checkpoint from p_expected to p_next. False: it is not at p_expected, or counts in
-- another history; then nothing was changed.
create function {schema}.{name}__move(
    p_tenant integer, p_incarnation uuid, p_expected bigint, p_next bigint
) returns boolean language plpgsql volatile as $daybook$
begin
    update projection.checkpoints
        set position = p_next, incarnation = p_incarnation, error = null,
            updated_at = clock_timestamp()
        where projection = '{name}' and version = '{version}' and tenant = p_tenant
          and position = p_expected
          and (position = 0 or incarnation is null or incarnation = p_incarnation);
    if found then return true; end if;
    if p_expected <> 0 then return false; end if;
    -- not while somebody compares this version's checkpoints with another's
    perform pg_advisory_xact_lock_shared(hashtext('daybook.projection.switch'), hashtext('{name}'));
    insert into projection.checkpoints (projection, version, tenant, position, incarnation)
        values ('{name}', '{version}', p_tenant, p_next, p_incarnation)
        on conflict do nothing;
    return found;
end $daybook$;

-- One batch: the events in (p_expected, p_next] that this projection reads, from arrays, folded
-- onto the rows, together with the checkpoint. o_moved: whether it was at p_expected. o_keys: the
-- keys of the rows that were touched, as JSON arrays; null: too many to name.
create function {schema}.{name}__advance(
    p_tenant integer, p_incarnation uuid, p_expected bigint, p_next bigint,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[],
    out o_moved boolean, out o_active boolean, out o_keys text[]
) language plpgsql volatile
{plan_settings}
as $daybook$
begin
    o_moved := {schema}.{name}__move(p_tenant, p_incarnation, p_expected, p_next);
    if not o_moved then return; end if;
    o_keys := array[]::text[];
    if cardinality(p_positions) > 0 then
        {fold_arrays_into_table}
    end if;
    -- here and not in a function of its own, which would be planned anew at each call
    o_active := exists (select from projection.active a
                        where a.projection = '{name}' and a.version = '{version}');
end $daybook$;

-- The same with the events of a piece of the journal. The first piece finds no rows, so the plain
-- aggregate does.
create function {schema}.{name}__advance_journal(
    p_tenant integer, p_incarnation uuid, p_expected bigint, p_next bigint,
    out o_moved boolean, out o_active boolean, out o_keys text[]
) language plpgsql volatile
set work_mem = '64MB'
{plan_settings}
as $daybook$
declare
    p_after bigint := p_expected;
    p_until bigint := p_next;
begin
    o_moved := {schema}.{name}__move(p_tenant, p_incarnation, p_expected, p_next);
    if not o_moved then return; end if;
    if p_expected = 0 then
        {aggregate_journal_into_table}
    else
        {fold_journal_into_table}
    end if;
    -- here and not in a function of its own, which would be planned anew at each call
    o_active := exists (select from projection.active a
                        where a.projection = '{name}' and a.version = '{version}');
end $daybook$;

-- The same onto the staging table of a rebuild, which has no checkpoint here.
create function {schema}.{name}__stage(
    p_tenant integer,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[]
) returns void language plpgsql volatile
{plan_settings}
as $daybook$
declare
    o_keys text[];
begin
    {fold_arrays_into_staging}
end $daybook$;

-- A piece of the journal, (p_after, p_until], folded onto the staging table of a rebuild: of the
-- keys of one share, whose hash modulo p_shares is p_share. The first piece finds no rows, so the
-- plain aggregate does.
create function {schema}.{name}__stage_journal(
    p_tenant integer, p_after bigint, p_until bigint, p_shares integer, p_share integer
) returns void language plpgsql volatile
set work_mem = '64MB'
{plan_settings}
as $daybook$
declare
    o_keys text[];
begin
    if p_after = 0 then
        {aggregate_journal_into_staging}
    else
        {fold_journal_into_staging}
    end if;
end $daybook$;

-- Makes the rows those of the staging table, touching only rows that differ. Returns how many.
-- Both tables are compared whole; without statistics the planner might compare each row with all.
create function {schema}.{name}__swap(p_tenant integer) returns bigint language plpgsql volatile
set work_mem = '64MB' set search_path = pg_catalog, {schema} set jit = off set enable_nestloop = off
as $daybook$
declare
    removed bigint;
    written bigint;
begin
    delete from {schema}.{name} t where t.tenant = p_tenant and not exists (
        select from {schema}.{name}__staging s where s.tenant = p_tenant and {same_key_s_t})
        {and_not_parked_t};
    get diagnostics removed = row_count;

    insert into {schema}.{name} as t ({columns})
        select {columns_s} from {schema}.{name}__staging s
        where s.tenant = p_tenant and not exists (
            select from {schema}.{name} o where o.tenant = p_tenant and {same_key_s_o}
              and ({columns_o}) is not distinct from ({columns_s}))
        on conflict (tenant, {keys}) do update set {set_excluded};
    get diagnostics written = row_count;
    return removed + written;
end $daybook$;

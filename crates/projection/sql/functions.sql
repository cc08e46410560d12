-- The functions of one projection, made from its folder. The words in braces are filled in by
-- `generate.rs`; everything here is dropped and made again when it or the folder changes.

create type read.{name}__row as ({row_attributes});
create type read.{name}__key as ({key_attributes});
create type read.{name}__step as (e read.event, k read.{name}__key, part jsonb);

-- Which rows an event touches. One statement, so that the planner can inline it.
create function read.{name}__keys(e read.event) returns table ({key_columns}, part jsonb)
language sql stable parallel safe as $daybook$
{key_sql}
$daybook$;

-- One step of the fold: the row after the event. Null: there is no row (any more).
create function read.{name}__apply(
    r read.{name}__row, e read.event, k read.{name}__key, part jsonb
) returns read.{name}__row language plpgsql immutable parallel safe as $daybook$
begin
    if r.tenant is null then
        r.tenant := e.tenant;
        {new_row}
    end if;
{apply_sql}
    return r;
end $daybook$;

-- The fold of everything that ever happened to a key.
create aggregate read.{name}__fold(e read.event, k read.{name}__key, part jsonb) (
    sfunc = read.{name}__apply, stype = read.{name}__row, parallel = safe
);

-- The fold of a few more steps onto a row.
create function read.{name}__fold_onto(r read.{name}__row, steps read.{name}__step[])
returns read.{name}__row language plpgsql immutable parallel safe as $daybook$
declare
    step read.{name}__step;
begin
    foreach step in array steps loop
        r := read.{name}__apply(r, step.e, step.k, step.part);
    end loop;
    return r;
end $daybook$;

-- One batch: the events in (p_expected, p_next] that this projection reads, from arrays, folded
-- onto the rows, together with the checkpoint. False: the checkpoint is not at p_expected, or
-- counts in another history; then nothing was changed.
create function read.{name}__advance(
    p_definition text, p_tenant integer, p_incarnation uuid, p_expected bigint, p_next bigint,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[]
) returns boolean language plpgsql volatile
{plan_settings}
as $daybook$
begin
    if p_definition <> '{definition}' then
        raise exception 'the installed definition of projection {name} is another one'
            using errcode = 'object_not_in_prerequisite_state',
                  hint = 'run `daybook migrate` with this program, or use the other program';
    end if;

    update projection.checkpoints
        set position = p_next, incarnation = p_incarnation, error = null,
            updated_at = clock_timestamp()
        where projection = '{name}' and tenant = p_tenant and position = p_expected
          and (position = 0 or incarnation is null or incarnation = p_incarnation);
    if not found then
        if p_expected <> 0 then return false; end if;
        insert into projection.checkpoints (projection, tenant, position, incarnation)
            values ('{name}', p_tenant, p_next, p_incarnation)
            on conflict do nothing;
        if not found then return false; end if;
    end if;

    if cardinality(p_positions) > 0 then
        {fold_arrays_into_table}
    end if;
    return true;
end $daybook$;

-- The same onto the staging table of a rebuild, which has no checkpoint here.
create function read.{name}__stage(
    p_tenant integer,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[]
) returns void language plpgsql volatile
{plan_settings}
as $daybook$
begin
    {fold_arrays_into_staging}
end $daybook$;

-- A piece of the journal, (p_after, p_until], folded onto the staging table of a rebuild. The
-- first piece finds no rows, so the plain aggregate does.
create function read.{name}__stage_journal(p_tenant integer, p_after bigint, p_until bigint)
returns void language plpgsql volatile
set work_mem = '64MB'
{plan_settings}
as $daybook$
begin
    if p_after = 0 then
        {aggregate_journal_into_staging}
    else
        {fold_journal_into_staging}
    end if;
end $daybook$;

-- Makes the rows those of the staging table, touching only rows that differ. Returns how many.
-- Both tables are compared whole; without statistics the planner might compare each row with all.
create function read.{name}__swap(p_tenant integer) returns bigint language plpgsql volatile
set work_mem = '64MB' set search_path = pg_catalog, read set jit = off set enable_nestloop = off
as $daybook$
declare
    removed bigint;
    written bigint;
begin
    delete from read.{name} t where t.tenant = p_tenant and not exists (
        select from read.{name}__staging s where s.tenant = p_tenant and {same_key_s_t});
    get diagnostics removed = row_count;

    insert into read.{name} as t ({columns})
        select {columns_s} from read.{name}__staging s
        where s.tenant = p_tenant and not exists (
            select from read.{name} o where o.tenant = p_tenant and {same_key_s_o}
              and ({columns_o}) is not distinct from ({columns_s}))
        on conflict (tenant, {keys}) do update set {set_excluded};
    get diagnostics written = row_count;
    return removed + written;
end $daybook$;

-- Folds events from arrays apart from the table: each key's steps twice as a whole, and in two
-- parts cut by chance. Only for `daybook projections check`.
create function {schema}.{name}__check(
    p_tenant integer,
    p_positions bigint[], p_streams text[], p_versions integer[], p_types text[],
    p_schema_versions smallint[], p_data jsonb[], p_meta jsonb[],
    p_occurred_at timestamptz[], p_recorded_at timestamptz[]
) returns table (key text, whole jsonb, again jsonb, parted jsonb) language sql volatile
set search_path = pg_catalog, {schema} set timezone = 'UTC'
as $daybook$
    with event as (
        {event_source}
    ), step as (
        select {key_expressions}, event.position, k.part,
               row(row({event_row_step})::projection.event,
                   row({keys_k})::{schema}.{name}__key, k.part)::{schema}.{name}__step as step
        from event
        cross join lateral {schema}.{name}__keys(row({event_row})::projection.event) k
    ), steps as (
        select {keys}, array_agg(step order by position, part) as steps,
               floor(random() * (count(*) + 1))::integer as cut
        from step group by {keys}
    )
    select json_build_array({keys})::text,
           to_jsonb({schema}.{name}__fold_onto(null, steps)),
           to_jsonb({schema}.{name}__fold_onto(null, steps)),
           to_jsonb({schema}.{name}__fold_onto(
               {schema}.{name}__fold_onto(null, steps[ : cut]), steps[cut + 1 : ]))
    from steps
$daybook$;

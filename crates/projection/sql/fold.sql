-- Steps of each key, in order; folded onto the key's row; inserted, updated or deleted.
        with event as (
            {event_source}
        ), step as (
            select {key_expressions}, event.position, k.part,
                   row(row({event_row_step})::projection.event,
                       row({keys_k})::{schema}.{name}__key, k.part)::{schema}.{name}__step as step
            from event
            cross join lateral {schema}.{name}__keys(row({event_row})::projection.event) k
            {step_filter}
        ), steps as (
            select {keys}, array_agg(step order by position, part) as steps
            from step group by {keys}
        ), folded as materialized (
            select {keys_s}, t.tenant is not null as existed,
                   {schema}.{name}__fold_onto(
                       case when t.tenant is not null
                            then row({columns_t})::{schema}.{name}__row end,
                       s.steps) as f
            from steps s
            -- `offset 0` makes it a look-up for each key: as a plain join it was planned, while the
            -- statistics were young, as going through all rows of the tenant for each key
            left join lateral (
                select t.* from {table} t where t.tenant = p_tenant and {same_key_s_t} offset 0
            ) t on true
        ), gone as (
            delete from {table} t using folded s
            where s.existed and (s.f).tenant is null
              and t.tenant = p_tenant and {same_key_s_t}
        ), written as (
            insert into {table} as t ({columns})
                select {columns_f} from folded s where (s.f).tenant is not null
                on conflict (tenant, {keys}) do update set {set_excluded}
        )
        -- which keys, for whoever watches one; too many are not named
        select case when (select count(*) from folded) <= 200
                    then array(select json_build_array({keys_s})::text from folded s) end
            into o_keys;

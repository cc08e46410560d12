with event as (
            select * from {schema}.{name}__as_of_events(p_tenant, p_until, p_streams)
        ), step as (
            select {key_expressions}, event.position, k.part,
                   row({event_row_step})::projection.event as e,
                   row({keys_k})::{schema}.{name}__key as k
            from event cross join lateral {schema}.{name}__keys(row({event_row})::projection.event) k
            {step_filter}
        ), folded as materialized (
            select {keys}, {schema}.{name}__fold(e, k, part order by position, part) as f
            from step group by {keys}
        )
        select {columns_f} from folded s where (s.f).tenant is not null

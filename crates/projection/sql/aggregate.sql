-- Every key's whole history so far, folded from nothing.
        with event as (
            {event_source}
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
        insert into {table} ({columns})
            select {columns_f} from folded s where (s.f).tenant is not null;

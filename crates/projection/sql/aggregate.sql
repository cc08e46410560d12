-- Every key's whole history so far, folded from nothing.
        with event as (
            {event_source}
        ), step as (
            select {key_expressions}, event.position, k.part,
                   row({event_row_step})::read.event as e,
                   row({keys_k})::read.{name}__key as k
            from event cross join lateral read.{name}__keys(row({event_row})::read.event) k
        ), folded as materialized (
            select {keys}, read.{name}__fold(e, k, part order by position, part) as f
            from step group by {keys}
        )
        insert into {table} ({columns})
            select {columns_f} from folded s where (s.f).tenant is not null;

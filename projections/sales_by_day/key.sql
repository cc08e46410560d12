select (e.occurred_at at time zone 'UTC')::date as day,
       e.data->>'currency' as currency,
       -- [units, amount]: apply needs no more, so the lines need not travel with the step
       jsonb_build_array(
           (select sum((l.line->>'quantity')::bigint)
            from jsonb_array_elements(e.data->'lines') as l (line)),
           case when e.type = 'OrderPlaced' then e.data->'total' else e.data->'credit' end) as part

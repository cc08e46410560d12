select (e.data->>'customer_id')::uuid as customer_id,
       e.data->>'currency' as currency,
       -- the only value that apply needs, so that it need not carry the event's data
       case when e.type = 'OrderPlaced' then e.data->'total'
            else coalesce(e.data->'credit', e.data->'amount') end as part
where e.data->>'customer_id' is not null

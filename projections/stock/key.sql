select e.data->>'sku' as sku,
       -- the only values that apply needs, so that it need not carry the event's data
       jsonb_build_array(e.data->'quantity', e.data->'name') as part
where e.type <> 'ProductAdded' or (e.data->>'tracked')::boolean

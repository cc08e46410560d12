select e.data->>'sku' as sku, null::jsonb as part

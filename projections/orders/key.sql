select (e.data->>'order_id')::uuid as order_id, null::jsonb as part

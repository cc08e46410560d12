select (e.data->>'payment_id')::uuid as payment_id, null::jsonb as part

-- what it is about, without the lines
select (e.data->>'order_id')::uuid as order_id, e.data - 'lines' as part

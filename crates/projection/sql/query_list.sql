-- A page of rows as a JSON array, the place of its last row if there is more, and the position it
-- stands for, from one snapshot.
select (select a.version from projection.active a where a.projection = '{projection}'),
       coalesce((select c.position from projection.checkpoints c
                 where c.projection = '{projection}' and c.version = '{version}'
                   and c.tenant = $1::integer), 0),
       coalesce(json_agg(page.item order by page.n) filter (where page.n <= {limit}), '[]')::text,
       case when count(*) > {limit}
            then (array_agg(page.place) filter (where page.n = {limit}))[1]::text end
from (
    select to_json(q) as item, jsonb_build_array({order_columns}) as place,
           row_number() over (order by {order}) as n
    from (
{query}
    ) q
    {after}
    order by {order}
    limit {limit} + 1
) page

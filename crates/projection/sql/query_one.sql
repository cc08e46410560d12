-- One row as JSON, and the position it stands for, from one snapshot.
select coalesce((select c.position from projection.checkpoints c
                 where c.projection = '{projection}' and c.tenant = $1::integer), 0),
       (select to_json(q)::text from (
{query}
       ) q limit 1)

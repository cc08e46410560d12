-- One row as JSON, and the position it stands for, from one snapshot.
select (select a.version from projection.active a where a.projection = '{projection}'),
       coalesce((select c.position from projection.checkpoints c
                 where c.projection = '{projection}' and c.version = '{version}'
                   and c.tenant = $1::integer), 0),
       (select to_json(q)::text from (
{query}
       ) q limit 1)

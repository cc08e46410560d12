-- Notes a partition's progress: its offset and the positions that go with it, in one statement.
with noted as (
    insert into feed.partitions
        (topic, partition, incarnation, next_offset, last_tenant, last_position)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (topic, partition) do update
        set incarnation = excluded.incarnation, next_offset = excluded.next_offset,
            last_tenant = excluded.last_tenant, last_position = excluded.last_position,
            noted_at = clock_timestamp()
        returning topic, partition
)
insert into feed.positions (topic, partition, tenant, position)
    select noted.topic, noted.partition, reached.tenant, reached.position
    from noted, unnest($7::integer[], $8::bigint[]) as reached (tenant, position)
    on conflict (topic, partition, tenant) do update set position = excluded.position

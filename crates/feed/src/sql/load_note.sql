-- What is noted about a partition, one row a tenant.
select p.incarnation, p.next_offset, p.last_tenant, p.last_position, t.tenant, t.position
    from feed.partitions p join feed.positions t using (topic, partition)
    where p.topic = $1 and p.partition = $2

-- Journal to Kafka: reads events, notes what was acknowledged.
grant usage on schema journal, feed to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.incarnation to {role};
grant select, insert, update on feed.partitions, feed.positions to {role};

-- Kafka to read models: fetches missing events from the journal, rebuilds from it.
grant usage on schema journal to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.incarnation to {role};
grant select on journal.activations to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};

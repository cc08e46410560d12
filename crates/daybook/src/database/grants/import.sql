-- The importer: a writer of its own, and no more of what serve may.
grant usage on schema journal to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.append, journal.lock, journal.incarnation to {role};
grant select on journal.activations to {role};
grant select, insert, update on journal.snapshots to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};

-- HTTP: appends commands, reads events, checks API keys. Read models are queried by `query`.
grant usage on schema journal, identity to {role};
grant select on journal.tenants, journal.events, journal.commands to {role};
grant execute on function journal.append, journal.lock, journal.incarnation to {role};
grant select on journal.activations to {role};
grant select, insert, update on journal.snapshots to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
grant select, update (last_used_at) on identity.api_keys to {role};

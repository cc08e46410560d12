-- HTTP: appends commands, reads events and read models, checks API keys.
grant usage on schema journal, identity, projection, read to {role};
grant select on journal.tenants, journal.events, journal.commands to {role};
grant execute on function journal.append, journal.lock, journal.incarnation to {role};
grant select on journal.activations to {role};
grant select, insert, update on journal.snapshots to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
grant select, update (last_used_at) on identity.api_keys to {role};
grant select on projection.definitions, projection.checkpoints to {role};
grant select on all tables in schema read to {role};
-- Queries call functions that a folder declares; none of them runs with another's rights.
grant execute on all routines in schema read to {role};
alter default privileges in schema read grant select on tables to {role};
alter default privileges in schema read grant execute on routines to {role};

-- HTTP: appends commands, reads events and read models, checks API keys.
grant usage on schema journal, identity, projection to {role};
grant select on journal.tenants, journal.events, journal.commands to {role};
grant execute on function journal.append, journal.lock, journal.incarnation to {role};
grant select on journal.activations to {role};
grant select, insert, update on journal.snapshots to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
grant select, update (last_used_at) on identity.api_keys to {role};
grant select on projection.versions, projection.active, projection.checkpoints, projection.parked
    to {role};
-- Rows of every version, also of those that are made later. Queries call functions that a folder
-- declares; none of them runs with another's rights.
insert into projection.grantees values ($role${role}$role$, 'read') on conflict do nothing;
select projection.open_schema(schema) from projection.versions;

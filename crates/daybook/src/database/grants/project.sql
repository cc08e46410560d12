-- Kafka to read models: folds events into rows, fetches missing ones from the journal, rebuilds.
-- Tables are the owner's: functions of the owner's make and drop the staging table of a rebuild,
-- switch to a version that has caught up, and let analysts see it.
grant usage on schema journal, projection to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.incarnation to {role};
grant select on journal.activations to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
grant select on projection.versions, projection.active to {role};
grant select, insert, update on projection.checkpoints to {role};
grant select, insert, update, delete on projection.parked, projection.rebuilds to {role};
grant execute on function projection.make_staging, projection.drop_staging,
    projection.switch_when_ready, projection.show_analysts to {role};
-- Rows and functions of every version, also of those that are made later.
insert into projection.grantees values ($role${role}$role$, 'fold') on conflict do nothing;

-- Kafka to read models: folds events into rows, fetches missing ones from the journal, rebuilds.
-- Tables are the owner's: the two functions make and drop the staging table of a rebuild.
grant usage on schema journal, projection, read to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.incarnation to {role};
grant select on journal.activations to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
grant select on projection.definitions to {role};
grant select, insert, update on projection.checkpoints to {role};
grant execute on function projection.make_staging, projection.drop_staging to {role};
grant select, insert, update, delete on all tables in schema read to {role};
grant execute on all routines in schema read to {role};
alter default privileges in schema read grant select, insert, update, delete on tables to {role};
alter default privileges in schema read grant execute on routines to {role};

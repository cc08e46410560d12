-- Kafka to read models: folds events, in their current form, into rows. Tables are the owner's:
-- functions of the owner's make and drop the staging table of a rebuild, make the one that events of
-- a journal elsewhere are copied to, switch to a version that has caught up, and let analysts see it.
grant usage on schema journal, projection to {role};
grant select on projection.versions, projection.active to {role};
grant select, insert, update on projection.checkpoints to {role};
grant select, insert, update, delete on projection.parked, projection.rebuilds to {role};
grant execute on function projection.make_staging, projection.drop_staging,
    projection.open_scratch, projection.switch_when_ready, projection.show_analysts to {role};
-- Rows and functions of every version, also of those that are made later.
insert into projection.grantees values ($role${role}$role$, 'fold') on conflict do nothing;

-- Declared queries: rows of one tenant, the one that `daybook.tenant` names, of read models, and
-- nothing else in the database, whatever their SQL says.
grant usage on schema projection to {role};
grant select on projection.versions, projection.active, projection.checkpoints to {role};
-- As of a position, with a journal elsewhere: the session's table that its events are copied to.
grant execute on function projection.open_scratch to {role};
-- Every version, also those that are made later. Queries call functions that a folder declares;
-- none of them runs with another's rights.
insert into projection.grantees values ($role${role}$role$, 'read') on conflict do nothing;

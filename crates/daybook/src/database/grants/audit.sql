-- The audit log: reads what it seals.
grant usage on schema journal to {role};
grant select on journal.tenants, journal.events to {role};
grant execute on function journal.incarnation to {role};

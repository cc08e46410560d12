-- Background jobs: claims and ends them, appends their results, removes what has expired. Of a job
-- only its progress can be changed, never what it is to do.
grant usage on schema journal, sandbox to {role};
grant select on journal.tenants, journal.events, journal.jobs to {role};
grant update (run_at, leased_until, lease, attempts, state, sealed, last_error, ended_at)
    on journal.jobs to {role};
grant execute on function journal.append, journal.lock, journal.incarnation,
    journal.remove_expired_commands, journal.remove_done_jobs to {role};
grant select on journal.activations to {role};
grant select, insert, update on journal.snapshots to {role};
grant execute on function journal.register_process, journal.heartbeat, journal.deregister_process
    to {role};
-- The sandbox gateway's books. They are only added to; locking a charge wants some right to update.
grant select, insert on sandbox.answers, sandbox.lost, sandbox.charges, sandbox.refunds to {role};
grant update (reason) on sandbox.charges to {role};

//! Jobs are claimed by one worker at a time and end once.

use std::{collections::HashSet, time::Duration};

use daybook_work::{JobFilter, JobState};
use serde_json::json;

use crate::kit::on_database;

const LEASE: Duration = Duration::from_secs(30);
const KINDS: [&str; 1] = ["charge_payment"];

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_hold_the_same_job() {
    on_database(|database| async move {
        let mut written = HashSet::new();
        for n in 0..200 {
            written.insert(database.add_job(KINDS[0], 0, &json!({ "n": n }), None).await);
        }
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let store = database.store();
                tokio::spawn(async move {
                    let mut held = Vec::new();
                    loop {
                        let claim = store.claim(&KINDS, 7, LEASE).await.unwrap();
                        if claim.jobs.is_empty() {
                            return held;
                        }
                        assert!(claim.jobs.len() <= 7);
                        held.extend(claim.jobs);
                    }
                })
            })
            .collect();
        let mut ids = HashSet::new();
        let mut leases = HashSet::new();
        for worker in workers {
            for job in worker.await.unwrap() {
                assert!(ids.insert(job.id), "{} was claimed twice", job.id);
                assert!(leases.insert(job.lease), "a lease is each job's own");
                assert_eq!(job.attempt, 1);
            }
        }
        assert_eq!(ids, written);
    })
    .await;
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_the_zombie_is_refused() {
    on_database(|database| async move {
        let store = database.store();
        let id = database.add_job(KINDS[0], 0, &json!({}), Some(b"secret")).await;
        let zombie = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert!(store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.is_empty());

        database.expire_lease(id).await;
        let heir = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert_eq!((heir.id, heir.attempt), (id, 2));
        assert_eq!(heir.sealed.as_deref(), Some(b"secret".as_slice()));

        assert!(!store.renew(&zombie, LEASE).await.unwrap());
        assert!(!store.finish(&zombie).await.unwrap());
        assert!(!store.retry_later(&zombie, LEASE, "late").await.unwrap());
        assert!(!store.bury(&zombie, "late").await.unwrap());
        assert!(!store.release(&zombie).await.unwrap());
        let row = store.show(id).await.unwrap().unwrap();
        assert_eq!((row.state, row.last_error, row.attempts), (JobState::Running, None, 2));
        assert!(database.has_secret(id).await);

        assert!(store.finish(&heir).await.unwrap());
        assert!(!store.finish(&heir).await.unwrap(), "a job ends once");
        let row = store.show(id).await.unwrap().unwrap();
        assert_eq!((row.state, row.has_secret), (JobState::Done, false));
        assert!(row.ended_at.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_renewed_lease_holds() {
    on_database(|database| async move {
        let store = database.store();
        let id = database.add_job(KINDS[0], 0, &json!({}), None).await;
        let job = store.claim(&KINDS, 1, Duration::from_millis(1)).await.unwrap().jobs.remove(0);
        database.expire_lease(id).await;
        assert!(store.renew(&job, LEASE).await.unwrap(), "nobody took it meanwhile");
        assert!(store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.is_empty());
        assert!(store.finish(&job).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn jobs_come_when_they_are_due_and_of_known_kinds_only() {
    on_database(|database| async move {
        let store = database.store();
        let later = database.add_job(KINDS[0], 60_000, &json!({}), None).await;
        let first = database.add_job(KINDS[0], -20, &json!({}), None).await;
        let second = database.add_job(KINDS[0], -10, &json!({}), None).await;
        database.add_job("send_a_pigeon", -30, &json!({}), None).await;
        let claim = store.claim(&KINDS, 10, LEASE).await.unwrap();
        assert_eq!(claim.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [first, second]);
        let next = claim.next_due.unwrap();
        assert!(Duration::from_secs(50) < next && next <= Duration::from_mins(1), "{next:?}");
        assert!(claim.jobs[0].late >= Duration::from_millis(20));
        assert_eq!(store.show(later).await.unwrap().unwrap().state, JobState::Waiting);

        let empty = store.claim(&KINDS, 10, LEASE).await.unwrap();
        assert!(empty.jobs.is_empty());
        assert!(empty.next_due.is_some(), "the next due time is known without a claim too");
    })
    .await;
}

#[tokio::test]
async fn a_failed_job_waits_and_a_released_one_does_not() {
    on_database(|database| async move {
        let store = database.store();
        let id = database.add_job(KINDS[0], 0, &json!({}), Some(b"secret")).await;
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert!(store.release(&job).await.unwrap());
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert_eq!(job.attempt, 1, "a released attempt is not counted");

        let delay = Duration::from_mins(1);
        assert!(store.retry_later(&job, delay, "the gateway is away").await.unwrap());
        assert!(store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.is_empty());
        let row = store.show(id).await.unwrap().unwrap();
        assert_eq!(row.state, JobState::Waiting);
        assert_eq!(row.last_error.as_deref(), Some("the gateway is away"));
        assert!(row.has_secret, "it is to be tried again");

        assert!(store.retry_now(id).await.unwrap());
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert_eq!(job.attempt, 1, "an operator's retry starts over");
        assert!(!store.retry_now(id).await.unwrap(), "a running job is left alone");
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_keeps_no_secret_and_can_be_retried_or_discarded() {
    on_database(|database| async move {
        let store = database.store();
        let id = database.add_job(KINDS[0], 0, &json!({ "a": 1 }), Some(b"secret")).await;
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert!(!store.discard(id).await.unwrap(), "only dead letters are discarded");
        assert!(store.bury(&job, "gone for good").await.unwrap());
        let row = store.show(id).await.unwrap().unwrap();
        assert_eq!((row.state, row.has_secret), (JobState::Dead, false));
        assert!(!database.has_secret(id).await);
        assert!(store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.is_empty());

        assert!(store.retry_now(id).await.unwrap());
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        assert_eq!((job.attempt, &job.sealed, &job.payload), (1, &None, &json!({ "a": 1 })));
        assert!(store.bury(&job, "gone again").await.unwrap());

        assert!(store.discard(id).await.unwrap());
        assert!(!store.retry_now(id).await.unwrap(), "discarded is final");
        let row = store.show(id).await.unwrap().unwrap();
        assert_eq!(row.state, JobState::Done);
        assert_eq!(row.last_error.as_deref(), Some("discarded: gone again"));
    })
    .await;
}

#[tokio::test]
async fn lists_and_counts_tell_states_and_kinds_apart() {
    on_database(|database| async move {
        let store = database.store();
        let dead = database.add_job("charge_payment", -5_000, &json!({}), None).await;
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        store.bury(&job, "x").await.unwrap();
        let done = database.add_job("charge_payment", -4_000, &json!({}), None).await;
        let job = store.claim(&KINDS, 1, LEASE).await.unwrap().jobs.remove(0);
        store.finish(&job).await.unwrap();
        let running = database.add_job("charge_payment", -3_000, &json!({}), None).await;
        store.claim(&KINDS, 1, LEASE).await.unwrap();
        let waiting = database.add_job("charge_payment", -2_000, &json!({}), None).await;
        let expiry = database.add_job("expire_order", 60_000, &json!({}), None).await;

        let ids = async |filter: JobFilter| {
            let rows = store.list(&filter, 100).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<HashSet<_>>()
        };
        let of_state = |state| JobFilter { state: Some(state), ..JobFilter::default() };
        assert_eq!(ids(of_state(JobState::Dead)).await, [dead].into());
        assert_eq!(ids(of_state(JobState::Done)).await, [done].into());
        assert_eq!(ids(of_state(JobState::Running)).await, [running].into());
        assert_eq!(ids(of_state(JobState::Waiting)).await, [waiting, expiry].into());
        assert_eq!(ids(JobFilter::default()).await, [dead, running, waiting, expiry].into());
        let kind = Some("expire_order".to_owned());
        assert_eq!(ids(JobFilter { kind, ..JobFilter::default() }).await, [expiry].into());
        let tenant = Some(database.tenant.id + 1);
        assert!(ids(JobFilter { tenant, ..JobFilter::default() }).await.is_empty());
        assert_eq!(store.list(&JobFilter::default(), 2).await.unwrap().len(), 2);

        let stats = store.stats().await.unwrap();
        let [charges, expiries] = stats.as_slice() else { panic!("two kinds: {stats:?}") };
        assert_eq!(charges.kind, "charge_payment");
        assert_eq!((charges.waiting, charges.running), (1, 1));
        assert_eq!((charges.failed, charges.dead), (0, 1));
        assert!(charges.oldest_due.unwrap() >= Duration::from_secs(3), "the running one's");
        assert_eq!((expiries.waiting, expiries.oldest_due), (1, None));
    })
    .await;
}

#[tokio::test]
async fn claims_use_the_index_however_many_jobs_wait_for_later() {
    on_database(|database| async move {
        let client = database.pool.get().await.unwrap();
        let fill = "insert into journal.jobs (id, tenant, position, run_at, kind, payload)
            select gen_random_uuid(), $1, n, now() + interval '1 hour', 'expire_order', '{}'
            from generate_series(1::bigint, 20000) n";
        client.execute(fill, &[&database.tenant.id]).await.unwrap();
        client.batch_execute("analyze journal.jobs").await.unwrap();
        let explain = format!(
            "explain (analyze, buffers, format json) {}",
            include_str!("../../src/sql/claim.sql")
                .replace("$1", "16")
                .replace("$2", "array['expire_order']")
                .replace("$3", "1000")
        );
        let plan: serde_json::Value = client.query_one(&explain, &[]).await.unwrap().get(0);
        let read = plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
            + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap();
        assert!(read < 50, "a claim of nothing read {read} blocks: {plan:#}");
    })
    .await;
}

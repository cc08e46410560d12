//! Payments from request to outcome, through every failure the sandbox can play.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use daybook_commands::ShopSettings;
use daybook_work::{JobFilter, JobState, KINDS, RetryPolicy, WorkerSettings, sandbox::tokens};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    kit::{on_database, until},
    shop::{Stand, settings},
    stage::Staged,
};

const CAPTURED: [&str; 2] = ["PaymentRequested", "PaymentCaptured"];
const DECLINED: [&str; 2] = ["PaymentRequested", "PaymentDeclined"];
const UNRESOLVED: [&str; 2] = ["PaymentRequested", "PaymentUnresolved"];

#[tokio::test(flavor = "multi_thread")]
async fn each_token_ends_as_it_should() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        // Nothing is polled for: the worker hears of each payment.
        let worker = stand.worker(stand.sandbox(), settings());
        for (token, kinds) in [
            (tokens::SUCCESS, CAPTURED),
            (tokens::DECLINED, DECLINED),
            (tokens::INSUFFICIENT_FUNDS, DECLINED),
            (tokens::TIMEOUT_AFTER_CHARGE, CAPTURED),
            (tokens::TIMEOUT_BEFORE, CAPTURED),
            (tokens::WRONG_AMOUNT, UNRESOLVED),
            (tokens::SERVER_ERROR, UNRESOLVED),
            ("tok_of_nobody", DECLINED),
        ] {
            let payment = stand.buy(token).await;
            assert_eq!(stand.settled(payment).await, kinds, "{token}");
            let job = stand.job_is(payment, JobState::Done).await;
            assert!(!job.has_secret, "{token}");
            let taken = stand.ledger().await.get(&payment).copied();
            let expected = match token {
                tokens::WRONG_AMOUNT => Some((1_001, 0)),
                _ if kinds == CAPTURED => Some((1_000, 0)),
                _ => None,
            };
            assert_eq!(taken, expected, "{token}");
        }
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_names_what_caused_it() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let worker = stand.worker(stand.sandbox(), settings());
        stand.settled(payment).await;
        let job = stand.job_of(payment).await;
        let stream = format!("payment-{payment}");
        let events = stand.reader.stream(stand.database.tenant.id, &stream, 1, 10).await.unwrap();
        let metas: Vec<daybook_journal::Meta> =
            events.iter().map(|event| serde_json::from_str(&event.meta).unwrap()).collect();
        assert_eq!(metas[1].actor, "backend");
        assert_eq!(metas[1].key, format!("job:{}", job.id));
        assert_eq!(metas[1].causation, Some(format!("job:{}", job.id)));
        assert_eq!(metas[1].correlation, metas[0].correlation, "one chain");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_stands_nowhere_but_sealed_in_its_job() {
    on_database(|database| async move {
        let stand = Stand::open(database.clone()).await;
        let waiting = stand.buy("tok_success").await;
        let nowhere = async || {
            let sql = "select
                (select count(*) from journal.events e where e::text like '%tok\\_%')
              + (select count(*) from journal.commands c where c::text like '%tok\\_%')
              + (select count(*) from journal.jobs j where j::text like '%tok\\_%'
                    or position('tok_'::bytea in coalesce(j.sealed, '')) > 0)
              + (select count(*) from sandbox.answers a where a::text like '%tok\\_%')
              + (select count(*) from sandbox.charges c where c::text like '%tok\\_%')";
            let client = database.pool.get().await.unwrap();
            client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        };
        assert!(stand.job_of(waiting).await.has_secret);
        assert!(nowhere().await);
        let worker = stand.worker(stand.sandbox(), settings());
        stand.job_is(waiting, JobState::Done).await;
        assert!(!stand.job_of(waiting).await.has_secret);
        assert!(nowhere().await);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_charge_and_record_loses_and_doubles_nothing() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()).hold_answers());
        let victim = stand.worker(network.clone(), settings());
        until("the charge arrived", async || (network.arrived.load(SeqCst) == 1).then_some(()))
            .await;
        victim.kill().await;
        assert_eq!(stand.ledger().await.len(), 1, "the money is taken");
        assert_eq!(stand.payment(payment).await, ["PaymentRequested"], "and nobody knows");

        let heir = stand.worker(stand.sandbox(), WorkerSettings { poll_ms: 50, ..settings() });
        assert_eq!(stand.job_of(payment).await.state, JobState::Running, "the lease still holds");
        stand.database.expire_lease(stand.job_of(payment).await.id).await;
        assert_eq!(stand.settled(payment).await, CAPTURED);
        stand.job_is(payment, JobState::Done).await;
        assert_eq!(stand.captured().await, stand.ledger().await);
        heir.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_records_nothing_twice_and_ends_nothing() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()).hold_answers());
        // Its lease is taken from it before it would prolong it: as after a long pause.
        let zombie = stand.worker(network.clone(), settings());
        until("the charge arrived", async || (network.arrived.load(SeqCst) == 1).then_some(()))
            .await;
        let job = stand.job_of(payment).await;
        stand.database.expire_lease(job.id).await;
        let heir = stand.worker(stand.sandbox(), settings());
        assert_eq!(stand.settled(payment).await, CAPTURED);
        let done = stand.job_is(payment, JobState::Done).await;
        heir.stop().await;

        network.answers.add_permits(1);
        zombie.stop().await; // drains: the zombie has handed its result in
        assert_eq!(stand.payment(payment).await, CAPTURED);
        assert_eq!(stand.job_of(payment).await, done, "the job is as the heir left it");
        assert_eq!((done.attempts, done.last_error), (2, None));
        assert_eq!(stand.captured().await, stand.ledger().await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_prolonged_while_the_job_runs() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()).hold_answers());
        let brief = WorkerSettings { lease_ms: 300, poll_ms: 20, ..settings() };
        let one = stand.worker(network.clone(), brief.clone());
        let other = stand.worker(network.clone(), brief);
        until("the charge arrived", async || (network.arrived.load(SeqCst) == 1).then_some(()))
            .await;
        let first = stand.job_of(payment).await.leased_until.unwrap();
        until("many leases' time has passed", async || {
            let until = stand.job_of(payment).await.leased_until.unwrap();
            (until - first > chrono::TimeDelta::milliseconds(1_500)).then_some(())
        })
        .await;
        assert_eq!(stand.job_of(payment).await.attempts, 1, "nobody took it over");
        network.answers.add_permits(1);
        assert_eq!(stand.settled(payment).await, CAPTURED);
        one.stop().await;
        other.stop().await;
        assert_eq!(network.arrived.load(SeqCst), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_never_passes_becomes_a_dead_letter_which_can_never_charge() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()));
        network.set_deaf(true);
        let retry = RetryPolicy { max_attempts: 3, ..settings().retry };
        let worker = stand.worker(network.clone(), WorkerSettings { retry, ..settings() });
        let job = stand.job_is(payment, JobState::Dead).await;
        assert_eq!((job.attempts, job.has_secret), (3, false));
        assert_eq!(job.last_error.as_deref(), Some("the gateway can't be reached: cut"));
        assert_eq!(stand.payment(payment).await, ["PaymentRequested"], "nothing is assumed");

        network.set_deaf(false);
        assert!(stand.database.store().retry_now(job.id).await.unwrap());
        stand.buy(tokens::DECLINED).await; // wakes the worker
        assert_eq!(stand.settled(payment).await, UNRESOLVED);
        stand.job_is(payment, JobState::Done).await;
        assert!(stand.ledger().await.is_empty(), "it only looked");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_whose_money_was_taken_is_settled_by_looking() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()));
        network.set_blind(true);
        let retry = RetryPolicy { max_attempts: 2, ..settings().retry };
        let worker = stand.worker(network.clone(), WorkerSettings { retry, ..settings() });
        let job = stand.job_is(payment, JobState::Dead).await;
        assert_eq!(stand.ledger().await.len(), 1, "two tries, one charge");
        assert!(stand.captured().await.is_empty());

        network.set_blind(false);
        assert!(stand.database.store().retry_now(job.id).await.unwrap());
        stand.buy(tokens::DECLINED).await;
        assert_eq!(stand.settled(payment).await, CAPTURED);
        assert_eq!(stand.captured().await, stand.ledger().await);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_deadline_nothing_is_charged() {
    on_database(|database| async move {
        let brief = ShopSettings { payment_deadline_ms: 1, ..ShopSettings::default() };
        let stand = Stand::with(database, brief).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let worker = stand.worker(stand.sandbox(), settings());
        assert_eq!(stand.settled(payment).await, UNRESOLVED);
        assert!(stand.ledger().await.is_empty());
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_gateway_may_have_forgotten_the_key_nothing_is_charged_or_refunded() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let worker = stand.worker(stand.sandbox(), settings());
        let paid = stand.buy(tokens::SUCCESS).await;
        assert_eq!(stand.settled(paid).await, CAPTURED);
        worker.stop().await;

        let payment = stand.buy(tokens::SUCCESS).await;
        let body =
            json!({ "payment_id": paid, "amount": 300, "currency": "EUR", "reason": "a crack" });
        stand.operator("RefundPayment", &body).await;
        let late = stand.worker(stand.sandbox(), WorkerSettings { key_window_ms: 0, ..settings() });
        assert_eq!(stand.settled(payment).await, UNRESOLVED);
        let filter = JobFilter { kind: Some("refund_payment".into()), ..JobFilter::default() };
        until("the refund is a dead letter", async || {
            let jobs = stand.database.store().list(&filter, 10).await.unwrap();
            jobs.iter().any(|job| job.state == JobState::Dead).then_some(())
        })
        .await;
        assert_eq!(stand.ledger().await, BTreeMap::from([(paid, (1_000, 0))]));
        late.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_reaches_the_gateway_once() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()));
        let worker = stand.worker(network.clone(), settings());
        assert_eq!(stand.settled(payment).await, CAPTURED);

        // Its answers are lost, but not for ever.
        network.set_blind(true);
        let body =
            json!({ "payment_id": payment, "amount": 300, "currency": "EUR", "reason": "a crack" });
        stand.operator("RefundPayment", &body).await;
        until("the refund was tried again", async || {
            (network.arrived.load(SeqCst) >= 3).then_some(())
        })
        .await;
        network.set_blind(false);
        until("the refund is recorded", async || {
            stand.payment(payment).await.contains(&"PaymentRefunded".to_owned()).then_some(())
        })
        .await;
        assert_eq!(stand.captured().await, BTreeMap::from([(payment, (1_000, 300))]));
        assert_eq!(stand.captured().await, stand.ledger().await);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_expires_and_a_paid_one_does_not() {
    on_database(|database| async move {
        let settings_of_shop = ShopSettings { reservation_ms: 400, ..ShopSettings::default() };
        let stand = Stand::with(database, settings_of_shop).await;
        let worker = stand.worker(stand.sandbox(), settings());
        let (paid, unpaid) = (stand.order(1).await, stand.order(1).await);
        let payment = stand.pay(paid, 1, tokens::SUCCESS).await;
        assert_eq!(stand.settled(payment).await, CAPTURED);
        until("the unpaid order expires", async || {
            let events = stand.events(&format!("order-{unpaid}")).await;
            events.iter().any(|(kind, _)| kind == "OrderExpired").then_some(())
        })
        .await;
        until("no job is left", async || {
            let left = stand.database.store().list(&JobFilter::default(), 10).await.unwrap();
            left.is_empty().then_some(())
        })
        .await;
        let events = stand.events(&format!("order-{paid}")).await;
        assert!(events.iter().all(|(kind, _)| kind != "OrderExpired"), "{events:?}");
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_as_much_at_once_as_it_may() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let mut payments = Vec::new();
        for _ in 0..9 {
            payments.push(stand.buy(tokens::SUCCESS).await);
        }
        let network = Arc::new(Staged::new(stand.sandbox.clone()).hold_answers());
        let worker = stand.worker(network.clone(), WorkerSettings { concurrency: 4, ..settings() });
        until("its hands are full", async || (network.arrived.load(SeqCst) == 4).then_some(()))
            .await;
        network.answers.add_permits(9);
        for payment in payments {
            assert_eq!(stand.settled(payment).await, CAPTURED);
        }
        assert_eq!(network.most_held.load(SeqCst), 4);
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_jobs_end_and_gives_back_those_that_do_not() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()).hold_answers());
        let arrived = async |count| {
            until("it arrived", async || (network.arrived.load(SeqCst) == count).then_some(()))
                .await;
        };
        let patient = stand.worker(network.clone(), settings());
        let ending = stand.buy(tokens::SUCCESS).await;
        arrived(1).await;
        patient.shutdown.cancel();
        let unclaimed = stand.buy(tokens::SUCCESS).await;
        network.answers.add_permits(1);
        patient.stop().await;
        assert_eq!(stand.payment(ending).await, CAPTURED);
        assert_eq!(stand.job_of(ending).await.state, JobState::Done);
        assert_eq!(stand.job_of(unclaimed).await.attempts, 0, "nothing new was begun");

        let hasty = stand.worker(network.clone(), WorkerSettings { drain_ms: 0, ..settings() });
        arrived(2).await;
        hasty.stop().await;
        let job = stand.job_of(unclaimed).await;
        assert_eq!((job.state, job.attempts, job.has_secret), (JobState::Waiting, 0, true));

        let next = stand.worker(stand.sandbox(), settings());
        assert_eq!(stand.settled(unclaimed).await, CAPTURED);
        next.stop().await;
        assert_eq!(stand.captured().await, stand.ledger().await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_workers_is_buried_without_another_try() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let payment = stand.buy(tokens::SUCCESS).await;
        let retry = RetryPolicy { max_attempts: 2, ..settings().retry };
        for _ in 0..2 {
            // Claimed, and never heard of again.
            let store = stand.database.store();
            let claim = store.claim(&KINDS, 1, Duration::from_millis(1)).await.unwrap();
            stand.database.expire_lease(claim.jobs[0].id).await;
        }
        let worker = stand.worker(stand.sandbox(), WorkerSettings { retry, ..settings() });
        let job = stand.job_is(payment, JobState::Dead).await;
        assert_eq!(job.last_error.as_deref(), Some("the last attempt did not end"));
        assert!(stand.ledger().await.is_empty());
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_can_not_be_read_is_a_dead_letter_at_once() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let broken = json!({ "payment_id": 7 });
        let job = stand.database.add_job("charge_payment", 0, &broken, None).await;
        let worker = stand.worker(stand.sandbox(), settings());
        let row = until("it is buried", async || {
            let row = stand.database.store().show(job).await.unwrap().unwrap();
            (row.state == JobState::Dead).then_some(row)
        })
        .await;
        assert_eq!(row.attempts, 1);
        assert!(row.last_error.unwrap().starts_with("the payload can't be read"));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_books_are_the_journals_books() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let network = Arc::new(Staged::new(stand.sandbox.clone()));
        let brief = WorkerSettings {
            lease_ms: 300,
            poll_ms: 50,
            gateway_timeout_ms: 200,
            retry: RetryPolicy { first_ms: 20, ceiling_ms: 200, max_attempts: 200 },
            ..settings()
        };
        let mut workers: Vec<_> =
            (0..3).map(|_| stand.worker(network.clone(), brief.clone())).collect();
        let bag = [
            tokens::SUCCESS,
            tokens::TIMEOUT_AFTER_CHARGE,
            tokens::DECLINED,
            tokens::TIMEOUT_BEFORE,
            tokens::SERVER_ERROR,
            tokens::INSUFFICIENT_FUNDS,
        ];
        let mut payments: Vec<(Uuid, &str)> = Vec::new();
        for round in 0..60 {
            let token = bag[round % bag.len()];
            payments.push((stand.buy(token).await, token));
            match round % 12 {
                3 => network.set_blind(true),
                5 => network.set_deaf(true),
                7 => network.set_blind(false),
                9 => network.set_deaf(false),
                10 => {
                    let next = stand.worker(network.clone(), brief.clone());
                    std::mem::replace(&mut workers[round % 3], next).kill().await;
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        network.set_blind(false);
        network.set_deaf(false);
        for (payment, token) in payments {
            let kinds = stand.settled(payment).await;
            match token {
                tokens::DECLINED | tokens::INSUFFICIENT_FUNDS => assert_eq!(kinds, DECLINED),
                tokens::SERVER_ERROR => assert_eq!(kinds, UNRESOLVED),
                _ => assert_eq!(kinds, CAPTURED, "{token}"),
            }
        }
        for worker in workers {
            worker.stop().await;
        }
        let (journal, ledger) = (stand.captured().await, stand.ledger().await);
        assert_eq!(journal.len(), 30);
        assert_eq!(journal, ledger);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looking_does_not_settle_a_person_does() {
    on_database(|database| async move {
        let stand = Stand::open(database).await;
        let worker = stand.worker(stand.sandbox(), settings());
        let resolve =
            |payment: Uuid, outcome: Value| json!({ "payment_id": payment, "outcome": outcome });

        let order = stand.order(1).await;
        let payment = stand.pay(order, 1, tokens::SERVER_ERROR).await;
        assert_eq!(stand.settled(payment).await, UNRESOLVED);
        let found = json!({ "captured": {
            "gateway_payment_id": "ch_by_hand", "amount": 1_000, "currency": "EUR"
        } });
        stand.operator("ResolvePayment", &resolve(payment, found)).await;
        assert_eq!(stand.payment(payment).await.last().unwrap(), "PaymentCaptured");
        stand.operator("ShipOrder", &json!({ "order_id": order })).await;

        let order = stand.order(1).await;
        let payment = stand.pay(order, 1, tokens::SERVER_ERROR).await;
        assert_eq!(stand.settled(payment).await, UNRESOLVED);
        let nothing = json!({ "not_charged": { "reason": "not in the gateway's books" } });
        stand.operator("ResolvePayment", &resolve(payment, nothing)).await;
        assert_eq!(stand.payment(payment).await.last().unwrap(), "PaymentDeclined");
        let again = stand.pay(order, 1, tokens::SUCCESS).await;
        assert_eq!(stand.settled(again).await, CAPTURED);
        worker.stop().await;
    })
    .await;
}

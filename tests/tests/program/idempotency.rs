//! The same key takes effect once and gives the same answer: at once, again, and across kill -9.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use daybook_tests::{Client, Installation, Role, Shop, order, problem_code};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

/// How often the server is killed.
const KILLS: usize = 8;
/// Clients that send meanwhile.
const SENDERS: usize = 12;

#[tokio::test]
async fn many_clients_with_one_key_have_one_effect_and_one_answer() {
    let installation = Installation::new().await;
    let servers = [installation.start("serve").await, installation.start("serve").await];
    let operator = servers[0].client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let key = installation.key(Role::Customer(Uuid::new_v4())).await;
    let _received =
        operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 50})).await.ok();
    let before = installation.head().await;

    // No id in the body: the backend makes one, and makes it once.
    let body = json!({"currency": "GBP", "lines": [{"sku": "MUG", "quantity": 1}]});
    let answers = join_all((0..100).map(|number| {
        let client = servers[number % 2].client(&key);
        let body = &body;
        async move { client.command("PlaceOrder", "the-one", body).await.ok() }
    }))
    .await;
    for answer in &answers {
        assert_eq!(answer.json(), answers[0].json());
    }
    let replayed = answers.iter().filter(|a| a.headers.contains_key("idempotency-replayed"));
    assert_eq!(replayed.count(), 99, "one of them had the effect");
    assert_eq!(installation.head().await, before + 2, "one OrderPlaced, one StockReserved");

    // Asked for by key, it is the same.
    let client = servers[1].client(&key);
    let by_key = client.get("/v1/commands/by-key/the-one").await.ok().json();
    assert_eq!(by_key["outcome"], "accepted");
    assert_eq!(by_key["result"], answers[0].json()["result"]);

    // The same key with another body, or for another command, is another request.
    let other = json!({"currency": "GBP", "lines": [{"sku": "MUG", "quantity": 2}]});
    let answer = client.command("PlaceOrder", "the-one", &other).await;
    assert_eq!((answer.status, problem_code(&answer).as_str()), (422, "key-reused"));
    let cancel = json!({"order_id": Uuid::new_v4(), "reason": "changed my mind"});
    let answer = client.command("CancelOrder", "the-one", &cancel).await;
    assert_eq!((answer.status, problem_code(&answer).as_str()), (422, "key-reused"));

    // Another principal's equal key is another key.
    let other = servers[0].client(&installation.key(Role::Customer(Uuid::new_v4())).await);
    assert_eq!(other.get("/v1/commands/by-key/the-one").await.status, 404);
    let answer = other.command("PlaceOrder", "the-one", &body).await.ok();
    assert_ne!(answer.json()["result"]["order_id"], answers[0].json()["result"]["order_id"]);
    installation.check_journal().await;
}

#[tokio::test]
async fn a_refusal_is_remembered_even_when_it_would_be_accepted_now() {
    let shop = Shop::open(0).await;
    let body = order(Uuid::new_v4(), 1);
    let first = shop.customer.command("PlaceOrder", "early", &body).await;
    assert_eq!((first.status, problem_code(&first).as_str()), (422, "out-of-stock"));
    let _received =
        shop.operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 5})).await.ok();
    let again = shop.customer.command("PlaceOrder", "early", &body).await;
    assert_eq!(again.status, 422);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let by_key = shop.customer.get("/v1/commands/by-key/early").await.ok().json();
    assert_eq!(by_key["outcome"], "refused");
    let _fresh_key = shop.customer.command("PlaceOrder", "late", &body).await.ok();
}

#[tokio::test]
async fn an_outcome_that_is_unknown_is_said_to_be_and_found_by_its_key() {
    let installation =
        Installation::with_settings(&[("DAYBOOK_COMMAND_DEADLINE_MS", "2000")]).await;
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let database = installation.connect().await;
    database.batch_execute("begin; select journal.lock(1)").await.expect("the tenant's lock");
    let body = json!({"sku": "MUG", "quantity": 7});
    let sent = operator.command("ReceiveStock", "the-one", &body).await;
    assert_eq!((sent.status, problem_code(&sent).as_str()), (503, "outcome-unknown"));
    assert_eq!(sent.headers["retry-after"], "1");
    let unknown = operator.get("/v1/commands/by-key/the-one").await;
    assert_eq!((unknown.status, problem_code(&unknown).as_str()), (404, "key-unknown"));

    database.batch_execute("commit").await.expect("the lock is given back");
    let again = operator.once_with("ReceiveStock", "the-one", &body).await.ok();
    assert_eq!(again.headers["idempotency-replayed"], "true", "{}", again.text);
    let known = operator.get("/v1/commands/by-key/the-one").await.ok().json();
    assert_eq!((&known["outcome"], &known["position"]), (&json!("accepted"), &json!("2")));
    assert_eq!(installation.head().await, 2, "it took effect once");
}

#[tokio::test]
async fn an_open_charge_is_answered_afresh_once_it_is_known() {
    let shop = Shop::open(5).await;
    let id = Uuid::new_v4();
    let _placed = shop.customer.once("PlaceOrder", &order(id, 1)).await.ok();
    let body = daybook_tests::charge(id, 1250, "tok_success");
    let answers = join_all(
        (0..20)
            .map(|_| async { shop.customer.command("ChargePayment", "charge", &body).await.ok() }),
    )
    .await;
    for answer in &answers {
        assert_eq!(answer.json()["result"]["status"], "captured", "{}", answer.text);
        assert_eq!(
            answer.json()["result"]["payment_id"],
            answers[0].json()["result"]["payment_id"]
        );
    }
    let database = shop.installation.connect().await;
    let captured = "select count(*) from journal.events where type = 'PaymentCaptured'";
    let count: i64 = database.query_one(captured, &[]).await.expect("readable").get(0);
    assert_eq!(count, 1, "charged once");
}

/// What is known of a key that was sent.
#[derive(Debug, Clone)]
struct Sent {
    reference: String,
    answer: Option<Value>,
}

/// Sends a new order each time until told to stop; notes keys before sending, answers after.
async fn keep_sending(client: Client, sent: Arc<Mutex<Vec<Sent>>>, stop: Arc<AtomicBool>) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    while !stop.load(Ordering::Relaxed) {
        let reference = format!("R{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let index = {
            let mut sent = sent.lock().await;
            sent.push(Sent { reference: reference.clone(), answer: None });
            sent.len() - 1
        };
        let Ok(answer) = client.try_command("PlaceOrder", &reference, &referring(&reference)).await
        else {
            // The server is gone: this key's outcome is unknown.
            return;
        };
        if answer.status != 503 {
            sent.lock().await[index].answer = Some(answer.ok().json());
        }
    }
}

/// An order without an id: only its key keeps it from being placed twice.
fn referring(reference: &str) -> Value {
    json!({"currency": "GBP", "reference": reference, "lines": [{"sku": "MUG", "quantity": 1}]})
}

#[tokio::test]
async fn across_kills_each_key_takes_effect_once_and_gives_the_same_answer() {
    let installation = Installation::new().await;
    let operator = installation.key(Role::Operator).await;
    let mut server = installation.start("serve").await;
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = server.client(&operator).once("AddProduct", &mug).await.ok();
    let stock = json!({"sku": "MUG", "quantity": 10_000_000});
    let _received = server.client(&operator).once("ReceiveStock", &stock).await.ok();

    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut unknown = 0;
    for _ in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let client = server.client(&operator);
                tokio::spawn(keep_sending(client, Arc::clone(&sent), Arc::clone(&stop)))
            })
            .collect();
        // Not a wait for something: the moment of the kill is to be any moment.
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..400))).await;
        server.kill().await;
        stop.store(true, Ordering::Relaxed);
        join_all(senders).await;

        server = installation.start("serve").await;
        let client = server.client(&operator);
        let mut sent = sent.lock().await;
        let asked = join_all(sent.iter().map(|sent| async {
            let body = referring(&sent.reference);
            loop {
                let answer = client.command("PlaceOrder", &sent.reference, &body).await;
                if answer.status != 503 {
                    break answer.ok().json();
                }
            }
        }))
        .await;
        for (sent, answer) in sent.iter_mut().zip(asked) {
            match &sent.answer {
                None => {
                    unknown += 1;
                    sent.answer = Some(answer);
                }
                Some(known) => assert_eq!(*known, answer, "{}", sent.reference),
            }
        }
    }
    assert!(unknown > 0, "no kill left an answer out, so nothing was shown");

    let sent = sent.lock().await;
    let database = installation.connect().await;
    let rows = database
        .query(include_str!("sql/orders_by_reference.sql"), &[])
        .await
        .expect("the journal can be read");
    let placed: BTreeMap<String, (i64, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    assert_eq!(placed.len(), sent.len(), "every key took effect");
    for sent in sent.iter() {
        let (times, order_id) = &placed[&sent.reference];
        assert_eq!(*times, 1, "{}", sent.reference);
        let answer = sent.answer.as_ref().expect("all are known by now");
        assert_eq!(answer["result"]["order_id"], order_id.as_str(), "{}", sent.reference);
    }
    installation.check_journal().await;
}

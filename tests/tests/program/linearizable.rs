//! Many clients, several servers, kills at any moment: every answer fits one order of the commands.
//!
//! Each client notes when it asked and when it was answered. In the end the history of each stock
//! is checked for linearizability against a simple model, and the journal for oversold units.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use daybook_tests::{
    Client, Installation, Process, Role,
    linearizability::{Checked, Operation, Stock, StockAnswer, StockCall, StockState, check},
};
use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use uuid::Uuid;

/// Products that everybody wants.
const PRODUCTS: usize = 3;
/// Clients that send one command after another.
const CLIENTS: usize = 12;
/// Commands that each of them sends.
const COMMANDS: usize = 250;
/// Servers at once.
const SERVERS: usize = 3;
/// Faults at most.
const FAULTS: usize = 60;
/// How often a command is sent again before its outcome is left unknown.
const TRIES: usize = 6;
/// Longest wait for an answer, seconds: a server that was killed does not answer.
const ANSWER_S: u64 = 20;
/// Steps of the search for an order, of each product.
const STEPS: usize = 5_000_000;

/// A command that was sent, and what became of it.
type Sent = (usize, Operation<StockCall, StockAnswer>);

/// What all clients share.
struct Stage {
    urls: RwLock<Vec<String>>,
    operator: String,
    began: Instant,
    sent: Mutex<Vec<Sent>>,
    sending: AtomicUsize,
}

impl Stage {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a test ends within 500 years")
    }

    /// A client of one of the servers.
    async fn any(&self, random: &mut StdRng) -> Client {
        let urls = self.urls.read().await;
        Client::new(&urls[random.random_range(0..urls.len())], &self.operator)
    }
}

fn sku(product: usize) -> String {
    format!("P-{product}")
}

/// The command's name and body.
fn command(product: usize, call: StockCall) -> (&'static str, Value) {
    let sku = sku(product);
    match call {
        StockCall::Receive(units) => ("ReceiveStock", json!({"sku": sku, "quantity": units})),
        StockCall::Place(units) => (
            // Without an id: only its key keeps it from being placed twice.
            "PlaceOrder",
            json!({"currency": "GBP", "lines": [{"sku": sku, "quantity": units}]}),
        ),
    }
}

/// What an answer says of the stock; `None` where it says nothing.
fn read(product: usize, status: u16, body: &Value) -> Option<StockAnswer> {
    match status {
        200 => {
            let name = format!("stock-{}", sku(product));
            let streams = body["streams"].as_array().expect("an accepted command has streams");
            let stream = streams.iter().find(|stream| stream["stream"] == name);
            let version = stream.and_then(|stream| stream["version"].as_i64());
            Some(StockAnswer::Accepted(version.expect("its stock is among them")))
        }
        422 => {
            let left = body["missing"][0]["available"].as_i64();
            Some(StockAnswer::Refused(left.unwrap_or_else(|| panic!("refused: {body}"))))
        }
        503 => None,
        _ => panic!("{status} {body}"),
    }
}

/// Sends commands, each with a key of its own, again and again until there is an answer or too
/// many tries were made.
async fn send(stage: Arc<Stage>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..COMMANDS {
        let product = random.random_range(0..PRODUCTS);
        let call = if random.random_ratio(1, 4) {
            StockCall::Receive(random.random_range(1..=6))
        } else {
            StockCall::Place(random.random_range(1..=4))
        };
        let (name, body) = command(product, call);
        let key = Uuid::new_v4().to_string();
        let called_at = stage.now();
        let mut answer = None;
        for _ in 0..random.random_range(1..=TRIES) {
            let client = stage.any(&mut random).await;
            let limit = Duration::from_secs(ANSWER_S);
            let sent = tokio::time::timeout(limit, client.try_command(name, &key, &body)).await;
            if let Ok(Ok(came)) = sent {
                answer = read(product, came.status, &came.json());
            }
            if answer.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..100))).await;
        }
        let operation = Operation { call, answer, called_at, answered_at: stage.now() };
        stage.sent.lock().await.push((product, operation));
    }
    stage.sending.fetch_sub(1, Ordering::Relaxed);
}

/// Kills servers and connections at random moments as long as clients send.
async fn disturb(
    installation: &Installation,
    servers: &mut [Option<Process>],
    stage: &Stage,
    seed: u64,
) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let database = installation.connect().await;
    let mut faults = 0;
    while faults < FAULTS && stage.sending.load(Ordering::Relaxed) > 0 {
        // Not a wait for something: the moment of the fault is to be any moment.
        tokio::time::sleep(Duration::from_millis(random.random_range(10..250))).await;
        faults += 1;
        if random.random_ratio(1, 2) {
            let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                        where datname = current_database() and pid <> pg_backend_pid()";
            database.execute(kill, &[]).await.expect("a superuser may end connections");
            continue;
        }
        let number = random.random_range(0..servers.len());
        if let Some(server) = servers[number].take() {
            server.kill().await;
        }
        let server = installation.start("serve").await;
        server.url().clone_into(&mut stage.urls.write().await[number]);
        servers[number] = Some(server);
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_fits_one_order_whatever_is_killed() {
    let seed = std::env::var("TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    println!("TEST_SEED={seed}");
    let installation = Installation::new().await;
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(Some(installation.start("serve").await));
    }
    let urls = servers.iter().flatten().map(|server| server.url().to_owned()).collect();
    let stage = Arc::new(Stage {
        urls: RwLock::new(urls),
        operator: installation.key(Role::Operator).await,
        began: Instant::now(),
        sent: Mutex::default(),
        sending: AtomicUsize::new(CLIENTS),
    });
    for product in 0..PRODUCTS {
        let body = json!({"sku": sku(product), "name": "Mug", "price": 1250, "currency": "GBP"});
        let client = stage.any(&mut StdRng::seed_from_u64(seed)).await;
        let _added = client.once("AddProduct", &body).await.ok();
    }

    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let seed = seed.wrapping_add(u64::try_from(number).unwrap_or(0) + 1);
            tokio::spawn(send(Arc::clone(&stage), seed))
        })
        .collect();
    let faults = disturb(&installation, &mut servers, &stage, seed).await;
    for client in join_all(clients).await {
        client.expect("no client panics");
    }

    let sent = stage.sent.lock().await;
    let count = |of: &dyn Fn(Option<&StockAnswer>) -> bool| {
        sent.iter().filter(|(_, operation)| of(operation.answer.as_ref())).count()
    };
    let accepted = count(&|answer| matches!(answer, Some(StockAnswer::Accepted(_))));
    let refused = count(&|answer| matches!(answer, Some(StockAnswer::Refused(_))));
    let unknown = count(&|answer| answer.is_none());
    println!("{accepted} accepted, {refused} refused, {unknown} unknown, {faults} faults");
    assert_eq!(sent.len(), CLIENTS * COMMANDS);
    assert!(faults > FAULTS / 6, "there was something to get over");
    assert!(accepted > 0 && refused > 0 && unknown < sent.len() / 2, "most have an answer");
    for product in 0..PRODUCTS {
        let history: Vec<_> =
            sent.iter().filter(|(of, _)| *of == product).map(|(_, operation)| *operation).collect();
        let empty = StockState { available: 0, version: 0 };
        match check(&Stock::of(&history), empty, &history, STEPS) {
            Checked::Linearizable(_) => {}
            other => panic!("TEST_SEED={seed}, {}: {other:?}\n{history:?}", sku(product)),
        }
    }
    // Nothing oversold at any moment, and the journal holds what was answered.
    installation.check_journal().await;
    for server in servers.into_iter().flatten() {
        assert!(server.stop().await.success());
    }
}

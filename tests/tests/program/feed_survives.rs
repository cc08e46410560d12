//! The feed while parts of it are killed, and while Kafka is away: every event takes effect once, in
//! order. `scripts/chaos feed` does the same for longer, with three brokers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use daybook_tests::{Client, Cluster, Installation, Process, Role, until};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Longest wait for what must come.
const SOON: Duration = Duration::from_mins(2);
/// Who sends commands at once.
const SENDERS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Relay,
    Projector,
    Kafka,
    Postgres,
}

/// An installation on servers of its own, and its server with a product.
async fn shop() -> (Process, Client, Installation, Cluster) {
    let cluster = Cluster::start_with_kafka();
    let settings = [("DAYBOOK_KAFKA_BROKERS", cluster.kafka_brokers())];
    let installation = Installation::on_server(cluster.url(), &settings).await;
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    (server, operator, installation, cluster)
}

/// Takes one mug in, again under the same key until it is accepted.
async fn take_one_in(client: &Client) {
    let (key, body) = (Uuid::new_v4().to_string(), json!({"sku": "MUG", "quantity": 1}));
    loop {
        match client.try_command("ReceiveStock", &key, &body).await {
            Ok(answer) if answer.status < 300 => return,
            Ok(answer) => assert!(answer.status >= 500, "{} {}", answer.status, answer.text),
            Err(_connection) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Takes mugs in until told to stop; how many.
fn sender(client: Client, stop: Arc<AtomicBool>) -> JoinHandle<i64> {
    tokio::spawn(async move {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            take_one_in(&client).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sent
    })
}

/// Mugs in stock, no older than the position.
async fn mugs_at(client: &Client, position: i64) -> Value {
    until("the read model", SOON, async || {
        let path = "/v1/operator/stock/MUG";
        let answer = client.get_at(path, &position.to_string()).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await
}

/// Waits until the topic holds everything, and checks what is promised of it.
async fn topic_holds(installation: &Installation, head: i64) -> Value {
    until("the topic to hold everything", SOON, async || {
        // Fails where there is a gap, or something out of order.
        let survey = installation.run_ok(&["bench", "topic"]).await;
        let survey: Value = serde_json::from_str(&survey).expect("JSON");
        (survey["positions"]["main"] == head).then_some(survey)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_event_takes_effect_once_and_in_order() {
    let (server, operator, installation, cluster) = shop().await;
    let mut relays = vec![installation.start("relay").await, installation.start("relay").await];
    let mut projectors =
        vec![installation.start("project").await, installation.start("project").await];
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> =
        (0..SENDERS).map(|_| sender(operator.clone(), Arc::clone(&stop))).collect();

    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut victims = [Victim::Relay, Victim::Projector, Victim::Kafka, Victim::Postgres].repeat(2);
    victims.shuffle(&mut random);
    for victim in victims {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2500))).await;
        println!("killing {victim:?}");
        match victim {
            Victim::Relay => replace(&installation, &mut relays, "relay", &mut random).await,
            Victim::Projector => {
                replace(&installation, &mut projectors, "project", &mut random).await;
            }
            Victim::Kafka => {
                cluster.kill_kafka();
                cluster.start_kafka_again();
            }
            Victim::Postgres => {
                cluster.kill();
                cluster.start_again();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut accepted = 0;
    for sender in senders {
        accepted += sender.await.expect("no sender panics");
    }

    let head = installation.head().await;
    assert_eq!(head, accepted + 1, "an event a command, and the product");
    let survey = topic_holds(&installation, head).await;
    println!("{survey}");
    assert_eq!(mugs_at(&operator, head).await["on_hand"], accepted);
    installation.check_journal().await;
    let rows = operator.get("/v1/operator/stock").await.ok().text;
    let _said = installation.run_ok(&["projections", "rebuild", "--all", "--from", "kafka"]).await;
    assert_eq!(operator.get_at("/v1/operator/stock", &head.to_string()).await.ok().text, rows);
    for process in relays.into_iter().chain(projectors).chain([server]) {
        assert!(process.stop().await.success(), "what was not killed has survived");
    }
}

/// Kills one of the processes, and starts another instead.
async fn replace(
    installation: &Installation,
    processes: &mut Vec<Process>,
    role: &str,
    random: &mut StdRng,
) {
    let victim = processes.swap_remove(random.random_range(0..processes.len()));
    victim.kill().await;
    processes.push(installation.start(role).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_commands_are_accepted_and_answers_say_how_old_they_are() {
    let (server, operator, installation, cluster) = shop().await;
    let relay = installation.start("relay").await;
    let projector = installation.start("project").await;
    for _ in 0..5 {
        take_one_in(&operator).await;
    }
    assert_eq!(mugs_at(&operator, 6).await["on_hand"], 5);

    cluster.kill_kafka();
    for taken_in in 6..=60 {
        take_one_in(&operator).await;
        let answer = operator.get("/v1/operator/stock/MUG").await.ok();
        let position = answer.headers["daybook-position"].to_str().expect("ASCII");
        let position: i64 = position.parse().expect("a number");
        // What it shows is what had happened by the position that it names.
        assert!(position <= taken_in + 1, "{position} after {taken_in}");
        assert_eq!(answer.json()["on_hand"], position - 1, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let head = installation.head().await;
    assert_eq!(head, 61);

    cluster.start_kafka_again();
    let survey = topic_holds(&installation, head).await;
    assert_eq!(survey["gaps"], 0);
    take_one_in(&operator).await;
    assert_eq!(mugs_at(&operator, 62).await["on_hand"], 61);
    for process in [relay, projector, server] {
        assert!(process.stop().await.success());
    }
}

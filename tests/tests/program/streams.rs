//! The journal on the command line and over HTTP: streams, the live end, tenants; constant memory.

use std::time::Duration;

use daybook_tests::{Installation, Role, Shop};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Longest wait for a line that must come.
const SOON: Duration = Duration::from_secs(30);
/// Events of the long journal, about 2 kB each.
const LONG: i64 = 100_000;
/// What serving all of it may take, beside what an idle server has.
const MOST_BYTES: usize = 64 << 20;

fn failed(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn streams_are_shown_and_listed_and_mistakes_are_explained() {
    let shop = Shop::open(5).await;
    for number in 0..3 {
        let body = json!({"sku": "MUG", "quantity": number + 1});
        let _received = shop.operator.once("ReceiveStock", &body).await.ok();
    }
    let installation = &shop.installation;
    let versions = async |arguments: &[&str]| -> Vec<i64> {
        let mut all = vec!["streams", "show", "stock-MUG", "--json"];
        all.extend(arguments);
        let text = installation.run_ok(&all).await;
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.map(|event| event["version"].as_i64().expect("a version")).collect()
    };
    assert_eq!(versions(&[]).await, [1, 2, 3, 4]);
    assert_eq!(versions(&["--backward"]).await, [4, 3, 2, 1]);
    assert_eq!(versions(&["--from", "3"]).await, [3, 4]);
    assert_eq!(versions(&["--backward", "--from", "3", "--limit", "2"]).await, [3, 2]);
    let text = installation.run_ok(&["streams", "show", "stock-MUG", "--limit", "1"]).await;
    assert!(text.contains("stock-MUG 1  StockReceived  {"), "{text}");

    let listed = installation.run_ok(&["streams", "list"]).await;
    let names: Vec<&str> = listed.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(names, ["product-MUG", "stock-MUG"]);
    let listed = installation.run_ok(&["streams", "list", "--prefix", "stock-"]).await;
    assert!(listed.starts_with("stock-MUG ") && listed.contains("version         4"), "{listed}");
    let none = installation.run_ok(&["streams", "list", "--after", "stock-MUG"]).await;
    assert_eq!(none, "");

    let unknown = failed(&installation.run(&["streams", "show", "stock-CUP"]).await);
    assert!(unknown.contains("streams list --prefix stock-"), "{unknown}");
    let beyond = failed(&installation.run(&["streams", "show", "stock-MUG", "--from", "9"]).await);
    assert!(beyond.contains("ends at version 4"), "{beyond}");
    let wrong = failed(&installation.run(&["streams", "tail", "--type", "Nope"]).await);
    assert!(wrong.contains("\"Nope\"") && wrong.contains("OrderPlaced"), "{wrong}");
    for page in [["streams", "show"], ["streams", "list"], ["streams", "tail"], ["tenants", "add"]]
    {
        let help = installation.run_ok(&[page[0], page[1], "--help"]).await;
        assert!(help.contains("Example"), "{help}");
    }
}

#[tokio::test]
async fn a_tail_prints_what_is_there_then_what_comes_and_ends_quietly() {
    let shop = Shop::open(5).await;
    let mut tail = shop
        .installation
        .spawn(&["streams", "tail", "--from", "1", "--prefix", "stock-", "--json"]);
    let output = tail.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut next = async || -> Value {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a line in time");
        let line = line.expect("readable").expect("it has not ended");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next().await["data"]["quantity"], 5, "what was there");
    for quantity in 11..=13 {
        let body = json!({"sku": "MUG", "quantity": quantity});
        let _received = shop.operator.once("ReceiveStock", &body).await.ok();
        let event = next().await;
        assert_eq!(event["data"]["quantity"], quantity, "live: {event}");
    }
    let pid = tail.id().expect("it runs").to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(sent.expect("kill can be run").success());
    let ended = tokio::time::timeout(SOON, tail.wait()).await.expect("Ctrl-C ends it");
    assert!(ended.expect("it can be waited for").success());
}

#[tokio::test]
async fn whoever_stops_reading_ends_the_output_without_an_error() {
    let shop = Shop::open(5).await;
    let mut tail = shop.installation.spawn(&["streams", "tail", "--from", "1"]);
    drop(tail.stdout.take());
    let _received =
        shop.operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 1})).await.ok();
    let ended = tokio::time::timeout(SOON, tail.wait()).await.expect("it ends");
    assert!(ended.expect("it can be waited for").success(), "a broken pipe is no error");
}

#[tokio::test]
async fn a_tenant_is_added_once_and_works_after_a_start() {
    let installation = Installation::new().await;
    let made = installation.run_ok(&["tenants", "add", "second-shop"]).await;
    assert!(made.contains("is made") && made.contains("started again"), "{made}");
    let again = installation.run_ok(&["tenants", "add", "second-shop"]).await;
    assert!(again.contains("there already"), "{again}");
    let listed = installation.run_ok(&["tenants", "list"]).await;
    let names: Vec<&str> = listed.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(names, ["main", "second-shop"]);
    let wrong = failed(&installation.run(&["tenants", "add", "Second Shop"]).await);
    assert!(wrong.contains("[a-z][a-z0-9-]*"), "{wrong}");

    let server = installation.start("serve").await;
    let created = ["--tenant", "second-shop", "keys", "create", "--quiet", "--role", "operator"];
    let key = installation.run_ok(&created).await;
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let added = server.client(key.trim()).once("AddProduct", &mug).await.ok();
    assert_eq!(added.position(), "1", "a journal of its own");
    let shown = installation.run_ok(&["--tenant", "second-shop", "streams", "list"]).await;
    assert!(shown.starts_with("product-MUG "), "{shown}");
    assert_eq!(installation.run_ok(&["streams", "list"]).await, "", "nothing in main");
}

#[tokio::test]
async fn a_long_journal_passes_through_a_server_in_constant_memory_to_a_slow_client() {
    let installation = Installation::new().await;
    let database = installation.connect().await;
    database
        .execute(include_str!("sql/long_journal.sql"), &[&LONG])
        .await
        .expect("events can be inserted");
    let server = installation.start("serve").await;
    let analyst = installation.key(Role::Analyst).await;
    let _warm = server.client(&analyst).get("/v1/events?limit=10").await.ok();
    let before = server.peak_memory();

    let http = reqwest::Client::new();
    let url = format!("{}/v1/events?limit={LONG}", server.url());
    let answer = http.get(url).bearer_auth(&analyst).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["daybook-position"], LONG.to_string());
    assert!(!answer.headers().contains_key("link"), "it reaches the end");
    let mut body = answer.bytes_stream();
    let (mut bytes, mut lines) = (0, 0);
    while let Some(piece) = body.next().await {
        let piece = piece.expect("the answer is whole");
        bytes += piece.len();
        lines += piece.iter().map(|byte| i64::from(*byte == b'\n')).sum::<i64>();
        // A client that thinks about what it reads.
        if bytes % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(lines, LONG);
    assert!(bytes > 2 * MOST_BYTES, "{bytes} bytes were sent");
    let taken = server.peak_memory().saturating_sub(before);
    assert!(taken < MOST_BYTES, "{taken} bytes of memory for {bytes} bytes sent");
}

//! `daybook replay`: the same events again, at a pace, and nothing else.

use std::{fs, time::Duration};

use daybook_tests::{Installation, Shop};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Longest wait for what must come.
const SOON: Duration = Duration::from_secs(30);
/// Events of the long journal, about 2 kB each.
const LONG: i64 = 20_000;

fn failed(output: &std::process::Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn long() -> Installation {
    let installation = Installation::new().await;
    let database = installation.connect().await;
    let events = include_str!("sql/long_journal.sql");
    database.execute(events, &[&LONG]).await.expect("events can be inserted");
    installation
}

fn positions(text: &str) -> Vec<i64> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|event| event["position"].as_i64().expect("a position")).collect()
}

#[tokio::test]
async fn a_range_is_played_as_it_is_listed_and_nothing_is_written() {
    let shop = Shop::open(5).await;
    for quantity in 1..=3 {
        let body = json!({"sku": "MUG", "quantity": quantity});
        let _received = shop.operator.once("ReceiveStock", &body).await.ok();
    }
    let installation = &shop.installation;
    let head = installation.head().await;
    let database = installation.connect().await;
    let rows = async || -> Vec<i64> {
        let count = "select (select count(*) from journal.events), \
            (select count(*) from journal.commands), (select count(*) from journal.jobs)";
        let row = database.query_one(count, &[]).await.expect("rows can be counted");
        (0..3).map(|column| row.get(column)).collect()
    };
    let before = rows().await;

    let all = installation.run_ok(&["replay"]).await;
    assert_eq!(positions(&all), (1..=head).collect::<Vec<_>>());
    let listed = installation.run_ok(&["streams", "show", "stock-MUG", "--json"]).await;
    assert_eq!(installation.run_ok(&["replay", "--prefix", "stock-"]).await, listed);
    let added = installation.run_ok(&["replay", "--type", "ProductAdded"]).await;
    assert_eq!(positions(&added), [1]);
    let range = installation.run_ok(&["replay", "--from", "2", "--until", "3"]).await;
    assert_eq!(positions(&range), [2, 3]);
    // By time: from the third event's own on.
    let third: Value = serde_json::from_str(all.lines().nth(2).expect("a line")).expect("JSON");
    let time = third["recorded_at"].as_str().expect("a time");
    assert_eq!(positions(&installation.run_ok(&["replay", "--from", time]).await)[0], 3);
    let until = installation.run_ok(&["replay", "--until", time]).await;
    assert_eq!(positions(&until).last(), Some(&3));
    assert_eq!(installation.run_ok(&["replay", "--from", "100"]).await, "");
    assert_eq!(rows().await, before, "a replay only reads");

    let wrong = failed(&installation.run(&["replay", "--type", "Nope"]).await);
    assert!(wrong.contains("\"Nope\"") && wrong.contains("OrderPlaced"), "{wrong}");
    failed(&installation.run(&["replay", "--rate", "1", "--pace", "1"]).await);
    let help = installation.run_ok(&["replay", "--help"]).await;
    assert!(help.contains("Examples") && help.contains("--pace 60"), "{help}");
}

#[tokio::test]
async fn a_file_goes_on_after_an_interruption_where_the_program_says() {
    let installation = long().await;
    let path = installation.home().join("events.ndjson");
    let out = path.display().to_string();
    // Slow enough to be interrupted in the middle.
    let arguments = ["replay", "--out", &out, "--rate", "2000"];
    let mut replay = installation.spawn_with_errors(&arguments);
    let begun = async {
        while fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, begun).await.expect("it begins");
    let pid = replay.id().expect("it runs").to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(sent.expect("kill can be run").success());
    let errors = replay.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(errors).lines();
    let mut from = None;
    while let Some(line) = lines.next_line().await.expect("readable") {
        from = line.split_once("go on with --from ").map(|(_, from)| from.to_owned()).or(from);
    }
    let ended = tokio::time::timeout(SOON, replay.wait()).await.expect("Ctrl-C ends it");
    assert_eq!(ended.expect("it can be waited for").code(), Some(130));
    let from = from.expect("it says from where to go on");
    let written = fs::read_to_string(&path).expect("the file can be read");
    assert!(positions(&written).len() < usize::try_from(LONG).expect("it fits"));

    let refused = failed(&installation.run(&["replay", "--out", &out, "--from", &from]).await);
    assert!(refused.contains("--append"), "{refused}");
    installation.run_ok(&["replay", "--out", &out, "--append", "--from", &from]).await;
    let written = fs::read_to_string(&path).expect("the file can be read");
    assert_eq!(positions(&written), (1..=LONG).collect::<Vec<_>>(), "no gap and no repeat");
}

#[tokio::test]
async fn a_topic_is_filled_but_never_the_feeds_own() {
    let installation = long().await;
    let settings = installation.run_ok(&["settings"]).await;
    let own = settings.lines().find_map(|line| line.trim().strip_prefix("topic = "));
    let own = own.expect("the topic is a setting").trim().trim_matches('"').to_owned();
    let refused = failed(&installation.run(&["replay", "--topic", &own]).await);
    assert!(refused.contains("the relay alone writes to"), "{refused}");

    let topic = format!("{own}-replayed");
    let output = installation.run(&["replay", "--topic", &topic, "--from", "11"]).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("19,990 events of positions 11 to 20000"), "{told}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn whoever_stops_reading_ends_a_replay_without_an_error() {
    let installation = long().await;
    let mut replay = installation.spawn(&["replay"]);
    drop(replay.stdout.take());
    let ended = tokio::time::timeout(SOON, replay.wait()).await.expect("it ends");
    assert!(ended.expect("it can be waited for").success(), "a broken pipe is no error");
}

//! `daybook feed`: the topic compared with the journal, and made anew.

use std::time::Duration;

use daybook_tests::Installation;

/// Longest wait for the relay.
const SOON: Duration = Duration::from_mins(1);
/// Events, about 2 kB each.
const EVENTS: i64 = 2_000;

async fn agrees(installation: &Installation) {
    let last = format!("tenant main: positions 1 to {EVENTS}\n");
    let agreed = async {
        loop {
            let output = installation.run(&["feed", "check"]).await;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{output:?}");
            if text.contains(&last) {
                assert!(text.contains("2,000 records, 0 of them repeats"), "{text}");
                assert!(text.contains("topic and journal agree"), "{text}");
                return;
            }
        }
    };
    tokio::time::timeout(SOON, agreed).await.expect("the relay publishes everything");
}

#[tokio::test]
async fn a_topic_is_checked_and_made_anew_while_no_relay_runs() {
    let installation = Installation::new().await;
    let database = installation.connect().await;
    let events = include_str!("sql/long_journal.sql");
    database.execute(events, &[&EVENTS]).await.expect("events can be inserted");
    let relay = installation.start("relay").await;
    agrees(&installation).await;

    let failed = async |arguments: &[&str]| -> String {
        let output = installation.run(arguments).await;
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let busy = failed(&["feed", "recreate", "--yes"]).await;
    assert!(busy.contains("a relay is at work") && busy.contains("stop every relay"), "{busy}");
    assert!(relay.stop().await.success());
    let unasked = failed(&["feed", "recreate"]).await;
    assert!(unasked.contains("--yes"), "{unasked}");
    let made = installation.run_ok(&["feed", "recreate", "--yes"]).await;
    assert!(made.contains("is new and empty"), "{made}");
    let empty = installation.run_ok(&["feed", "check"]).await;
    assert!(empty.contains(&format!(", {EVENTS} behind the journal")), "{empty}");

    let _relay = installation.start("relay").await;
    agrees(&installation).await;
    for page in ["check", "recreate"] {
        let help = installation.run_ok(&["feed", page, "--help"]).await;
        assert!(help.contains("Example"), "{help}");
    }
}

//! Reading a long journal costs the memory of a page, however slow the consumer is. Alone in its
//! process, whose memory is what is measured.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::pin::pin;

use bank::Database;
use daybook_journal::{EventFilter, Heads};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;

/// What the journal's contents take, at least.
const CONTENTS: usize = 200_000 * 1_000;
/// What reading them may take.
const MOST: usize = 48 << 20;

/// The most memory that this process has had so far, bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn two_hundred_thousand_events_pass_through_the_memory_of_a_few_pages() {
    let database = Database::create().await;
    let client = database.client().await;
    client.execute(include_str!("fill.sql"), &[&200_000_i32, &1_000_i32]).await.unwrap();
    let reader = database.reader();
    let before = peak();

    let mut count = 0;
    let mut events = pin!(reader.read(1, 0, EventFilter::default()));
    while let Some(event) = events.try_next().await.unwrap() {
        count += 1;
        assert_eq!(event.position, count);
        if count % 50 == 0 {
            // A slow consumer: whatever could be read ahead would be read now.
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(count, 200_000);

    let (heads, task) = Heads::new(database.config(), reader.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let all = EventFilter { until: Some(200_000), ..EventFilter::default() };
    let mut followed = 0;
    let mut events = pin!(reader.follow(1, 0, all, &heads));
    while let Some(event) = events.try_next().await.unwrap() {
        followed += 1;
        assert_eq!(event.position, followed);
    }
    assert_eq!(followed, 200_000);
    stop.cancel();

    let taken = peak() - before;
    assert!(taken < MOST, "{taken} bytes for {CONTENTS} bytes of contents");
    database.drop().await;
}

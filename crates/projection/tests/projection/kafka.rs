//! Through the real topic: following it, and rebuilding from nothing but it.

use std::time::Duration;

use crate::kit::{append, caught_up, connect, history::History, installed, rows, shipped, until};
use daybook_feed::{FeedConfig, Relay, ensure_topic};
use daybook_journal::Heads;
use daybook_projection::{
    Projector, ProjectorSettings, RebuildDeps, RebuildError, Source, rebuild, status,
};
use tokio_util::sync::CancellationToken;

crate::kit::in_both_layouts!(rows_follow_the_topic_and_are_rebuilt_from_it_alone,);

async fn rows_follow_the_topic_and_are_rebuilt_from_it_alone() {
    let brokers = std::env::var("DAYBOOK_TEST_KAFKA_BROKERS").expect(
        "DAYBOOK_TEST_KAFKA_BROKERS is not set: this test needs a real Kafka; \
         run ./scripts/test, which starts one",
    );
    let catalogue = shipped();
    let (database, client) = installed(&catalogue).await;
    daybook_feed::migrate(&mut connect(&database.journal_config).await).await.unwrap();
    let feed = FeedConfig {
        brokers,
        topic: format!("projection-test-{}", uuid::Uuid::new_v4().simple()),
        ..FeedConfig::default()
    };
    ensure_topic(&feed).await.unwrap();
    let reader = database.reader();
    let stop = CancellationToken::new();
    let (heads, task) = Heads::new(database.journal_config.clone(), reader.clone());
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(task.run(stop.clone()));
    let relay = Relay::new(
        feed.clone(),
        database.journal_pool(),
        database.journal_config.clone(),
        reader.clone(),
        heads,
    );
    tasks.spawn(relay.run(stop.clone()));
    let settings = ProjectorSettings {
        group: feed.topic.clone(),
        // so long that only Kafka can have brought the rows
        heal_after: Duration::from_mins(10),
        ..ProjectorSettings::default()
    };
    let projector = Projector::new(database.config.clone(), reader.clone(), settings);
    tasks.spawn(projector.run(feed.clone(), stop.clone()));

    let history = History::of_length(21, 3_000).with_old_orders();
    let length = i64::try_from(history.events.len()).unwrap();
    append(&database.journal, 1, &history.events).await;
    caught_up(&database, &[]).await;
    let before = rows(&client, "orders").await;

    // the journal may not even be looked at
    database.journal.batch_execute("alter table journal.events rename to hidden").await.unwrap();
    client
        .batch_execute(
            "update analyst.stock set shipped = 0; delete from analyst.orders; \
             update projection.checkpoints set error = '{\"message\": \"x\"}'",
        )
        .await
        .unwrap();
    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: Some(feed.clone()),
        piece_positions: None,
        shares: None,
        anew: false,
    };
    for projection in catalogue.projections() {
        let told = std::sync::Mutex::new((0, 0));
        let report = rebuild(&deps, &projection.name, Source::Kafka, &|done, total| {
            *told.lock().unwrap() = (done, total);
        })
        .await
        .unwrap();
        assert_eq!(report.positions, [(1, length)]);
        assert_eq!(told.into_inner().unwrap().0, u64::try_from(length).unwrap());
        let changed = match projection.name.as_str() {
            "orders" => i64::try_from(before.len()).unwrap(),
            "stock" => 6,
            _ => 0,
        };
        assert_eq!(report.changed_rows, changed, "{}", projection.name);
    }
    let refused = rebuild(&deps, "stock", Source::Journal, &|_, _| {}).await;
    assert!(matches!(refused, Err(RebuildError::Journal(_))), "{refused:?}");
    database.journal.batch_execute("alter table journal.hidden rename to events").await.unwrap();
    assert_eq!(rows(&client, "orders").await, before);

    // and what comes after goes on from there
    append(&database.journal, 1, &History::of_length(22, 100).events).await;
    until("the new events are in the rows", || async {
        let all = status(&client, &database.reader()).await.unwrap();
        all.iter().all(|s| s.position > length && s.position == s.head && s.error.is_none())
    })
    .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let report = rebuild(&deps, "orders", Source::Journal, &|_, _| {}).await.unwrap();
    assert_eq!(report.changed_rows, 0);
}

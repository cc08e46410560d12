//! What is told of a batch: which rows it has changed, to everybody who listens.

use daybook_projection::{News, ReadChange, ReadPositions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kit::{NewEvent, Running, append, installed, journal, shipped};

crate::kit::in_both_layouts!(a_batch_tells_the_keys_of_the_rows_that_it_has_changed,);

fn received(sku: &str) -> NewEvent {
    NewEvent {
        stream: format!("stock-{sku}"),
        kind: "StockReceived",
        data: json!({"sku": sku, "quantity": 1}),
        occurred_at: chrono::Utc::now(),
    }
}

/// The first change of a projection that stands at a position or beyond.
async fn change(
    changes: &mut daybook_projection::Changes,
    projection: &str,
    position: i64,
) -> ReadChange {
    loop {
        match changes.next().await.unwrap() {
            News::Changed(change)
                if &*change.projection == projection && change.position >= position =>
            {
                return change;
            }
            News::Changed(_) | News::Missed => {}
        }
    }
}

async fn a_batch_tells_the_keys_of_the_rows_that_it_has_changed() {
    let (database, _client) = installed(&shipped()).await;
    let shutdown = CancellationToken::new();
    let (positions, task) = ReadPositions::new(database.config.clone());
    tokio::spawn(task.run(shutdown.clone()));
    let mut changes = positions.changes();
    let running = Running::start(&database).await;

    append(&database.journal, 1, &[received("A")]).await;
    running.send(journal(&database, 1).await).await;
    let first = change(&mut changes, "stock", 1).await;
    assert_eq!(first.keys, None, "what a process before this one did is unknown");

    append(&database.journal, 1, &[received("B"), received("A"), received("B")]).await;
    let events = journal(&database, 1).await;
    running.send(events[1..].to_vec()).await;
    let second = change(&mut changes, "stock", 4).await;
    let keys = second.keys.unwrap();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!((second.tenant, keys), (1, vec!["[\"A\"]", "[\"B\"]"]));

    // More than a payload holds are not named.
    let many: Vec<NewEvent> = (0..2_000).map(|n| received(&format!("many-{n}"))).collect();
    append(&database.journal, 1, &many).await;
    let events = journal(&database, 1).await;
    running.send(events[4..].to_vec()).await;
    assert_eq!(change(&mut changes, "stock", 2_004).await.keys, None);
    running.stop().await;
    shutdown.cancel();
}

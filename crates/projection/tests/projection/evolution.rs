//! Events of old versions are folded as what they are in the current one, and another upcaster
//! makes another version of what reads its type.

use crate::kit::{
    Database, Running, append, caught_up, history::History, installed, journal, rows, shipped,
    until, upcasters,
};
use daybook_journal::{Upcaster, Upcasters};
use daybook_projection::{RebuildDeps, Source, VersionState, install, rebuild, status};
use tokio_postgres::Client;

crate::kit::in_both_layouts!(old_events_are_folded_like_new_ones,);

async fn all_rows(client: &Client) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for projection in shipped().projections() {
        all.push(rows(client, &projection.name).await);
    }
    all
}

/// Folds a history as it comes from Kafka: in stored form.
async fn folded(database: &Database, client: &Client, history: &History) -> Vec<Vec<String>> {
    append(&database.journal, 1, &history.events).await;
    let running = Running::start(database).await;
    running.send(journal(database, 1).await).await;
    caught_up(database, &[]).await;
    running.stop().await;
    all_rows(client).await
}

async fn old_events_are_folded_like_new_ones() {
    let (database, client) = installed(&shipped()).await;
    let history = || History::of_length(31, 600);
    let new = folded(&database, &client, &history()).await;

    let (database, client) = installed(&shipped()).await;
    let mixed = history().with_old_orders();
    let old = mixed.events.iter().filter(|e| e.kind == "OrderPlaced" && e.data["tax"].is_null());
    assert!(old.count() > 10);
    assert_eq!(folded(&database, &client, &mixed).await, new, "live");

    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        // so that some pieces are folded onto rows
        piece_positions: Some(250),
        shares: None,
        anew: false,
    };
    client.batch_execute("delete from analyst.orders").await.unwrap();
    for projection in shipped().projections() {
        rebuild(&deps, &projection.name, Source::Journal, &|_, _| {}).await.unwrap();
    }
    assert_eq!(all_rows(&client).await, new, "from the journal");
}

#[tokio::test]
async fn what_an_upcaster_concerns_is_folded_again_with_it_and_nothing_else() {
    let (database, mut client) = installed(&shipped()).await;
    folded(&database, &client, &History::of_length(32, 300)).await;
    let mut steps = upcasters().steps().to_vec();
    // A correction of history: what was adjusted was one more.
    let sql = "data || jsonb_build_object('quantity', (data->>'quantity')::int + 1)";
    steps.push(Upcaster { kind: "StockAdjusted", from: 1, sql });
    let newer = Upcasters::new(steps).unwrap();
    let catalogue = shipped().reading(&newer);
    newer.install(&client).await.unwrap();
    install(&mut client, &catalogue).await.unwrap();
    let built =
        "select array_agg(projection)::text from projection.versions where state = 'building'";
    let built: String = client.query_one(built, &[]).await.unwrap().get(0);
    assert_eq!(built, "{stock}");

    let adjusted = "select sum((data->>'quantity')::bigint)::bigint, count(*)
                    from journal.events where type = 'StockAdjusted'";
    let row = client.query_one(adjusted, &[]).await.unwrap();
    let (sum, count): (i64, i64) = (row.get(0), row.get(1));
    assert!(count > 0);
    let running = Running::start(&database).await;
    running.send(journal(&database, 1).await).await;
    until("the new version answers", async || {
        status(&client, &database.reader())
            .await
            .unwrap()
            .iter()
            .all(|s| s.state != VersionState::Building)
    })
    .await;
    // It answers from shortly before the head on.
    caught_up(&database, &[]).await;
    running.stop().await;
    let others = "select sum(case type when 'StockShipped' then -1 else 1 end
                             * (data->>'quantity')::bigint)::bigint
                  from journal.events
                  where type in ('StockReceived', 'StockReturned', 'StockShipped')";
    let others: i64 = client.query_one(others, &[]).await.unwrap().get(0);
    let on_hand = "select sum(on_hand)::bigint from analyst.stock";
    let on_hand: i64 = client.query_one(on_hand, &[]).await.unwrap().get(0);
    assert_eq!(on_hand, others + sum + count);
}

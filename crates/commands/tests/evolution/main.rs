//! The shop's events over their versions, against a real PostgreSQL: every version ever written is
//! read, and old and new processes write side by side.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod kit;

use std::{fs, path::Path};

use daybook_commands::{Authority, ShopModel, ShopSettings, schemas};
use daybook_journal::{Activations, Model, SubmitError, Verdict, canonical};
use kit::{Database, Shopfront};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is activated where version 2 of nothing is.
fn first_only() -> Activations {
    let activations = Activations::none(&schemas::event_versions());
    for first in schemas::first_versions() {
        activations.activate(first.kind, first.version);
    }
    activations
}

/// Frozen samples: type, version, contents.
fn samples() -> Vec<(String, i16, Value)> {
    let mut samples = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
    for kind in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(kind.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let kind = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let version = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let contents = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            samples.push((kind.to_owned(), version, contents));
        }
    }
    samples
}

#[tokio::test]
async fn every_frozen_sample_of_every_version_is_lifted_and_read() {
    let database = Database::create().await;
    let client = database.client().await;
    let model = ShopModel::new(ShopSettings::default());
    let lift = schemas::upcasters().in_sql(
        "select journal.current_version($1, $2), journal.upcast($1, $2, $3::text::jsonb)::text",
    );
    let (mut lifted, samples) = (0, samples());
    for (kind, version, frozen) in &samples {
        let row = client.query_one(&lift, &[kind, version, &frozen.to_string()]).await.unwrap();
        let (current, data): (i16, String) = (row.get(0), row.get(1));
        let event = model.decode(kind, current, &data).unwrap_or_else(|error| panic!("{error}"));

        // Nothing is lost or added on the way: written again, it is what was lifted.
        let again = model.encode(&event).unwrap();
        assert_eq!((again.kind, again.schema_version), (kind.as_str(), current));
        let canonical = |data: &Value| canonical::to_vec(data).unwrap();
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(canonical(&again.data), canonical(&data), "{kind}/{version}");
        if *version == current {
            assert_eq!(&data, frozen, "{kind}/{version} is current: it stays as it is");
            continue;
        }
        lifted += 1;
        // And down again it is what it was.
        let model = ShopModel::new(ShopSettings::default()).writing(first_only());
        let down = model.encode(&event).unwrap();
        assert_eq!((down.schema_version, &down.data), (*version, frozen), "{kind}");
    }
    assert!(samples.len() > 30 && lifted > 0, "{lifted} of {} are old", samples.len());
    database.drop().await;
}

#[tokio::test]
async fn the_planner_inlines_the_shops_upcasters() {
    let database = Database::create().await;
    let client = database.client().await;
    let sql = schemas::upcasters().in_sql(
        "explain (verbose) select journal.upcast(type, schema_version, data) from journal.events",
    );
    let plan = client.query(&sql, &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    // It refuses to inline what is not immutable all through.
    assert!(!plan.join("\n").contains("journal.lift"), "{plan:#?}");
    database.drop().await;
}

#[tokio::test]
async fn old_and_new_events_are_folded_by_the_writer() {
    let database = Database::create().await;
    let (old, new) = (
        Shopfront::open(&database, first_only()),
        Shopfront::open(&database, Activations::all(&schemas::event_versions())),
    );
    old.stock().await;
    let (first, second, third) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());

    // The new process knows the third order's stream as empty before the old one places it: it
    // then comes with the tail.
    let early = new.send("DeliverOrder", &json!({ "order_id": third })).await.unwrap();
    assert!(matches!(early.verdict, Verdict::Refused(_)));
    for order in [first, third] {
        old.accepted("PlaceOrder", &Shopfront::order(order, None)).await;
    }
    new.accepted("PlaceOrder", &Shopfront::order(second, Some(395))).await;
    let written = "select stream, schema_version from journal.events where type = 'OrderPlaced'
                   order by position";
    let rows = database.client().await.query(written, &[]).await.unwrap();
    let written: Vec<(String, i16)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let stream = |order| format!("order-{order}");
    assert_eq!(written, [(stream(first), 1), (stream(third), 1), (stream(second), 2)]);

    // Each is folded to its own total, from the tail, from memory, and by a process that reads all
    // of it cold.
    let cold = Shopfront::open(&database, first_only());
    for front in [&new, &old, &cold] {
        for (order, total) in [(first, 600), (second, 995), (third, 600)] {
            let over = front.pay(order, total + 1).await;
            assert!(matches!(over.verdict, Verdict::Refused(_)), "{order}: {over:?}");
        }
    }
    for (order, total) in [(first, 600), (second, 995), (third, 600)] {
        let paid = cold.pay(order, total).await;
        assert!(matches!(paid.verdict, Verdict::Accepted(_)), "{order}: {paid:?}");
    }
    database.drop().await;
}

#[tokio::test]
async fn what_the_activated_version_can_not_say_has_no_effect_and_leaves_no_record() {
    let database = Database::create().await;
    let client = database.client().await;
    let activations = first_only();
    let front = Shopfront::open(&database, activations.clone());
    front.stock().await;
    let count = "select (select count(*) from journal.events)
                     + (select count(*) from journal.commands) + (select count(*) from journal.jobs)";
    let before: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    let order = Shopfront::order(Uuid::now_v7(), Some(395));
    let refused = front.send_as("PlaceOrder", &order, Authority::Operator, "one").await;
    assert_eq!(refused, Err(SubmitError::NotActivated { kind: "OrderPlaced", version: 2 }));
    let after: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(after, before, "nothing was written");

    // The same key takes effect once it is activated; the view is live.
    activations.activate("OrderPlaced", 2);
    let placed = front.send_as("PlaceOrder", &order, Authority::Operator, "one").await.unwrap();
    assert!(matches!(placed.verdict, Verdict::Accepted(_)) && !placed.repeated, "{placed:?}");
    let version = "select schema_version from journal.events where type = 'OrderPlaced'";
    assert_eq!(client.query_one(version, &[]).await.unwrap().get::<_, i16>(0), 2);
    database.drop().await;
}

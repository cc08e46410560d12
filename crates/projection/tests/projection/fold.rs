//! However a history comes in, the rows are those of plain arithmetic and of a rebuild.

use std::{collections::BTreeMap, num::NonZeroU32};

use crate::kit::{
    Running, append, caught_up,
    history::{self, History},
    installed, journal, rows, shipped,
};
use daybook_projection::{RebuildDeps, Source, rebuild};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio_postgres::Client;

crate::kit::in_both_layouts!(
    incremental_rows_are_those_of_arithmetic_and_of_a_rebuild,
    several_projectors_at_once_count_nothing_twice,
    tenants_are_folded_apart,
);

const PROJECTIONS: [&str; 8] = [
    "orders",
    "payments",
    "stock",
    "sales_by_day",
    "sales_by_product",
    "sales_by_country",
    "attention",
    "customers",
];

async fn all_rows(client: &Client) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for projection in PROJECTIONS {
        all.push(rows(client, projection).await);
    }
    all
}

async fn sums(client: &Client, sql: &str) -> BTreeMap<String, Vec<i64>> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), (1..row.len()).map(|column| row.get(column)).collect()))
        .collect()
}

/// Deliveries as Kafka might make them: cut anywhere, with repeats, and with gaps.
fn deliveries<T: Clone>(rng: &mut StdRng, events: &[T]) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < events.len() {
        let from =
            at.saturating_sub(if rng.random_bool(0.2) { rng.random_range(0..20) } else { 0 });
        let to = (at + rng.random_range(1..80)).min(events.len());
        if !rng.random_bool(0.15) {
            out.push(events[from..to].to_vec());
        }
        at = to;
    }
    out
}

async fn incremental_rows_are_those_of_arithmetic_and_of_a_rebuild() {
    for seed in [1, 2] {
        let catalogue = shipped();
        let (database, client) = installed(&catalogue).await;
        let history = History::of_length(seed, 1_500).with_old_orders();
        append(&database.journal, 1, &history.events).await;
        let events = journal(&database, 1).await;

        let mut rng = StdRng::seed_from_u64(seed);
        let running = Running::start(&database).await;
        for batch in deliveries(&mut rng, &events) {
            running.send(batch).await;
        }
        caught_up(&database, &[]).await;
        running.stop().await;
        let incremental = all_rows(&client).await;

        // by arithmetic
        let stock =
            sums(&client, "select sku, on_hand, reserved, shipped from analyst.stock").await;
        let expected: BTreeMap<_, _> = history::stock(&history.events)
            .into_iter()
            .map(|(k, v)| (k, vec![v.0, v.1, v.2]))
            .collect();
        assert_eq!(stock, expected);
        let columns = "units, sales, returned, cancelled";
        for (projection, key, found) in [
            ("sales_by_day", "day::text", 0),
            ("sales_by_product", "sku", 1),
            ("sales_by_country", "country", 2),
        ] {
            let rows = sums(&client, &format!("select {key}, {columns} from analyst.{projection}
                where units <> 0 or returned <> 0 or cancelled <> 0 or returned_units <> 0 or cancelled_units <> 0")).await;
            let expected: BTreeMap<_, _> =
                history::sales(&history.events, |event, line| match found {
                    0 => event.occurred_at.date_naive().to_string(),
                    1 => line["sku"].as_str().unwrap().to_owned(),
                    _ => event.data["country"].as_str().unwrap_or("").to_owned(),
                })
                .into_iter()
                .map(|(key, sums)| (key, sums.to_vec()))
                .collect();
            assert_eq!(rows, expected, "{projection}");
        }
        let (count, total, paid): (i64, i64, i64) = {
            let row = client
                .query_one("select count(*), sum(total)::bigint, sum(paid - refunded)::bigint from analyst.orders", &[])
                .await
                .unwrap();
            (row.get(0), row.get(1), row.get(2))
        };
        let of = |kind: &str, field: &str| -> i64 {
            let of_kind = history.events.iter().filter(|e| e.kind == kind);
            of_kind.map(|e| e.data[field].as_i64().unwrap()).sum()
        };
        let placed = history.events.iter().filter(|e| e.kind == "OrderPlaced").count();
        assert_eq!(count, i64::try_from(placed).unwrap());
        assert_eq!(total, of("OrderPlaced", "total"));
        assert_eq!(paid, of("PaymentCaptured", "amount") - of("PaymentRefunded", "amount"));

        // by rebuilds: one aggregate for all, and many small pieces, in shares
        for (piece_positions, shares) in [(None, 1), (Some(37), 1), (None, 2), (Some(91), 3)] {
            let deps = RebuildDeps {
                config: database.config.clone(),
                reader: database.reader(),
                feed: None,
                piece_positions,
                shares: NonZeroU32::new(shares),
                anew: false,
            };
            for projection in PROJECTIONS {
                let report = rebuild(&deps, projection, Source::Journal, &|_, _| {}).await.unwrap();
                assert_eq!(report.changed_rows, 0, "{projection} {piece_positions:?} {shares}");
            }
            assert_eq!(all_rows(&client).await, incremental);
        }

        // from nothing, in the order of chance, the rebuild finds every row again
        client
            .batch_execute("delete from analyst.orders; update analyst.stock set on_hand = 7")
            .await
            .unwrap();
        let mut order = PROJECTIONS;
        order.shuffle(&mut rng);
        let mut changed = 0;
        for projection in order {
            let deps = RebuildDeps {
                config: database.config.clone(),
                reader: database.reader(),
                feed: None,
                piece_positions: Some(400),
                shares: NonZeroU32::new(rng.random_range(1..4)),
                anew: false,
            };
            changed +=
                rebuild(&deps, projection, Source::Journal, &|_, _| {}).await.unwrap().changed_rows;
        }
        assert_eq!(changed, count + 6);
        assert_eq!(all_rows(&client).await, incremental);
    }
}

async fn several_projectors_at_once_count_nothing_twice() {
    let catalogue = shipped();
    let (database, _client) = installed(&catalogue).await;
    append(&database.journal, 1, &History::of_length(3, 1_200).events).await;
    let events = journal(&database, 1).await;
    let one = Running::start(&database).await;
    let other = Running::start(&database).await;
    let mut rng = StdRng::seed_from_u64(3);
    let (left, right) = (deliveries(&mut rng, &events), deliveries(&mut rng, &events));
    tokio::join!(
        async {
            for batch in left {
                one.send(batch).await;
            }
        },
        async {
            for batch in right {
                other.send(batch).await;
            }
        }
    );
    caught_up(&database, &[]).await;
    one.stop().await;
    other.stop().await;
    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: None,
        shares: None,
        anew: false,
    };
    for projection in PROJECTIONS {
        let report = rebuild(&deps, projection, Source::Journal, &|_, _| {}).await.unwrap();
        assert_eq!(report.changed_rows, 0, "{projection}");
    }
}

async fn tenants_are_folded_apart() {
    let catalogue = shipped();
    let (database, client) = installed(&catalogue).await;
    database
        .journal
        .batch_execute("insert into journal.tenants (name, partition) values ('other', 0)")
        .await
        .unwrap();
    let history = History::of_length(4, 300);
    append(&database.journal, 1, &history.events).await;
    append(&database.journal, 2, &history.events).await;
    let running = Running::start(&database).await;
    let (one, two) = (journal(&database, 1).await, journal(&database, 2).await);
    // both in one batch, interleaved, as one partition has them
    let mixed = one.iter().zip(&two).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    running.send(mixed).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    let same: bool = client
        .query_one(
            "select count(*) = 0 from (select to_jsonb(t) - 'tenant', count(*) from analyst.orders t
                group by 1 having count(*) <> 2) odd",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(same);
}

#[tokio::test]
async fn existing_rows_are_found_by_their_primary_key() {
    let catalogue = shipped();
    let (database, client) = installed(&catalogue).await;
    append(&database.journal, 1, &History::of_length(5, 4_000).events).await;
    let running = Running::start(&database).await;
    for batch in journal(&database, 1).await.chunks(100) {
        running.send(batch.to_vec()).await;
    }
    caught_up(&database, &[]).await;
    running.stop().await;
    // counted when the workers' sessions have ended
    crate::kit::until("counters of the workers' sessions", || async {
        client
            .query_one(
                "select count(*) = 8 from pg_stat_user_tables
                 where schemaname like 'read\\_%' and n_tup_ins > 0",
                &[],
            )
            .await
            .unwrap()
            .get(0)
    })
    .await;
    // making an index reads the empty table once; nothing else reads it from end to end
    let scanned = client
        .query(
            "select relname, seq_scan from pg_stat_user_tables t where schemaname like 'read\\_%'
             and seq_scan > (select count(*) from pg_index i where i.indrelid = t.relid)",
            &[],
        )
        .await
        .unwrap();
    let scanned: Vec<(String, i64)> = scanned.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(scanned, []);
    // nor is another index that begins with the tenant gone through for each key
    let gone_through = client
        .query(
            "select indexrelname, idx_tup_read, n_live_tup from pg_stat_user_indexes
             join pg_index using (indexrelid) join pg_stat_user_tables using (relid)
             where pg_stat_user_indexes.schemaname like 'read\\_%' and not indisprimary
               and idx_tup_read > n_live_tup",
            &[],
        )
        .await
        .unwrap();
    let gone_through: Vec<(String, i64, i64)> =
        gone_through.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    assert_eq!(gone_through, []);
}

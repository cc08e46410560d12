//! Queries about one row as of a position: what they cost, whatever the planner expects.

use daybook_journal::Reader;
use daybook_projection::{AsOfLimits, QueryError};

use crate::{
    as_of::{ask, at, queries},
    kit::{Database, append, history::History, installed, shipped},
};

crate::kit::in_both_layouts!(
    one_row_is_found_by_its_streams_and_costs_what_they_hold,
    one_row_costs_no_more_where_the_statistics_mislead,
);

async fn one_row_is_found_by_its_streams_and_costs_what_they_hold() {
    let (database, _client) = installed(&shipped()).await;
    let history = History::of_length(32, 300).events;
    append(&database.journal, 1, &history).await;
    let order = history.iter().find(|e| e.kind == "OrderShipped").unwrap().stream.clone();
    // a long journal behind it: 100,000 events of other orders, with types that it reads
    database
        .journal
        .batch_execute(
            "insert into journal.events (tenant, position, stream, version, type, schema_version,
                data, meta, occurred_at, recorded_at, mac)
             select 1, 1000000 + n, 'order-' || n, 1, 'OrderDelivered', 1, '{}', '{}',
                    now(), now(), decode(repeat('00', 33), 'hex')
             from generate_series(1, 100000) n",
        )
        .await
        .unwrap();
    // nobody may fold the journal: what is found is found by its streams
    let limits = AsOfLimits { folds: 0, ..AsOfLimits::default() };
    let queries = queries(&database, limits).await;
    let as_of = at(1_100_000);
    let order_id = order.strip_prefix("order-").unwrap();
    let answer = ask(&queries, "operator_order", &[("order_id", order_id)], &as_of).await.unwrap();
    assert!(answer.json.contains(order_id));
    ask(&queries, "operator_stock_of", &[("sku", "A")], &as_of).await.unwrap();
    ask(&queries, "partner_order_lines", &[("order_id", order_id)], &as_of).await.unwrap();
    for (name, given) in [
        ("operator_orders", vec![]),
        ("operator_stock", vec![]),
        ("partner_order_lines", vec![]),
        ("operator_sales_by_day", vec![]),
    ] {
        let refused = ask(&queries, name, &given, &as_of).await;
        assert!(matches!(refused, Err(QueryError::Busy { folds: 0 })), "{name}: {refused:?}");
    }

    // whatever the statistics say, or if there are none
    for analyze in ["", "analyze journal.events"] {
        database.journal.batch_execute(analyze).await.unwrap();
        let events: i64 = database
            .journal
            .query_one("select count(*) from journal.events where stream = $1", &[&order])
            .await
            .unwrap()
            .get(0);
        assert_eq!(looked_at(&database, 1, &order, 1_100_000).await, (0, events));
    }
}

/// Scans of the whole journal, and events that were looked at, to see one order as of a position.
async fn looked_at(database: &Database, tenant: i32, order: &str, until: i64) -> (i64, i64) {
    let definition = shipped().projection("orders").unwrap().clone();
    // PostgreSQL counts what this connection reads, and nothing else
    let pool = database.journal_pool();
    let counted = pool.get().await.unwrap();
    counted.batch_execute(&format!("set daybook.tenant = '{tenant}'; begin")).await.unwrap();
    if database.journal_elsewhere().is_some() {
        drop(counted); // for the reader, which takes the one that there is
        let (reader, streams) = (Reader::new(pool.clone()), [order.to_owned()]);
        let mut copy =
            reader.copy_streams(tenant, &streams, until, &definition.events).await.unwrap();
        while copy.next().await.unwrap().is_some() {}
    } else {
        let sql = format!(
            "select 1 from {}.orders__as_of_key({tenant}, {until},
             array['order-{{order_id}}'], jsonb_build_object('order_id', $1::text))",
            definition.schema()
        );
        counted.query(&sql, &[&order.strip_prefix("order-")]).await.unwrap();
        drop(counted);
    }
    let row = pool
        .get()
        .await
        .unwrap()
        .query_one(
            "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables
             where relid = 'journal.events'::regclass",
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// How the names of dealt streams begin.
const STREAM: &str = "order-00000000-0000-0000-0000-";

/// A tenant's first events, dealt out to so many streams.
async fn deal(database: &Database, tenant: i32, events: i32, streams: i32) {
    database
        .journal
        .execute(
            "insert into journal.events (tenant, position, stream, version, type, schema_version,
                data, meta, occurred_at, recorded_at, mac)
             select $1, n, $4 || lpad((n % $3)::text, 12, '0'), 1 + n / $3, 'OrderDelivered', 1,
                    '{}', '{}', now(), now(), decode(repeat('00', 33), 'hex')
             from generate_series(1, $2) n",
            &[&tenant, &events, &streams, &STREAM],
        )
        .await
        .unwrap();
}

async fn one_row_costs_no_more_where_the_statistics_mislead() {
    let (database, _client) = installed(&shipped()).await;
    database
        .journal
        .batch_execute("alter table journal.events set (autovacuum_enabled = off)")
        .await
        .unwrap();
    let seventh = format!("{STREAM}000000000007");
    // few streams, of both tenants, and few positions as low as the second one's
    deal(&database, 1, 40_000, 50).await;
    deal(&database, 2, 400, 50).await;
    database.journal.batch_execute("analyze journal.events").await.unwrap();
    assert_eq!(looked_at(&database, 2, &seventh, 400).await, (0, 8));
    // a tenant that the statistics don't know
    deal(&database, 3, 20_000, 4_000).await;
    assert_eq!(looked_at(&database, 3, &seventh, 20_000).await, (0, 5));
}

//! Declared queries: scope, paging, positions, and what a request can't do.

use std::{collections::HashMap, path::Path, time::Duration};

use crate::kit::{
    Database, NewEvent, Running, append, caught_up,
    folder::{Folder, TABLE},
    history::History,
    installed, journal, shipped, until,
};
use daybook_projection::{
    Answer, Catalogue, PrincipalScope, Queries, QueryError, ReadPositions, install,
};
use serde_json::Value;
use tokio_postgres::{Client, error::SqlState};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const NO_WAIT: Duration = Duration::ZERO;

pub(crate) struct Served {
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) queries: Queries,
    shutdown: CancellationToken,
}

impl Served {
    async fn new(events: usize) -> Self {
        Self::of(&History::of_length(11, events).events).await
    }

    pub(crate) async fn of(events: &[NewEvent]) -> Self {
        let catalogue = shipped();
        let (database, client) = installed(&catalogue).await;
        append(&database.journal, 1, events).await;
        let running = Running::start(&database).await;
        running.send(journal(&database, 1).await).await;
        caught_up(&database, &[]).await;
        running.stop().await;
        let (positions, task) = ReadPositions::new(database.config.clone());
        let shutdown = CancellationToken::new();
        tokio::spawn(task.run(shutdown.clone()));
        let queries = declared(&database, positions).await;
        Self { database, client, queries, shutdown }
    }

    pub(crate) async fn ask(
        &self,
        name: &str,
        scope: PrincipalScope,
        params: &[(&str, &str)],
    ) -> Result<Answer, QueryError> {
        self.ask_at(name, scope, params, None, NO_WAIT).await
    }

    async fn ask_at(
        &self,
        name: &str,
        scope: PrincipalScope,
        params: &[(&str, &str)],
        min_position: Option<i64>,
        wait: Duration,
    ) -> Result<Answer, QueryError> {
        let declared = self.queries.declared();
        let query = declared.queries.iter().find(|q| q.name == name).unwrap();
        let params: HashMap<_, _> =
            params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.queries.run(query, 1, scope, &params, min_position, wait).await
    }
}

crate::kit::in_both_layouts!(
    every_declared_query_runs_with_and_without_its_optional_parameters,
    whoever_has_written_reads_it_or_is_told_that_it_is_not_there_yet,
);

/// The queries of what is installed.
async fn declared(database: &Database, positions: ReadPositions) -> Queries {
    let (queries, _task) = Queries::new(database.pool(), positions);
    queries.reload().await.unwrap();
    queries
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn customer(n: u128) -> PrincipalScope {
    PrincipalScope { customer_id: Some(Uuid::from_u128(n)), partner_id: None }
}

const OPERATOR: PrincipalScope = PrincipalScope { customer_id: None, partner_id: None };

fn items(answer: &Answer) -> Vec<Value> {
    serde_json::from_str(&answer.json).unwrap()
}

async fn every_declared_query_runs_with_and_without_its_optional_parameters() {
    let served = Served::new(300).await;
    for query in &served.queries.declared().queries {
        let optional = |given: bool| -> Vec<(&str, &str)> {
            let parameters = query.parameters.iter().filter(|p| p.name != "cursor");
            let parameters = parameters.filter(|p| p.required || given);
            parameters
                .map(|p| {
                    use daybook_projection::ParameterKind as K;
                    let value = match p.kind {
                        K::Text => "A",
                        K::Uuid => "018f2a3b-0000-7000-8000-000000000001",
                        K::Date => "2010-12-02",
                        K::Timestamptz => "2010-12-02T00:00:00Z",
                        K::Integer | K::Bigint => "7",
                        K::Boolean => "true",
                        K::Position => "0",
                    };
                    (p.name.as_str(), value)
                })
                .collect()
        };
        for given in [false, true] {
            match served.ask(&query.name, customer(1), &optional(given)).await {
                Ok(answer) => assert!(answer.position > 0, "{}", query.name),
                Err(QueryError::NotFound) => {}
                Err(error) => panic!("{}: {error:?}", query.name),
            }
        }
    }
}

#[tokio::test]
async fn pages_hold_every_row_once_in_order() {
    let served = Served::new(1_000).await;
    for (name, scope, table) in [
        (
            "web_orders",
            customer(1),
            "orders where customer_id = '00000000-0000-0000-0000-000000000001'",
        ),
        ("operator_orders", OPERATOR, "orders"),
        ("operator_sales_by_day", OPERATOR, "sales_by_day"),
        ("operator_stock", OPERATOR, "stock"),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut params = vec![("limit", "3")];
            if let Some(cursor) = &cursor {
                params.push(("cursor", cursor));
            }
            let answer = served.ask(name, scope, &params).await.unwrap();
            seen.extend(items(&answer));
            cursor = answer.next;
            if cursor.is_none() {
                break;
            }
        }
        let count: i64 = served
            .client
            .query_one(&format!("select count(*) from analyst.{table}"), &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(i64::try_from(seen.len()).unwrap(), count, "{name}");
        let whole = served.ask(name, scope, &[("limit", "500")]).await.unwrap();
        assert_eq!(seen, items(&whole), "{name}");
        assert!(whole.next.is_none());
    }
}

#[tokio::test]
async fn a_customer_sees_own_orders_only() {
    let served = Served::new(400).await;
    let orders = served
        .client
        .query("select order_id::text, customer_id::text from analyst.orders", &[])
        .await
        .unwrap();
    for order in orders {
        let (id, owner): (String, Option<String>) = (order.get(0), order.get(1));
        for n in 1..=3 {
            let own = owner.as_deref() == Some(Uuid::from_u128(n).to_string().as_str());
            let found = served.ask("web_order", customer(n), &[("order_id", &id)]).await;
            assert_eq!(found.is_ok(), own);
            assert!(own || matches!(found, Err(QueryError::NotFound)));
        }
        // nobody's own: a request without a customer sees nothing either
        assert!(served.ask("web_order", OPERATOR, &[("order_id", &id)]).await.is_err());
        assert!(served.ask("operator_order", OPERATOR, &[("order_id", &id)]).await.is_ok());
    }
    let declared = served.queries.declared();
    let query = declared.queries.iter().find(|q| q.name == "operator_orders").unwrap();
    let other_tenant =
        served.queries.run(query, 2, OPERATOR, &HashMap::new(), None, NO_WAIT).await.unwrap();
    assert_eq!((other_tenant.json.as_str(), other_tenant.position), ("[]", 0));
}

#[tokio::test]
async fn an_order_shows_its_lines_as_shipped_and_returned() {
    let served = Served::new(1_000).await;
    let row = served
        .client
        .query_one(
            "select order_id::text from analyst.orders where credits @> '[{\"kind\": \"returned\"}]' limit 1",
            &[],
        )
        .await
        .unwrap();
    let answer = served.ask("operator_order", OPERATOR, &[("order_id", row.get(0))]).await.unwrap();
    let order: Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(order["status"], "delivered");
    assert_eq!(order["due"], 0);
    let lines = order["lines"].as_array().unwrap();
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["line"], n + 1);
        assert_eq!(line["shipped"], line["quantity"]);
        assert_eq!(line["returned"], i32::from(n == 0));
        assert_eq!(line["cancelled"], 0);
    }
    assert_eq!(order["payments"][0]["status"], "captured");
    assert_eq!(order["refunds"][0]["status"], "settled");
    assert!(order["placed_at"].as_str().unwrap().ends_with("+00:00"), "{order}");
}

/// The frozen sample of an event type's version.
fn sample(stream: &str, kind: &'static str, version: i16) -> NewEvent {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
    let text = std::fs::read(golden.join(format!("{kind}/{version}.json"))).unwrap();
    let data = serde_json::from_slice(&text).unwrap();
    let occurred_at = "2026-11-22T12:00:00Z".parse().unwrap();
    NewEvent { stream: stream.to_owned(), kind, data, occurred_at }
}

#[tokio::test]
async fn shipping_tax_disputes_doubts_and_what_is_discontinued_are_shown() {
    let mut late = sample("payment-1", "PaymentUnresolved", 1);
    late.data["reason"] = "captured twice".into();
    let served = Served::of(&[
        sample("product-85123A", "ProductAdded", 1),
        sample("product-85123A", "ProductDiscontinued", 1),
        sample("order-1", "OrderPlaced", 2),
        sample("payment-1", "PaymentRequested", 1),
        sample("payment-1", "PaymentIdentified", 1),
        sample("payment-1", "PaymentUnresolved", 1),
    ])
    .await;
    let ask = async |query: &str, parameters: &[(&str, &str)]| -> Value {
        let answer = served.ask(query, OPERATOR, parameters).await.unwrap();
        serde_json::from_str(&answer.json).unwrap()
    };
    let stock = ask("operator_stock", &[]).await;
    assert_eq!((&stock[0]["sku"], &stock[0]["discontinued"]), (&"85123A".into(), &true.into()));
    let orders = ask("operator_orders", &[]).await;
    let order_id = orders[0]["order_id"].as_str().unwrap();
    let order = ask("operator_order", &[("order_id", order_id)]).await;
    assert_eq!([&order["shipping"], &order["tax"], &order["total"]], [395, 385, 2310]);
    let payments = ask("operator_payments", &[("attention", "true")]).await;
    assert_eq!(payments[0]["status"], "unresolved");
    assert_eq!(payments[0]["attention"], payments[0]["reason"]);
    assert_eq!(ask("operator_payments", &[("attention", "false")]).await, Value::Array(vec![]));

    // What is settled stays so; what contradicts it is shown beside it.
    let settled = Served::of(&[
        sample("payment-1", "PaymentRequested", 1),
        sample("payment-1", "PaymentUnresolved", 1),
        sample("payment-1", "PaymentCaptured", 1),
        sample("payment-1", "PaymentDisputed", 1),
        late,
    ])
    .await;
    let payment_id = payments[0]["payment_id"].as_str().unwrap();
    let answer = settled.ask("operator_payment", OPERATOR, &[("payment_id", payment_id)]).await;
    let payment: Value = serde_json::from_str(&answer.unwrap().json).unwrap();
    assert_eq!((&payment["status"], &payment["reason"]), (&"captured".into(), &Value::Null));
    assert_eq!(payment["attention"], "captured twice");
    assert_eq!(payment["disputes"][0]["status"], "needs_response");
}

#[tokio::test]
async fn hostile_parameters_are_only_values() {
    let served = Served::new(300).await;
    let before: i64 =
        served.client.query_one("select count(*) from analyst.stock", &[]).await.unwrap().get(0);
    for hostile in
        ["'; drop table analyst.stock; --", "A' or '1'='1", "$1", ":tenant", "\\", "%", "\u{202e}"]
    {
        let found = served.ask("operator_stock_of", OPERATOR, &[("sku", hostile)]).await;
        assert!(matches!(found, Err(QueryError::NotFound)), "{hostile}: {found:?}");
        let list = served.ask("web_orders", customer(1), &[("status", hostile)]).await.unwrap();
        assert_eq!(list.json, "[]");
    }
    for (params, name) in [
        (vec![("sku", "a\0b")], "sku"),
        (vec![("sku", "A"), ("tenant", "2")], "tenant"),
        (vec![("sku", "A"), ("limit", "1")], "limit"),
        (vec![], "sku"),
    ] {
        match served.ask("operator_stock_of", OPERATOR, &params).await {
            Err(QueryError::BadParameter { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{other:?}"),
        }
    }
    // a cursor of another list, or of somebody's making
    for cursor in ["", "W10", "WyJ4IiwieSJd", "AAAA"] {
        let found = served.ask("operator_orders", OPERATOR, &[("cursor", cursor)]).await;
        assert!(
            matches!(&found, Err(QueryError::BadParameter { name, .. }) if name == "cursor"),
            "{cursor}: {found:?}"
        );
    }
    let after: i64 =
        served.client.query_one("select count(*) from analyst.stock", &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_query_can_not_write() {
    let catalogue = shipped();
    let (database, mut client) = installed(&catalogue).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("writing");
    std::fs::create_dir_all(folder.join("queries")).unwrap();
    for (file, text) in [
        (
            "projection.toml",
            "title = 'T'\nevents = ['A']\n[[query]]\nname = 'w'\ntitle = 'w'\n\
            path = '/v1/operator/w'\nroles = ['operator']\nanswer = 'one'",
        ),
        (
            "table.sql",
            "create table read.writing (tenant integer, id text, primary key (tenant, id));
            create function read.sneak() returns integer language sql volatile as
            $$ insert into read.writing values (1, 'x') returning 1 $$",
        ),
        ("key.sql", "select '' as id, null::jsonb as part"),
        ("apply.sql", "null;"),
        ("queries/w.sql", "select read.sneak() where :tenant = 1;\n"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let writing = Catalogue::load(dir.path()).unwrap();
    install(&mut client, &writing).await.unwrap();
    let (positions, _task) = ReadPositions::new(database.config.clone());
    let queries = declared(&database, positions).await;
    let query = queries.declared().queries.iter().find(|q| q.name == "w").unwrap().clone();
    for _ in 0..3 {
        let error =
            queries.run(&query, 1, OPERATOR, &HashMap::new(), None, NO_WAIT).await.unwrap_err();
        let QueryError::Database(error) = error else { panic!("{error:?}") };
        assert_eq!(error.code().map(SqlState::code), Some("25006"), "read-only transaction");
    }
}

async fn whoever_has_written_reads_it_or_is_told_that_it_is_not_there_yet() {
    let served = Served::new(300).await;
    let head = served.ask("operator_stock", OPERATOR, &[]).await.unwrap().position;
    let at = |position, wait| {
        served.ask_at("operator_stock", OPERATOR, &[], Some(position), Duration::from_millis(wait))
    };
    assert_eq!(at(head, 0).await.unwrap().position, head);
    match at(head + 1, 50).await {
        Err(QueryError::Stale { position }) => assert_eq!(position, head),
        other => panic!("{other:?}"),
    }

    // many waiters, woken by the batch that they wait for
    let running = Running::start(&served.database).await;
    let more = History::of_length(12, 40).events;
    let wanted = head + i64::try_from(more.len()).unwrap();
    let waiters = futures::future::join_all((0..50).map(|_| at(wanted, 20_000)));
    let moving = async {
        append(&served.database.journal, 1, &more).await;
        let events = journal(&served.database, 1).await;
        running.send(events[usize::try_from(head).unwrap()..].to_vec()).await;
    };
    let (answers, ()) = tokio::join!(waiters, moving);
    for answer in answers {
        assert_eq!(answer.unwrap().position, wanted);
    }
    running.stop().await;
}

#[tokio::test]
async fn an_answer_is_of_one_snapshot_whatever_its_functions_do() {
    let folder = Folder::new();
    let later = "create function read.later() returns bigint language plpgsql volatile as $$
        begin
            perform pg_advisory_xact_lock_shared(77);
            return (select count(*) from read.sums);
        end $$;";
    folder.write("table.sql", &format!("{TABLE}\n{later}")).write(
        "queries/sums.sql",
        "select 'x' as id, (select count(*) from read.sums where tenant = :tenant) as n,
                read.later() as later",
    );
    let catalogue = folder.load();
    let (database, client) = installed(&catalogue).await;
    let insert = format!("insert into {}.sums values (1, $1)", catalogue.projections()[0].schema());
    client.execute(&insert, &[&"a"]).await.unwrap();
    let (positions, _task) = ReadPositions::new(database.config.clone());
    let queries = declared(&database, positions).await;
    let mut holding = database.client().await;
    let held = holding.transaction().await.unwrap();
    held.batch_execute("select pg_advisory_xact_lock(77)").await.unwrap();
    let asked = tokio::spawn(async move {
        let query = queries.declared().queries[0].clone();
        queries.run(&query, 1, PrincipalScope::default(), &HashMap::new(), None, NO_WAIT).await
    });
    let waits = "select count(*) = 1 from pg_stat_activity
        where datname = current_database() and wait_event = 'advisory'";
    until("the query is in the middle", async || {
        client.query_one(waits, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    client.execute(&insert, &[&"b"]).await.unwrap();
    held.commit().await.unwrap();
    let answer: Value = serde_json::from_str(&asked.await.unwrap().unwrap().json).unwrap();
    assert_eq!(answer, serde_json::json!([{"id": "x", "n": 1, "later": 1}]));
}

//! Queries as of a position: the rows of the prefix, within bounds, with nothing left behind.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use crate::kit::{
    Database, NewEvent, Running, append, caught_up, history::History, installed, journal, shipped,
    until,
};
use daybook_journal::Reader;
use daybook_projection::{
    Answer, AsOf, AsOfLimits, Catalogue, DeclaredQuery, ParameterKind, PrincipalScope, Queries,
    QueryError, ReadPositions, install,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

crate::kit::in_both_layouts!(
    every_query_as_of_a_position_is_the_query_on_what_had_happened_by_then,
    pages_stay_at_the_position_of_the_first,
    a_fold_ends_at_its_deadline_and_leaves_its_connection_usable,
    only_so_many_fold_at_once_and_who_goes_away_makes_room,
    before_the_first_event_there_is_nothing_and_a_foreign_row_never,
);

pub(crate) const SCOPE: PrincipalScope = PrincipalScope { customer_id: None, partner_id: None };

pub(crate) async fn queries(database: &Database, limits: AsOfLimits) -> Queries {
    queries_over(database, limits, database.journal_elsewhere()).await
}

/// Queries that reach the journal, where it is elsewhere, over `journal`.
pub(crate) async fn queries_over(
    database: &Database,
    limits: AsOfLimits,
    journal: Option<Reader>,
) -> Queries {
    let (positions, _task) = ReadPositions::new(database.config.clone());
    let (queries, _task) = Queries::with_limits(database.pool(), positions, limits, journal);
    queries.reload().await.unwrap();
    queries
}

pub(crate) fn named(queries: &Queries, name: &str) -> DeclaredQuery {
    queries.declared().queries.iter().find(|q| q.name == name).unwrap().clone()
}

pub(crate) fn parameters(given: &[(&str, &str)]) -> HashMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn at(position: i64) -> AsOf {
    AsOf { position, asked: position.to_string() }
}

pub(crate) async fn ask(
    queries: &Queries,
    name: &str,
    given: &[(&str, &str)],
    as_of: &AsOf,
) -> Result<Answer, QueryError> {
    let (query, given) = (named(queries, name), parameters(given));
    queries.run_as_of(&query, 1, SCOPE, &given, as_of, Instant::now()).await
}

/// Tells answers apart, and whether there is one.
fn found(answer: Result<Answer, QueryError>) -> Option<(String, i64)> {
    match answer {
        Ok(answer) => Some((answer.json, answer.position)),
        Err(QueryError::NotFound) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Every way in which a test asks a query: without what is optional, and with values that occur.
fn requests(
    query: &DeclaredQuery,
    orders: &[Uuid],
    payments: &[Uuid],
) -> Vec<HashMap<String, String>> {
    let value = |name: &str, kind: ParameterKind, n: usize| match (name, kind) {
        ("order_id", _) => orders[n % orders.len()].to_string(),
        ("payment_id", _) => payments[n % payments.len()].to_string(),
        ("currency", _) => "GBP".to_owned(),
        ("status", _) => "placed".to_owned(),
        (_, ParameterKind::Text) => ["A", "POST", "Ünï", "C'quote"][n % 4].to_owned(),
        (_, ParameterKind::Uuid) => Uuid::from_u128(1).to_string(),
        (_, ParameterKind::Date) => "2010-12-02".to_owned(),
        (_, ParameterKind::Timestamptz) => "2010-12-03T00:00:00Z".to_owned(),
        (_, ParameterKind::Integer | ParameterKind::Bigint | ParameterKind::Position) => {
            "40".to_owned()
        }
        (_, ParameterKind::Boolean) => "false".to_owned(),
    };
    let of = |given: &dyn Fn(&str) -> bool, n: usize| {
        let own =
            query.parameters.iter().filter(|p| !["limit", "cursor"].contains(&p.name.as_str()));
        let own = own.filter(|p| p.required || given(&p.name));
        own.map(|p| (p.name.clone(), value(&p.name, p.kind, n))).collect()
    };
    let mut all: Vec<HashMap<String, String>> = (0..4).map(|n| of(&|_| false, n)).collect();
    for optional in query.parameters.iter().filter(|p| !p.required) {
        all.push(of(&|name| name == optional.name, 1));
    }
    all.sort_by_key(|given| format!("{given:?}"));
    all.dedup();
    all
}

async fn every_query_as_of_a_position_is_the_query_on_what_had_happened_by_then() {
    let events = History::of_length(31, 700).with_old_orders().events;
    let ids = |prefix: &str, kind: &str| -> Vec<Uuid> {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        of_kind.map(|e| e.stream.strip_prefix(prefix).unwrap().parse().unwrap()).collect()
    };
    let (orders, payments) = (ids("order-", "OrderPlaced"), ids("payment-", "PaymentRequested"));
    let catalogue = shipped();
    let (whole, _client) = installed(&catalogue).await;
    // another tenant's events have the same streams and keys
    whole
        .journal
        .batch_execute("insert into journal.tenants (name, partition) values ('other', 0)")
        .await
        .unwrap();
    let (grown, _client) = installed(&catalogue).await;
    append(&whole.journal, 2, &History::of_length(31, 900).events).await;
    append(&whole.journal, 1, &events).await;
    let limits = AsOfLimits::default();
    let (looking_back, today) = (queries(&whole, limits).await, queries(&grown, limits).await);

    let mut rng = StdRng::seed_from_u64(31);
    let mut positions: Vec<usize> = (0..4).map(|_| rng.random_range(1..events.len())).collect();
    positions.extend([0, events.len()]);
    positions.sort_unstable();
    let (mut appended, mut compared) = (0, 0);
    for position in positions {
        append(&grown.journal, 1, &events[appended..position]).await;
        appended = position;
        let running = Running::start(&grown).await;
        running.send(journal(&grown, 1).await).await;
        caught_up(&grown, &[]).await;
        running.stop().await;

        let as_of = at(i64::try_from(position).unwrap());
        let scope = PrincipalScope { customer_id: Some(Uuid::from_u128(1)), partner_id: None };
        for query in &today.declared().queries {
            for given in requests(query, &orders, &payments) {
                let now = today.run(query, 1, scope, &given, None, Duration::ZERO).await;
                let then =
                    looking_back.run_as_of(query, 1, scope, &given, &as_of, Instant::now()).await;
                let (now, then) = (found(now), found(then));
                assert_eq!(then, now, "{} {given:?} at {position}", query.name);
                compared += usize::from(then.is_some());
            }
        }
    }
    assert!(compared > 200, "{compared} answers compared");
}

async fn pages_stay_at_the_position_of_the_first() {
    let (database, _client) = installed(&shipped()).await;
    append(&database.journal, 1, &History::of_length(33, 600).events).await;
    let queries = queries(&database, AsOfLimits::default()).await;
    let head = 600;
    let asked = AsOf { position: head, asked: "2026-01-01T00:00:00Z".to_owned() };
    let whole = ask(&queries, "operator_orders", &[("limit", "500")], &asked).await.unwrap();
    let first = ask(&queries, "operator_orders", &[("limit", "3")], &asked).await.unwrap();
    let mut seen = items(&first.json);
    let mut next = first.next.clone();
    let mut now = head;
    while let Some(cursor) = next {
        // meanwhile the same time has come to mean a later position
        let placed = History::of_length(u64::try_from(now).unwrap(), 40).events;
        append(&database.journal, 1, &placed).await;
        now += i64::try_from(placed.len()).unwrap();
        let later = AsOf { position: now, asked: asked.asked.clone() };
        let given = [("limit", "20"), ("cursor", cursor.as_str())];
        let page = ask(&queries, "operator_orders", &given, &later).await.unwrap();
        assert_eq!(page.position, head);
        seen.extend(items(&page.json));
        next = page.next;
    }
    assert_eq!(seen, items(&whole.json));
    assert!(seen.len() > 40);

    // a cursor belongs to its as_of
    let cursor = first.next.unwrap();
    let given = [("cursor", cursor.as_str())];
    let refused = |answer: Result<Answer, QueryError>| match answer {
        Err(QueryError::BadParameter { name, .. }) => assert_eq!(name, "cursor"),
        other => panic!("{other:?}"),
    };
    refused(ask(&queries, "operator_orders", &given, &at(head)).await);
    let before = AsOf { position: head - 1, asked: asked.asked.clone() };
    refused(ask(&queries, "operator_orders", &given, &before).await);
    let query = named(&queries, "operator_orders");
    let plain = queries.run(&query, 1, SCOPE, &parameters(&given), None, Duration::ZERO).await;
    refused(plain);
    for odd in ["", "W10", "e30", "WyIyMDEwIiwieCJd"] {
        refused(ask(&queries, "operator_orders", &[("cursor", odd)], &asked).await);
    }
}

fn items(json: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(json).unwrap()
}

/// A projection whose every step takes a tenth of a second.
fn slow(dir: &std::path::Path) -> Catalogue {
    let folder = dir.join("slow");
    fs::create_dir_all(folder.join("queries")).unwrap();
    for (file, text) in [
        (
            "projection.toml",
            "title = 'T'\nevents = ['Slow']\nstreams = ['s-{id}']\n[[query]]\nname = 'slow'\n\
             title = 's'\npath = '/v1/operator/slow'\nroles = ['operator']\nanswer = 'list'\n\
             order = ['id']\nparameters.id = { type = 'text', title = 'one' }",
        ),
        (
            "table.sql",
            "create table read.slow (tenant integer, id text, n integer not null default 0, \
             primary key (tenant, id))",
        ),
        ("key.sql", "select e.data->>'id' as id, null::jsonb as part"),
        ("apply.sql", "perform pg_sleep(0.1); r.n := r.n + 1;"),
        (
            "queries/slow.sql",
            "select id, n from read.slow where tenant = :tenant and (:id is null or id = :id)",
        ),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
    Catalogue::load(dir).unwrap()
}

fn step(id: &str) -> NewEvent {
    NewEvent {
        stream: format!("s-{id}"),
        kind: "Slow",
        data: json!({"id": id}),
        occurred_at: "2011-01-01T00:00:00Z".parse().unwrap(),
    }
}

/// Folds that PostgreSQL is busy with.
async fn under_way(client: &Client) -> i64 {
    client
        .query_one(
            "select count(*) from pg_stat_activity where datname = current_database()
             and state <> 'idle' and query like '%slow\\_\\_as\\_of%' and pid <> pg_backend_pid()",
            &[],
        )
        .await
        .unwrap()
        .get(0)
}

async fn with_slow(limits: AsOfLimits) -> (Database, Client, Queries, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::new().await;
    let mut client = database.client().await;
    install(&mut client, &slow(dir.path())).await.unwrap();
    let steps: Vec<NewEvent> = (0..600).map(|_| step("many")).chain([step("one")]).collect();
    append(&database.journal, 1, &steps).await;
    let queries = queries(&database, limits).await;
    (database, client, queries, dir)
}

async fn a_fold_ends_at_its_deadline_and_leaves_its_connection_usable() {
    let limits = AsOfLimits { folds: 1, deadline: Duration::from_secs(1) };
    let (_database, client, queries, _dir) = with_slow(limits).await;
    for _ in 0..3 {
        // more often than there are places to fold in; it would take less than any query may
        let refused = ask(&queries, "slow", &[], &at(50)).await;
        let Err(QueryError::FoldTooLong { deadline }) = refused else { panic!("{refused:?}") };
        assert_eq!(deadline, limits.deadline);
        assert_eq!(under_way(&client).await, 0, "cancelled in PostgreSQL");
    }
    let short = ask(&queries, "slow", &[], &at(1)).await.unwrap();
    assert_eq!((short.json.as_str(), short.position), (r#"[{"id":"many","n":1}]"#, 1));
    let one = ask(&queries, "slow", &[("id", "one")], &at(601)).await.unwrap();
    assert_eq!(one.json, r#"[{"id":"one","n":1}]"#);
    let left: i64 = client
        .query_one(
            "select count(*) from pg_stat_activity where datname = current_database()
             and state like 'idle in transaction%'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}

async fn only_so_many_fold_at_once_and_who_goes_away_makes_room() {
    let limits = AsOfLimits { folds: 2, deadline: Duration::from_mins(1) };
    let (_database, client, queries, _dir) = with_slow(limits).await;
    let folding = |position| {
        let queries = queries.clone();
        tokio::spawn(async move { ask(&queries, "slow", &[], &at(position)).await.map(|_| ()) })
    };
    let (first, second) = (folding(600), folding(601));
    until("both fold", || async { under_way(&client).await == 2 }).await;
    let third = ask(&queries, "slow", &[], &at(601)).await;
    assert!(matches!(third, Err(QueryError::Busy { folds: 2 })), "{third:?}");
    // one row needs no place, nor does a plain query
    ask(&queries, "slow", &[("id", "one")], &at(601)).await.unwrap();
    let plain = named(&queries, "slow");
    queries.run(&plain, 1, SCOPE, &HashMap::new(), None, Duration::ZERO).await.unwrap();

    first.abort();
    until("the one that nobody waits for is cancelled", || async { under_way(&client).await == 1 })
        .await;
    let next = || async {
        match ask(&queries, "slow", &[], &at(1)).await {
            Ok(_) => true,
            Err(QueryError::Busy { .. }) => false,
            Err(error) => panic!("{error:?}"),
        }
    };
    until("there is room again", next).await;
    second.abort();
    until("nothing is left", || async { under_way(&client).await == 0 }).await;
    // and every connection of the pool is good
    for _ in 0..6 {
        ask(&queries, "slow", &[("id", "one")], &at(601)).await.unwrap();
    }
}

async fn before_the_first_event_there_is_nothing_and_a_foreign_row_never() {
    let (database, _client) = installed(&shipped()).await;
    database
        .journal
        .batch_execute("insert into journal.tenants (name, partition) values ('other', 0)")
        .await
        .unwrap();
    let events = History::of_length(34, 200).events;
    append(&database.journal, 2, &events).await;
    append(&database.journal, 1, &History::of_length(35, 200).events).await;
    let queries = queries(&database, AsOfLimits::default()).await;
    let placed = events.iter().find(|e| e.kind == "OrderPlaced").unwrap();
    let theirs = placed.data["order_id"].as_str().unwrap();
    let foreign = ask(&queries, "operator_order", &[("order_id", theirs)], &at(200)).await;
    assert!(matches!(foreign, Err(QueryError::NotFound)), "{foreign:?}");
    let list = ask(&queries, "operator_orders", &[("limit", "500")], &at(200)).await.unwrap();
    assert!(!list.json.contains(theirs));
    let query = named(&queries, "operator_order");
    let own = parameters(&[("order_id", theirs)]);
    queries.run_as_of(&query, 2, SCOPE, &own, &at(200), Instant::now()).await.unwrap();

    let nothing = ask(&queries, "operator_orders", &[], &at(0)).await.unwrap();
    assert_eq!((nothing.json.as_str(), nothing.position, nothing.next), ("[]", 0, None));
    let nothing = queries.run_as_of(&query, 2, SCOPE, &own, &at(0), Instant::now()).await;
    assert!(matches!(nothing, Err(QueryError::NotFound)), "{nothing:?}");
}

#[tokio::test]
async fn a_stream_may_hold_events_of_other_rows() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("sums");
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in [
        ("projection.toml", "title = 'T'\nevents = ['Slow']\nstreams = ['s-{id}']"),
        (
            "table.sql",
            "create table read.sums (tenant integer, id text, n integer not null default 0, \
             primary key (tenant, id))",
        ),
        (
            "key.sql",
            "select k as id, null::jsonb as part from unnest(array[e.data->>'id', 'all']) k",
        ),
        ("apply.sql", "r.n := r.n + 1;"),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
    let catalogue = Catalogue::load(dir.path()).unwrap();
    let (database, client) = installed(&catalogue).await;
    append(&database.journal, 1, &["a", "b", "a"].map(step)).await;
    let schema = catalogue.projections()[0].schema();
    client.batch_execute("set daybook.tenant = '1'").await.unwrap();
    let rows = client
        .query(
            &format!(
                "select id, n from {schema}.sums__as_of_key(
                     1, 3, array['s-{{id}}'], jsonb_build_object('id', 'a'))"
            ),
            &[],
        )
        .await
        .unwrap();
    let rows: Vec<(String, i32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("a".to_owned(), 2)]);
}

#[tokio::test]
async fn streams_must_be_named_after_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::new().await;
    let mut client = database.client().await;
    install(&mut client, &slow(dir.path())).await.unwrap();
    let toml = dir.path().join("slow/projection.toml");
    let text = fs::read_to_string(&toml).unwrap();
    for (other, said) in [("s-{n}", "{n} is no column of the key"), ("s-{tenant}", "{tenant}")] {
        fs::write(&toml, text.replace("s-{id}", other)).unwrap();
        let refused = install(&mut client, &Catalogue::load(dir.path()).unwrap()).await;
        assert!(refused.unwrap_err().to_string().contains(said), "{other}");
    }
    fs::write(&toml, text.replace("s-{id}", "s")).unwrap();
    assert!(Catalogue::load(dir.path()).unwrap_err().to_string().contains("streams"));
}

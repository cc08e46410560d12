//! A query sees one tenant's rows of read models and nothing else, whatever its SQL says and its
//! parameters hold: it runs as a login of its own.

use std::{collections::HashMap, path::Path, time::Instant};

use crate::{
    kit::{
        Database, Running, append, caught_up, connect, history::History, installed, journal,
        shipped,
    },
    queries::NO_WAIT,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_projection::{
    AnswerShape, AsOf, AsOfLimits, Catalogue, ParameterKind, PrincipalScope, Queries, QueryError,
    ReadPositions, install,
};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls, error::SqlState};
use uuid::Uuid;

crate::kit::in_both_layouts!(
    hostile_parameters_show_no_other_tenant_and_change_nothing,
    looking_back_the_login_reads_one_tenants_events_and_not_the_journal,
);

/// A login that may send queries, as `daybook migrate` makes it. Dropped before its database.
struct QueryLogin {
    owner: Config,
    name: String,
}

impl QueryLogin {
    async fn new(database: &Database, client: &Client) -> Self {
        let name = format!("query_{}", Uuid::new_v4().simple());
        client
            .batch_execute(&format!(
                "create role {name} login password 'q';
                 grant usage on schema projection to {name};
                 grant select on projection.versions, projection.active, projection.checkpoints
                     to {name};
                 insert into projection.grantees values ('{name}', 'read');
                 select projection.open_schema(schema) from projection.versions"
            ))
            .await
            .unwrap();
        Self { owner: database.config.clone(), name }
    }

    fn config(&self) -> Config {
        let mut config = self.owner.clone();
        config.user(&self.name).password("q");
        config
    }

    async fn queries(&self, database: &Database) -> Queries {
        let manager = deadpool_postgres::Manager::new(self.config(), NoTls);
        let pool = deadpool_postgres::Pool::builder(manager).max_size(1).build().unwrap();
        let (positions, _task) = ReadPositions::new(self.owner.clone());
        let (queries, _task) = Queries::with_limits(
            pool,
            positions,
            AsOfLimits::default(),
            database.journal_elsewhere(),
        );
        queries.reload().await.unwrap();
        queries
    }
}

impl Drop for QueryLogin {
    fn drop(&mut self) {
        let (owner, name) = (self.owner.clone(), self.name.clone());
        // its own thread and runtime: drop can't wait in the test's
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let client = connect(&owner).await;
                client.batch_execute(&format!("drop owned by {name}; drop role {name}")).await
            })
        });
        let ended = dropped.join().is_ok() || std::thread::panicking();
        assert!(ended, "role {} could not be dropped", self.name);
    }
}

/// Two tenants with the same ids everywhere; the second one's words are all secret.
async fn two_tenants(database: &Database) {
    database
        .journal
        .batch_execute("insert into journal.tenants (name, partition) values ('other', 0)")
        .await
        .unwrap();
    let mut events = History::of_length(41, 400).events;
    for event in events.iter_mut().filter(|event| event.kind == "OrderPlaced").step_by(2) {
        event.data["partner_id"] = json!(Uuid::from_u128(9));
    }
    append(&database.journal, 1, &events).await;
    for event in &mut events {
        for field in ["reference", "country", "name", "reason"] {
            if event.data.get(field).is_some_and(Value::is_string) {
                event.data[field] = json!(format!("SECRET {}", event.data[field]));
            }
        }
    }
    append(&database.journal, 2, &events).await;
    let running = Running::start(database).await;
    running.send(journal(database, 1).await).await;
    running.send(journal(database, 2).await).await;
    caught_up(database, &[]).await;
    running.stop().await;
}

/// All rows of all read models, as one fingerprint.
async fn fingerprint(client: &Client) -> String {
    let mut all = String::new();
    for projection in shipped().projections() {
        let sql = format!(
            "select md5(string_agg(t::text, '|' order by t::text)) from analyst.{} t",
            projection.name
        );
        all.push_str(client.query_one(&sql, &[]).await.unwrap().get(0));
    }
    all
}

const HOSTILE: [&str; 9] = [
    "' or tenant = 2 --",
    "x'; set daybook.tenant = '2'; --",
    "set_config('daybook.tenant', '2', true)",
    "'||(select string_agg(data::text, ',') from journal.events)||'",
    "$1",
    ":tenant",
    "\\'; delete from journal.events; --",
    "%",
    "{\"$ne\": null}",
];

async fn hostile_parameters_show_no_other_tenant_and_change_nothing() {
    let (database, client) = installed(&shipped()).await;
    two_tenants(&database).await;
    let login = QueryLogin::new(&database, &client).await;
    let queries = login.queries(&database).await;
    let before = fingerprint(&client).await;
    let scope = PrincipalScope {
        customer_id: Some(Uuid::from_u128(1)),
        partner_id: Some(Uuid::from_u128(9)),
    };
    let declared = queries.declared();
    let (mut asked, mut answered) = (0, 0);
    for query in &declared.queries {
        for (n, hostile) in HOSTILE.iter().enumerate() {
            let mut params = HashMap::new();
            for parameter in query.parameters.iter().filter(|p| p.name != "limit") {
                let value = match (parameter.name.as_str(), parameter.kind) {
                    ("cursor", _) if n % 3 > 0 => {
                        let forged = json!(vec![*hostile; n % 3]).to_string();
                        URL_SAFE_NO_PAD.encode(forged)
                    }
                    ("cursor", _) => continue,
                    (_, ParameterKind::Text) => (*hostile).to_owned(),
                    // of other types no such value gets in, which is tried as well
                    _ if n == 8 || parameter.required => (*hostile).to_owned(),
                    _ => continue,
                };
                params.insert(parameter.name.clone(), value);
            }
            asked += 1;
            match queries.run(query, 1, scope, &params, None, NO_WAIT).await {
                Ok(answer) => {
                    answered += 1;
                    assert!(!answer.json.contains("SECRET"), "{} {hostile}", query.name);
                }
                Err(QueryError::NotFound | QueryError::BadParameter { .. }) => {}
                Err(error) => panic!("{} {hostile}: {error:?}", query.name),
            }
        }
        // and without any: each tenant its own
        let required = query.parameters.iter().any(|p| p.required);
        if query.answer == AnswerShape::List && !required {
            for (tenant, secret) in [(1, false), (2, true)] {
                let answer =
                    queries.run(query, tenant, scope, &HashMap::new(), None, NO_WAIT).await;
                let found = answer.unwrap().json.contains("SECRET");
                assert!(secret || !found, "{}", query.name);
            }
        }
    }
    assert!(asked > 200 && answered > 50, "{asked} {answered}");
    assert_eq!(fingerprint(&client).await, before);
}

/// Leaves behind whatever would help the next statement of its connection.
const LEAVE: &str = "select concat(
        set_config('daybook.tenant', '2', false), set_config('search_path', 'public', false),
        set_config('timezone', 'Asia/Tokyo', false),
        set_config('statement_timeout', '0', false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('default_transaction_read_only', 'off', false)) as sku
    where :tenant = 1";

/// A folder whose author forgot the tenant, and tries more than is a query's.
fn careless(dir: &Path) -> Catalogue {
    let folder = dir.join("careless");
    std::fs::create_dir_all(folder.join("queries")).unwrap();
    let queries = [
        ("all", "select tenant, sku from read.careless where :tenant is not null"),
        ("other", "select tenant, sku from read.careless where tenant = 3 - :tenant"),
        ("journal", "select stream as sku from journal.events where tenant = :tenant"),
        ("keys", "select id::text as sku from identity.api_keys where :tenant = 1"),
        ("write", "select read.sneak()::text as sku where :tenant = 1"),
        ("bait", "select sku from bait where :tenant = 1"),
        ("leave", LEAVE),
    ];
    let mut toml = vec!["title = 'C'\nevents = ['ProductAdded']\n".to_owned()];
    for (name, sql) in queries {
        std::fs::write(folder.join(format!("queries/{name}.sql")), sql).unwrap();
        toml.push(format!(
            "[[query]]\nname = '{name}'\ntitle = 'q'\npath = '/v1/operator/{name}'\n\
             roles = ['operator']\nanswer = 'list'\norder = ['sku']\n"
        ));
    }
    let toml = toml.concat();
    for (file, text) in [
        ("projection.toml", toml.as_str()),
        (
            "table.sql",
            "create table read.careless (tenant integer, sku text, primary key (tenant, sku));
             create function read.sneak() returns integer language sql volatile as
             $$ insert into read.careless values (1, 'sneaked') returning 1 $$",
        ),
        ("key.sql", "select e.data->>'sku' as sku, null::jsonb as part"),
        ("apply.sql", "null;"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    Catalogue::load(dir).unwrap()
}

#[tokio::test]
async fn a_query_that_forgets_the_tenant_or_reaches_further_gets_nothing_by_it() {
    let (database, mut client) = installed(&shipped()).await;
    let login = QueryLogin::new(&database, &client).await;
    let dir = tempfile::tempdir().unwrap();
    // after the login: what is added later is as safe
    install(&mut client, &careless(dir.path())).await.unwrap();
    client
        .batch_execute(
            "create schema identity; create table identity.api_keys (id integer);
             create table public.bait (sku text); grant select on public.bait to public",
        )
        .await
        .unwrap();
    two_tenants(&database).await;
    let queries = login.queries(&database).await;
    let declared = queries.declared();
    let ask = async |name: &str, tenant: i32| {
        let query = declared.queries.iter().find(|query| query.name == name).unwrap();
        queries.run(query, tenant, PrincipalScope::default(), &HashMap::new(), None, NO_WAIT).await
    };
    for tenant in [1, 2] {
        let rows: Vec<Value> =
            serde_json::from_str(&ask("all", tenant).await.unwrap().json).unwrap();
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().all(|row| row["tenant"] == tenant), "{rows:?}");
        assert_eq!(ask("other", tenant).await.unwrap().json, "[]");
    }
    assert_eq!(ask("all", 3).await.unwrap().json, "[]");
    // what one statement leaves behind helps none that comes later on its connection
    for _ in 0..3 {
        let left = ask("leave", 1).await.unwrap().json;
        assert!(left.contains("2publicAsia/Tokyo0read committedoff"), "{left}");
        assert!(!ask("all", 1).await.unwrap().json.contains("\"tenant\":2"));
        ask("leave", 1).await.unwrap();
        assert_eq!(ask("other", 1).await.unwrap().json, "[]");
        ask("leave", 1).await.unwrap();
    }
    for (name, code) in [
        ("journal", SqlState::INSUFFICIENT_PRIVILEGE),
        ("keys", SqlState::INSUFFICIENT_PRIVILEGE),
        ("write", SqlState::READ_ONLY_SQL_TRANSACTION),
        // names without a schema mean nothing but PostgreSQL's own
        ("bait", SqlState::UNDEFINED_TABLE),
    ] {
        let QueryError::Database(error) = ask(name, 1).await.unwrap_err() else {
            panic!("{name}");
        };
        assert_eq!(error.code(), Some(&code), "{name}");
    }
    // Nor if a transaction could write, or said nothing of a tenant.
    let direct = connect(&login.config()).await;
    let table: String = client
        .query_one(
            "select schema || '.careless' from projection.versions where projection = 'careless'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    for statement in [
        format!("insert into {table} values (1, 'x')"),
        format!("update {table} set sku = 'x'"),
        format!("delete from {table}"),
        format!("alter table {table} disable row level security"),
    ] {
        let error = direct.batch_execute(&statement).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
    let seen = direct.query(&format!("select from {table}"), &[]).await.unwrap();
    assert!(seen.is_empty(), "without a tenant nothing is seen");
}

async fn looking_back_the_login_reads_one_tenants_events_and_not_the_journal() {
    let (database, client) = installed(&shipped()).await;
    two_tenants(&database).await;
    let login = QueryLogin::new(&database, &client).await;
    let queries = login.queries(&database).await;
    let head: i64 = database
        .journal
        .query_one("select max(position) from journal.events where tenant = 1", &[])
        .await
        .unwrap()
        .get(0);
    let as_of = AsOf { position: head, asked: head.to_string() };
    let ask = async |name: &str, tenant, given: &[(&str, &str)]| -> Value {
        let declared = queries.declared();
        let query = declared.queries.iter().find(|query| query.name == name).unwrap();
        let given = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let scope = PrincipalScope::default();
        let answer = queries.run_as_of(query, tenant, scope, &given, &as_of, Instant::now());
        let answer = answer.await.unwrap();
        serde_json::from_str(&answer.json).unwrap()
    };
    let orders = ask("operator_orders", 1, &[("limit", "500")]).await;
    assert!(orders.as_array().unwrap().len() > 5, "{orders}");
    assert!(!orders.to_string().contains("SECRET"), "{orders}");
    let order_id = orders[0]["order_id"].as_str().unwrap();
    let order = ask("operator_order", 1, &[("order_id", order_id)]).await;
    assert_eq!(order["order_id"], order_id);
    assert!(!order.to_string().contains("SECRET"));
    let theirs = ask("operator_order", 2, &[("order_id", order_id)]).await;
    assert!(theirs.to_string().contains("SECRET"), "the other tenant's own");

    // a query's SQL that calls the functions itself comes no further
    let (client, connection) = login.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let schema = shipped().projection("orders").unwrap().schema();
    client.batch_execute("set daybook.tenant = '1'").await.unwrap();
    for sql in [
        "select from journal.events".to_owned(),
        format!("select from {schema}.orders__as_of(2, 100)"),
        format!("select from {schema}.orders__as_of_events(2, 100, null)"),
        format!("select from {schema}.orders__as_of_events(null, 100, null)"),
        format!("select from {schema}.orders__as_of_key(2, 100, array['x'], '{{}}')"),
    ] {
        let error = client.batch_execute(&sql).await.expect_err(&sql);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error:?}");
    }
}

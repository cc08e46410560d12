//! What each role of the program may do in PostgreSQL: every role is tried against every relation.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use daybook_tests::Installation;
use tokio_postgres::{Client, error::SqlState};

const ROLES: [&str; 8] =
    ["serve", "query", "relay", "project", "work", "audit", "analyst", "import"];

/// What a role may do with a relation: words of select, insert, update, `update(column,…)` and
/// delete. Whoever is not named may do nothing.
type Rights = (&'static str, &'static str);

/// Every relation of every schema, but for those of read models.
const RELATIONS: &[(&str, &[Rights])] = &[
    (
        "journal.events",
        &[
            ("serve", "select"),
            ("relay", "select"),
            ("project", "select"),
            ("work", "select"),
            ("audit", "select"),
            ("import", "select"),
        ],
    ),
    (
        "journal.tenants",
        &[
            ("serve", "select"),
            ("relay", "select"),
            ("project", "select"),
            ("work", "select"),
            ("audit", "select"),
            ("import", "select"),
        ],
    ),
    ("journal.tenants_tenant_seq", &[]),
    ("journal.incarnations", &[]),
    ("journal.commands", &[("serve", "select")]),
    (
        "journal.activations",
        &[("serve", "select"), ("project", "select"), ("work", "select"), ("import", "select")],
    ),
    ("journal.processes", &[]),
    (
        "journal.snapshots",
        &[
            ("serve", "select insert update"),
            ("work", "select insert update"),
            ("import", "select insert update"),
        ],
    ),
    ("journal.current_events", &[]),
    (
        "journal.jobs",
        &[(
            "work",
            "select update(attempts,ended_at,last_error,lease,leased_until,run_at,sealed,state)",
        )],
    ),
    ("identity.api_keys", &[("serve", "select update(last_used_at)")]),
    ("feed.partitions", &[("relay", "select insert update")]),
    ("feed.positions", &[("relay", "select insert update")]),
    ("projection.versions", &[("serve", "select"), ("query", "select"), ("project", "select")]),
    ("projection.active", &[("serve", "select"), ("query", "select"), ("project", "select")]),
    ("projection.grantees", &[]),
    ("projection.parked", &[("serve", "select"), ("project", "select insert update delete")]),
    ("projection.rebuilds", &[("project", "select insert update delete")]),
    (
        "projection.checkpoints",
        &[("serve", "select"), ("query", "select"), ("project", "select insert update")],
    ),
    ("sandbox.answers", &[("work", "select insert")]),
    ("sandbox.lost", &[("work", "select insert")]),
    ("sandbox.charges", &[("work", "select insert update(reason)")]),
    ("sandbox.refunds", &[("work", "select insert")]),
    ("analyst.events", &[("analyst", "select")]),
    ("analyst.tenants", &[("analyst", "select")]),
    ("public.daybook_migrations_feed", &[]),
    ("public.daybook_migrations_identity", &[]),
    ("public.daybook_migrations_journal", &[]),
    ("public.daybook_migrations_projection", &[]),
    ("public.daybook_migrations_sandbox", &[]),
];
/// A read model's table, and its view for analysts.
const READ_MODEL: &[Rights] = &[("query", "select"), ("project", "select insert update delete")];
const READ_MODEL_VIEW: &[Rights] = &[("analyst", "select")];
/// The view of an event type, or of the rows within its events.
const EVENT_VIEW: &[Rights] = &[("analyst", "select")];

/// Who may execute which function; nobody may any other, but for those of read models in the schemas
/// of their versions, which folds and queries call.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("journal.append", &["import", "serve", "work"]),
    ("journal.lock", &["import", "serve", "work"]),
    ("journal.incarnation", &["audit", "import", "project", "relay", "serve", "work"]),
    ("journal.register_process", &["import", "project", "serve", "work"]),
    ("journal.heartbeat", &["import", "project", "serve", "work"]),
    ("journal.deregister_process", &["import", "project", "serve", "work"]),
    ("journal.remove_done_jobs", &["work"]),
    ("journal.remove_expired_commands", &["work"]),
    ("projection.drop_staging", &["project"]),
    ("projection.make_staging", &["project"]),
    ("projection.open_scratch", &["project", "query"]),
    ("projection.show_analysts", &["project"]),
    ("projection.switch_when_ready", &["project"]),
];

/// Pure functions that read old events in their current form, for everybody.
const LIFTING: [&str; 3] = ["journal.upcast", "journal.current_version", "journal.lift_"];

/// What a statement came to, in a transaction that is rolled back.
async fn is_refused(client: &Client, statement: &str) -> bool {
    // The analyst's transactions are read only unless they say otherwise: the rights decide here.
    client.batch_execute("begin read write").await.expect("a transaction begins");
    let result = client.batch_execute(statement).await;
    client.batch_execute("rollback").await.expect("a transaction ends");
    match result {
        Ok(()) => false,
        Err(error) => {
            let code = error.code().unwrap_or_else(|| panic!("{statement}: {error}"));
            // Nobody at all can write to a view that joins, nor to a column that a view computes.
            let impossible = error.as_db_error().is_some_and(|db| db.message().contains(" view "))
                && [&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, &SqlState::FEATURE_NOT_SUPPORTED]
                    .contains(&code);
            assert_ne!(*code, SqlState::SYNTAX_ERROR, "{statement}: {error}");
            *code == SqlState::INSUFFICIENT_PRIVILEGE || impossible
        }
    }
}

/// What the role of the connection can do with a relation, in the words of [`RELATIONS`].
async fn rights(client: &Client, relation: &str, columns: &[String]) -> String {
    let mut found = Vec::new();
    if !is_refused(client, &format!("select from {relation} limit 0")).await {
        found.push("select".to_owned());
    }
    if !is_refused(client, &format!("insert into {relation} default values")).await {
        found.push("insert".to_owned());
    }
    let mut updatable = Vec::new();
    for column in columns {
        let update = format!("update {relation} set {column} = default where false");
        if !is_refused(client, &update).await {
            updatable.push(column.as_str());
        }
    }
    if updatable.len() == columns.len() && !columns.is_empty() {
        found.push("update".to_owned());
    } else if !updatable.is_empty() {
        found.push(format!("update({})", updatable.join(",")));
    }
    if !is_refused(client, &format!("delete from {relation} where false")).await {
        found.push("delete".to_owned());
    }
    found.join(" ")
}

/// What nobody but the owner may do with a relation.
fn owners_alone(relation: &str, kind: &str) -> Vec<String> {
    match kind {
        "v" => vec![
            format!("drop view {relation}"),
            format!("alter view {relation} rename to stolen"),
            format!("create or replace view {relation} as select 1"),
        ],
        "S" => vec![
            format!("drop sequence {relation}"),
            format!("alter sequence {relation} restart"),
            format!("select nextval('{relation}')"),
            format!("select setval('{relation}', 1)"),
        ],
        _ => vec![
            format!("truncate {relation}"),
            format!("drop table {relation}"),
            format!("alter table {relation} add column more integer"),
            format!("alter table {relation} disable trigger all"),
            format!("alter table {relation} owner to current_user"),
            format!("create index on {relation} ((1))"),
        ],
    }
}

/// Every relation outside PostgreSQL's own schemas: kind and columns by name.
async fn relations(admin: &Client) -> BTreeMap<String, (String, Vec<String>)> {
    let rows = admin
        .query(include_str!("sql/relations.sql"), &[])
        .await
        .expect("the catalogue can be read");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// The views that there must be of event types: one for each folder of `schemas/events`, and one for
/// each array of objects in its newest version.
fn event_views() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/events");
    let mut views = Vec::new();
    for kind in std::fs::read_dir(folder).expect("there are schemas") {
        let kind = kind.expect("an entry can be read").path();
        let newest = std::fs::read_dir(&kind).expect("a type has versions").count();
        let text = std::fs::read_to_string(kind.join(format!("{newest}.json"))).expect("a schema");
        let schema: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let mut view = "analyst.event".to_owned();
        for letter in kind.file_name().expect("a name").to_string_lossy().chars() {
            if letter.is_uppercase() {
                view.push('_');
            }
            view.extend(letter.to_lowercase());
        }
        for (member, schema) in schema["properties"].as_object().expect("it is an object") {
            if schema["items"]["type"] == "object" {
                views.push(format!("{view}_{member}"));
            }
        }
        views.push(view);
    }
    views
}

/// What must be in a database of relations that `is_there` lets through, with the read models that
/// it has.
async fn expected(
    admin: &Client,
    is_there: impl Fn(&str) -> bool,
) -> BTreeMap<String, &'static [Rights]> {
    let named = RELATIONS.iter().filter(|(relation, _)| is_there(relation));
    let mut expected: BTreeMap<String, &[Rights]> =
        named.map(|(relation, rights)| ((*relation).to_owned(), *rights)).collect();
    for view in event_views().into_iter().filter(|view| is_there(view)) {
        expected.insert(view, EVENT_VIEW);
    }
    if is_there("projection.versions") {
        let read_models = admin
            .query("select projection, schema from projection.versions", &[])
            .await
            .expect("readable");
        assert!(!read_models.is_empty());
        for row in read_models {
            let (name, schema): (String, String) = (row.get(0), row.get(1));
            expected.insert(format!("{schema}.{name}"), READ_MODEL);
            expected.insert(format!("analyst.{name}"), READ_MODEL_VIEW);
        }
    }
    expected
}

/// Tries everything with a connection of a role, and says what is otherwise than expected.
async fn faults(
    client: &Client,
    role: &str,
    relations: &BTreeMap<String, (String, Vec<String>)>,
    expected: &BTreeMap<String, &'static [Rights]>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (relation, (kind, columns)) in relations {
        let wanted = expected[relation]
            .iter()
            .find_map(|(name, rights)| (*name == role).then_some(*rights))
            .unwrap_or_default();
        let found = if kind == "S" {
            let refused = is_refused(client, &format!("select from {relation}")).await;
            if refused { String::new() } else { "select".to_owned() }
        } else {
            rights(client, relation, columns).await
        };
        if found != wanted {
            faults.push(format!("{role} may {found:?} {relation}, not {wanted:?}"));
        }
        for statement in owners_alone(relation, kind) {
            if !is_refused(client, &statement).await {
                faults.push(format!("{role} may {statement}"));
            }
        }
    }
    faults
}

#[tokio::test]
async fn each_role_may_do_what_it_needs_and_nothing_else() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let expected = expected(&admin, |_| true).await;
    let relations = relations(&admin).await;
    let there: BTreeSet<&String> = relations.keys().collect();
    assert_eq!(there, expected.keys().collect(), "say in RELATIONS who may do what with each");
    let mut found = Vec::new();
    for role in ROLES {
        let client = installation.connect_as(role).await;
        found.extend(faults(&client, role, &relations, &expected).await);
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[tokio::test]
async fn where_read_models_are_apart_each_role_may_do_as_little_on_both_sides() {
    let installation = Installation::with_reads_apart(None).await;
    let mut found = Vec::new();

    let admin = installation.connect().await;
    let of_journal = |relation: &str| !relation.contains("projection");
    let wanted = expected(&admin, of_journal).await;
    let there = relations(&admin).await;
    assert_eq!(there.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for role in ROLES.into_iter().filter(|role| *role != "query") {
        let client = installation.connect_as(role).await;
        found.extend(faults(&client, role, &there, &wanted).await);
    }

    let admin = installation.connect_reads().await;
    let of_read_models = |relation: &str| relation.contains("projection");
    let wanted = expected(&admin, of_read_models).await;
    let there = relations(&admin).await;
    assert_eq!(there.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for role in ["serve", "query", "project", "analyst"] {
        let client = installation.connect_reads_as(role).await;
        found.extend(faults(&client, role, &there, &wanted).await);
        for statement in ["create schema evil", "create temporary table evil ()"] {
            if !is_refused(&client, statement).await {
                found.push(format!("{role} may {statement} beside the read models"));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));

    // A login of one database is nobody in the other.
    let logins: Vec<String> = admin
        .query(
            "select r.rolname::text from pg_roles r cross join pg_database d
             where d.datname = current_database() and not r.rolsuper
               and has_database_privilege(r.oid, d.oid, 'connect') and r.rolname !~ '^pg_'
             order by 1",
            &[],
        )
        .await
        .expect("readable")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let database: String =
        admin.query_one("select current_database()::text", &[]).await.expect("readable").get(0);
    let own = ["analyst", "project", "query", "serve"].map(|role| format!("{database}_{role}"));
    assert_eq!(logins, own);
    let functions = admin
        .query(
            include_str!("sql/functions.sql"),
            &[&["serve", "query", "project", "analyst"].as_slice(), &database],
        )
        .await
        .expect("the catalogue can be read");
    for row in functions {
        let (function, roles): (String, Vec<String>) = (row.get(0), row.get(1));
        let wanted = FUNCTIONS.iter().find_map(|(name, who)| (*name == function).then_some(*who));
        let wanted = match wanted {
            Some(roles) => roles,
            None if function.starts_with("read_") => &["project", "query"],
            None if LIFTING.iter().any(|start| function.starts_with(start)) => {
                &["analyst", "project", "query", "serve"]
            }
            None => &[],
        };
        assert_eq!(roles, wanted, "{function}");
    }
}

#[tokio::test]
async fn no_role_makes_anything_or_becomes_somebody_else() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let owner: String =
        admin.query_one("select quote_ident(current_user)", &[]).await.expect("readable").get(0);
    let schemas = admin
        .query("select nspname::text from pg_namespace where nspname !~ '^(pg_|information)'", &[])
        .await
        .expect("readable");
    let mut statements = vec![
        "create schema evil".to_owned(),
        "create temporary table evil ()".to_owned(),
        "create role evil".to_owned(),
        format!("set role {owner}"),
        format!("set session authorization {owner}"),
        "set session_replication_role = replica".to_owned(),
        format!("alter database {} rename to evil", installation.database()),
        "insert into journal.events select * from journal.events".to_owned(),
        "copy journal.events to program 'true'".to_owned(),
        "lock table journal.events in access exclusive mode".to_owned(),
    ];
    for row in &schemas {
        let schema: String = row.get(0);
        statements.push(format!("create table {schema}.evil ()"));
        statements
            .push(format!("create function {schema}.evil() returns integer language sql return 1"));
        statements.push(format!("drop schema {schema} cascade"));
    }
    for other in ROLES {
        statements.push(format!("alter role {}_{other} password 'x'", installation.database()));
    }
    let mut faults = Vec::new();
    for role in ROLES {
        let client = installation.connect_as(role).await;
        for statement in &statements {
            // Everybody may change their own password, and nobody else's.
            let own = format!("alter role {}_{role} ", installation.database());
            if !statement.starts_with(&own) && !is_refused(&client, statement).await {
                faults.push(format!("{role} may {statement}"));
            }
        }
        for other in ROLES.iter().filter(|other| **other != role) {
            let become_it = format!("set role {}_{other}", installation.database());
            if !is_refused(&client, &become_it).await {
                faults.push(format!("{role} may {become_it}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[tokio::test]
async fn functions_are_executed_by_those_who_need_them() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let rows = admin
        .query(include_str!("sql/functions.sql"), &[&ROLES.as_slice(), &installation.database()])
        .await
        .expect("the catalogue can be read");
    let named: BTreeMap<&str, &[&str]> = FUNCTIONS.iter().copied().collect();
    let mut everybody = ROLES;
    everybody.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for row in &rows {
        let (function, roles): (String, Vec<String>) = (row.get(0), row.get(1));
        let wanted = match named.get(function.as_str()) {
            Some(roles) => *roles,
            None if function.starts_with("read_") => &["project", "query"][..],
            None if LIFTING.iter().any(|start| function.starts_with(start)) => &everybody,
            None => &[],
        };
        if roles != wanted {
            faults.push(format!("{function}: executed by {roles:?}, not {wanted:?}"));
        }
        seen.insert(function);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let missing: Vec<_> = named.keys().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "no such functions: {missing:?}");

    // What runs as the owner finds nothing of its caller's in its way.
    let unpinned = admin
        .query(
            "select p.oid::regprocedure::text from pg_proc p
             where p.prosecdef and not exists (
                 select from unnest(p.proconfig) as setting
                 where setting like 'search_path=pg_catalog%')",
            &[],
        )
        .await
        .expect("readable");
    let unpinned: Vec<String> = unpinned.iter().map(|row| row.get(0)).collect();
    assert!(unpinned.is_empty(), "run as the owner with the caller's search_path: {unpinned:?}");
    let lent: i64 = admin
        .query_one(
            "select count(*) from pg_proc p
             join projection.versions v on p.pronamespace = v.schema::regnamespace
             where p.prosecdef and p.proname <> v.projection || '__as_of_events'",
            &[],
        )
        .await
        .expect("readable")
        .get(0);
    assert_eq!(lent, 0, "what a folder declares runs with the rights of whoever calls it");
}

#[tokio::test]
async fn a_second_migration_changes_no_right_and_takes_back_what_was_added() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let rights = || async {
        let row = admin.query_one(include_str!("sql/all_rights.sql"), &[]).await.expect("readable");
        row.get::<_, String>(0)
    };
    let first = rights().await;
    let database = installation.database();
    admin
        .batch_execute(&format!(
            "grant delete on journal.commands to {database}_serve; \
             grant select on journal.events to public; \
             grant execute on function journal.append to {database}_analyst"
        ))
        .await
        .expect("the owner may grant");
    // A migration that replaces the function and says nothing about whose rights it runs with.
    let append: String = admin
        .query_one("select pg_get_functiondef('journal.append'::regproc)", &[])
        .await
        .expect("readable")
        .get(0);
    let forgetful = append.replace("SECURITY DEFINER", "").replace("SET search_path", "-- ");
    assert!(append.contains("SECURITY DEFINER") && append.contains("SET search_path"), "{append}");
    admin.batch_execute(&forgetful).await.expect("the owner may replace it");
    assert_ne!(rights().await, first);
    installation.run_ok(&["migrate"]).await;
    assert_eq!(rights().await, first);
}

#[tokio::test]
async fn a_read_model_that_is_added_later_has_its_rights_at_once() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let folder = tempfile::tempdir().expect("a folder");
    let later = folder.path().join("later");
    std::fs::create_dir(&later).expect("a folder");
    for (file, text) in [
        ("projection.toml", "title = 'Later'\nevents = ['OrderPlaced']"),
        (
            "table.sql",
            "create table read.later (tenant integer, id text, primary key (tenant, id));
             create function read.later_of(tenant integer) returns integer
                 language sql immutable as 'select tenant'",
        ),
        ("key.sql", "select e.stream as id, null::jsonb as part"),
        ("apply.sql", "null;"),
    ] {
        std::fs::write(later.join(file), text).expect("written");
    }
    let folder = later.to_str().expect("UTF-8");
    installation.run_ok(&["projections", "add", folder]).await;
    let schema: String = admin
        .query_one("select schema from projection.versions where projection = 'later'", &[])
        .await
        .expect("it is there")
        .get(0);
    let columns = ["id".to_owned(), "tenant".to_owned()];
    for role in ROLES {
        let client = installation.connect_as(role).await;
        let wanted = match role {
            "query" => "select",
            "project" => "select insert update delete",
            _ => "",
        };
        assert_eq!(rights(&client, &format!("{schema}.later"), &columns).await, wanted, "{role}");
        let wanted = if role == "analyst" { "select" } else { "" };
        assert_eq!(rights(&client, "analyst.later", &columns).await, wanted, "{role}");
        let call = is_refused(&client, &format!("select {schema}.later_of(1)")).await;
        assert_eq!(call, !["query", "project"].contains(&role), "{role}");
    }
}

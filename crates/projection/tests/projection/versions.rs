//! Versions of a projection side by side: built, switched to, switched back and dropped, while
//! events come in and queries are answered.

use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};

use crate::kit::folder::{APPLY, Folder, QUERY, TABLE, TOML, put};
use crate::kit::{Database, Running, append, caught_up, connect, installed, journal, rows, until};
use daybook_projection::{
    Catalogue, Change, LifecycleError, PrincipalScope, Queries, QueryError, ReadPositions,
    RebuildDeps, Source, VersionState, add, drop_projection, drop_version, install, rebuild,
    status, switch,
};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

crate::kit::in_both_layouts!(
    versions_change_under_load_and_no_query_fails_or_goes_back,
    a_version_that_is_behind_is_not_switched_to,
);

/// Queries that follow the database, as in `serve`.
struct Serving {
    queries: Queries,
    stop: CancellationToken,
}

impl Serving {
    async fn new(database: &Database) -> Self {
        let stop = CancellationToken::new();
        let (positions, task) = ReadPositions::new(database.config.clone());
        tokio::spawn(task.run(stop.clone()));
        let (queries, task) = Queries::new(database.pool(), positions);
        queries.reload().await.unwrap();
        tokio::spawn(task.run(stop.clone()));
        Self { queries, stop }
    }

    async fn sums(&self) -> Result<(i64, String), QueryError> {
        ask(&self.queries).await
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn ask(queries: &Queries) -> Result<(i64, String), QueryError> {
    let declared = queries.declared();
    let query = declared
        .queries
        .iter()
        .find(|q| q.name == "sums")
        .ok_or_else(|| QueryError::Unknown("sums".to_owned()))?;
    let scope = PrincipalScope::default();
    let answer = queries.run(query, 1, scope, &HashMap::new(), None, Duration::ZERO).await?;
    Ok((answer.position, answer.json))
}

/// Clients that ask again and again; each fails the test when an answer fails or goes back.
fn clients(serving: &Serving, stop: &CancellationToken) -> Vec<JoinHandle<u32>> {
    let client = || {
        let (queries, stop) = (serving.queries.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut last, mut asked) = (0, 0);
            while !stop.is_cancelled() {
                let (position, _) = ask(&queries).await.expect("no query fails");
                assert!(position >= last, "{position} after {last}");
                (last, asked) = (position, asked + 1);
            }
            asked
        })
    };
    (0..4).map(|_| client()).collect()
}

async fn states(database: &Database) -> Vec<(VersionState, i64)> {
    let client = database.client().await;
    status(&client, &database.reader())
        .await
        .unwrap()
        .iter()
        .map(|s| (s.state, s.position))
        .collect()
}

async fn schemas(client: &Client) -> i64 {
    let sql = "select count(*) from pg_namespace where nspname like 'read\\_%'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn versions_change_under_load_and_no_query_fails_or_goes_back() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    let serving = Serving::new(&database).await;
    // another process that serves, and hears of nothing but by asking
    let deaf = Serving::new(&database).await;
    deaf.stop.cancel();
    let running = Arc::new(Running::start(&database).await);
    let stop = CancellationToken::new();
    let mut asking = clients(&serving, &stop);
    asking.extend(clients(&deaf, &stop));

    let writing = {
        let (writer, stop) = (connect(&database.journal_config).await, stop.clone());
        let running = Arc::clone(&running);
        let reader = database.reader();
        tokio::spawn(async move {
            let mut head = 0;
            while !stop.is_cancelled() {
                let batch: Vec<_> = (0..20).map(|n| put(["a", "b", "c"][n % 3], 1)).collect();
                append(&writer, 1, &batch).await;
                let filter = daybook_journal::EventFilter::default();
                let events = reader.events(1, head, i64::MAX, &filter).await.unwrap();
                head = events.last().unwrap().position;
                running.send(events).await;
            }
            head
        })
    };
    // forward, by itself, again and again; and back by hand
    for round in 1..=4 {
        let before = states(&database).await.len();
        folder.write("apply.sql", &format!("{APPLY} -- {round}"));
        let done = install(&mut client, &folder.load()).await.unwrap();
        assert_eq!(done[0].change, Change::Version);
        until("the new version answers", async || {
            let now = states(&database).await;
            now.len() == before + 1 && now.iter().all(|(state, _)| *state != VersionState::Building)
        })
        .await;
        let old: String = client
            .query_one(
                "select version from projection.versions where state = 'retired'
                 order by changed_at desc limit 1",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(switch(&client, "sums", Some(&old)).await.unwrap(), old);
        let deps = RebuildDeps {
            config: database.config.clone(),
            reader: database.reader(),
            feed: None,
            piece_positions: Some(500),
            shares: None,
            anew: false,
        };
        rebuild(&deps, "sums", Source::Journal, &|_, _| {}).await.unwrap();
        let newest = folder.load().projections()[0].version().to_owned();
        switch(&client, "sums", Some(&newest)).await.unwrap();
        drop_version(&client, "sums", &old).await.unwrap();
    }
    stop.cancel();
    let head = writing.await.unwrap();
    for client in asking {
        assert!(client.await.unwrap() > 20, "it was asked all the time");
    }
    caught_up(&database, &[]).await;
    assert_eq!(schemas(&client).await, 1);
    let all: i64 =
        client.query_one("select sum(n)::bigint from analyst.sums", &[]).await.unwrap().get(0);
    assert_eq!(all, head);
    assert_eq!(serving.sums().await.unwrap(), deaf.sums().await.unwrap());
    Arc::into_inner(running).unwrap().stop().await;
}

async fn a_version_that_is_behind_is_not_switched_to() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("a", 1), put("b", 2)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    let serving = Serving::new(&database).await;
    // and a process that notices nothing but by what its queries answer
    let (positions, _never_run) = ReadPositions::new(database.config.clone());
    let (deaf, _never_run) = Queries::new(database.pool(), positions);
    deaf.reload().await.unwrap();
    let before = serving.sums().await.unwrap();
    assert_eq!(before.0, 2);

    folder.write("apply.sql", "r.n := r.n + 10 * (e.data->>'n')::bigint;");
    let newer = folder.load();
    let done = add(&mut client, &newer.projections()[0], false).await.unwrap();
    assert_eq!(done.change, Change::Version);
    // nobody builds it
    let refused = switch(&client, "sums", None).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::Behind { .. }), "{refused}");
    assert_eq!(serving.sums().await.unwrap(), before);

    let running = Running::start(&database).await;
    until("it has caught up", async || states(&database).await[1] == (VersionState::Building, 2))
        .await;
    // it was not to be switched to by itself, and is not
    append(&database.journal, 1, &[put("a", 1)]).await;
    running.send(journal(&database, 1).await).await;
    until("both follow on", async || states(&database).await.iter().all(|(_, at)| *at == 3)).await;
    assert_eq!(states(&database).await, [(VersionState::Active, 3), (VersionState::Building, 3)]);
    switch(&client, "sums", None).await.unwrap();
    assert_eq!(states(&database).await[1].0, VersionState::Retired);
    let (position, json) = ask(&deaf).await.unwrap();
    assert_eq!(serving.sums().await.unwrap(), (position, json.clone()));
    let items: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((position, &items[0]["n"], &items[0]["sign"]), (3, &json!(20), &json!("+")));
    assert!(rows(&client, "sums").await[0].contains("20"), "analysts see the same");
    running.stop().await;
}

#[tokio::test]
async fn projections_come_and_go_while_everything_runs() {
    let folder = Folder::new();
    let database = Database::new().await;
    let mut client = database.client().await;
    append(&database.journal, 1, &[put("a", 1), put("b", 2)]).await;
    let running = Running::start(&database).await;
    let serving = Serving::new(&database).await;
    let mut generation = serving.queries.changed();
    assert!(serving.queries.declared().queries.is_empty());

    let done = add(&mut client, &folder.load().projections()[0], true).await.unwrap();
    assert_eq!(done.change, Change::New);
    generation.changed().await.unwrap();
    until("it is built", async || states(&database).await == [(VersionState::Active, 2)]).await;
    assert_eq!(serving.sums().await.unwrap().0, 2);

    // another query over the same rows: the same version
    folder.write("queries/sums.sql", &QUERY.replace("n,", "n, 7 as seven,"));
    let done = add(&mut client, &folder.load().projections()[0], true).await.unwrap();
    assert_eq!(done.change, Change::Texts);
    generation.changed().await.unwrap();
    assert!(serving.sums().await.unwrap().1.contains("\"seven\":7"));
    let done = add(&mut client, &folder.load().projections()[0], true).await.unwrap();
    assert_eq!(done.change, Change::None);

    let version = folder.load().projections()[0].version().to_owned();
    let refused = drop_version(&client, "sums", &version).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::Active { .. }), "{refused}");
    let unknown = drop_version(&client, "sums", "nothing").await.unwrap_err().to_string();
    assert!(unknown.contains(&version[..12]), "it says which there are: {unknown}");
    drop_projection(&mut client, "sums").await.unwrap();
    assert!(matches!(serving.sums().await, Err(QueryError::Unknown(_))));
    assert_eq!(schemas(&client).await, 0);
    assert!(states(&database).await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn what_would_harm_others_is_refused() {
    let folder = Folder::new();
    let (_database, mut client) = installed(&folder.load()).await;
    let other = |toml: &str, table: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        fs::create_dir_all(path.join("queries")).unwrap();
        let copy = |file: &str, text: &str| fs::write(path.join(file), text).unwrap();
        copy("projection.toml", toml);
        copy("table.sql", &table.replace("read.sums", "read.other"));
        copy("key.sql", "select e.data->>'id' as id, null::jsonb as part");
        copy("apply.sql", APPLY);
        copy("queries/others.sql", "select id from read.other where tenant = :tenant");
        copy("queries/sums.sql", "select id from read.other where tenant = :tenant");
        Catalogue::of_folder(Path::new(&path)).unwrap()
    };
    let lent = TABLE.replace("immutable as", "immutable security definer as");
    for (toml, table, said) in [
        (TOML.replace("/operator/sums", "/operator/others"), TABLE, "name is taken"),
        (TOML.replace("'sums'", "'others'"), TABLE, "path is taken"),
        (TOML.replace("sums", "others"), lent.as_str(), "security definer"),
    ] {
        let catalogue = other(&toml, table);
        let error = add(&mut client, &catalogue.projections()[0], true).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(schemas(&client).await, 1, "nothing of it is left");
    }
    add(&mut client, &other(&TOML.replace("sums", "others"), TABLE).projections()[0], true)
        .await
        .unwrap();
}

//! What must not go wrong when something goes wrong: zombies, poison, changed definitions.

use std::{fs, path::Path};

use crate::kit::{NewEvent, Running, append, caught_up, installed, journal, rows, until};
use daybook_projection::{Catalogue, RebuildDeps, Source, install, rebuild, status};
use serde_json::json;
use tempfile::TempDir;

crate::kit::in_both_layouts!(
    poison_stops_one_projection_at_the_guilty_event_and_after_a_fix_it_goes_on,
    a_rebuild_under_load_loses_nothing_and_no_reader_fails,
    a_projection_that_hangs_holds_up_no_other_and_reads_later_what_it_missed,
    while_a_rebuild_puts_its_rows_in_place_no_projector_moves_them,
);

/// A folder of projections made from these files.
fn folder(projections: &[(&str, &str, &str, &str, &str)]) -> (TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    for (name, toml, table, key, apply) in projections {
        write(dir.path(), name, toml, table, key, apply);
    }
    let catalogue = Catalogue::load(dir.path()).unwrap();
    (dir, catalogue)
}

fn write(dir: &Path, name: &str, toml: &str, table: &str, key: &str, apply: &str) {
    let path = dir.join(name);
    fs::create_dir_all(&path).unwrap();
    for (file, text) in
        [("projection.toml", toml), ("table.sql", table), ("key.sql", key), ("apply.sql", apply)]
    {
        fs::write(path.join(file), text).unwrap();
    }
}

const TOML: &str = "title = \"T\"\nevents = [\"Put\", \"Gone\", \"Fan\"]";

/// Sums `n` by key; `Gone` removes the row; a negative number can't be folded.
fn summing(name: &str) -> (String, String, String, String) {
    (
        name.to_owned(),
        format!(
            "create table read.{name} (tenant integer not null, id text not null, note text, \
             n bigint not null default 0, steps text not null default '', primary key (tenant, id))"
        ),
        "select k.id, k.part from jsonb_array_elements_text(e.data->'ids') with ordinality \
         as k0 (id, place) cross join lateral (select k0.id, to_jsonb(k0.place) as part) k"
            .to_owned(),
        "if e.type = 'Gone' then return null; end if;
         if (e.data->>'n')::bigint < 0 then raise exception 'no negative numbers'; end if;
         r.n := r.n + (e.data->>'n')::bigint; r.steps := r.steps || e.position || '.' || (part->>0) || ' ';"
            .to_owned(),
    )
}

fn two() -> (TempDir, Catalogue) {
    let (good, bad) = (summing("good"), summing("poisoned"));
    let lenient = good.3.replace("raise exception 'no negative numbers'", "r.note := 'odd'");
    folder(&[(&good.0, TOML, &good.1, &good.2, &lenient), (&bad.0, TOML, &bad.1, &bad.2, &bad.3)])
}

fn event(kind: &'static str, ids: &[&str], n: i64) -> NewEvent {
    NewEvent {
        stream: "s".into(),
        kind,
        data: json!({"ids": ids, "n": n}),
        occurred_at: "2011-01-01T00:00:00Z".parse().unwrap(),
    }
}

#[tokio::test]
async fn keys_fan_out_repeat_and_vanish() {
    let (_dir, catalogue) = two();
    let (database, client) = installed(&catalogue).await;
    let history = [
        event("Put", &["a", "b", "a"], 2),
        event("Ignored", &["a"], 100),
        event("Put", &["c"], 1),
        event("Gone", &["a"], 0),
        event("Put", &["a"], 5),
        event("Gone", &["c", "never"], 0),
        event("Put", &[], 9),
    ];
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    // every event alone, so that rows are inserted, updated, removed and inserted again
    for event in journal(&database, 1).await {
        running.send(vec![event]).await;
    }
    caught_up(&database, &[]).await;
    running.stop().await;
    let expected = [
        r#"{"n": 2, "id": "b", "note": null, "steps": "1.2 ", "tenant": 1}"#,
        r#"{"n": 5, "id": "a", "note": null, "steps": "5.1 ", "tenant": 1}"#,
    ];
    assert_eq!(rows(&client, "good").await, expected);
    for piece_positions in [None, Some(1), Some(2)] {
        let deps = RebuildDeps {
            config: database.config.clone(),
            reader: database.reader(),
            feed: None,
            piece_positions,
            shares: None,
            anew: false,
        };
        let report = rebuild(&deps, "good", Source::Journal, &|_, _| {}).await.unwrap();
        assert_eq!((report.changed_rows, report.positions), (0, vec![(1, 7)]));
    }
    assert_eq!(rows(&client, "good").await, expected);
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let (_dir, catalogue) = two();
    let (database, client) = installed(&catalogue).await;
    let incarnation = database.reader().incarnation().await.unwrap();
    let schema = catalogue.projection("good").unwrap().schema();
    let statement = format!(
        "select o_moved, o_active, o_keys from {schema}.good__advance(1, $1, $2, $3,
            array[$3]::bigint[], array['s'], array[1], array['Put'], array[1]::smallint[],
            array['{{\"ids\": [\"a\"], \"n\": 1}}']::jsonb[], array[null]::jsonb[],
            array[now()], array[now()])"
    );
    let advance = |expected: i64, next: i64, incarnation: uuid::Uuid| {
        let (client, statement) = (&client, &statement);
        async move {
            let row = client.query_one(statement, &[&incarnation, &expected, &next]).await.unwrap();
            if row.get(0) {
                assert_eq!(row.get::<_, Vec<String>>(2), ["[\"a\"]"], "the key that it touched");
                assert!(row.get::<_, bool>(1), "the version answers");
            }
            row.get::<_, bool>(0)
        }
    };
    assert!(advance(0, 1, incarnation).await);
    assert!(advance(1, 2, incarnation).await);
    let before = rows(&client, "good").await;
    for expected in [0, 1, 3] {
        assert!(!advance(expected, 4, incarnation).await);
    }
    assert!(!advance(2, 3, uuid::Uuid::new_v4()).await, "another history");
    assert_eq!(rows(&client, "good").await, before);
    assert_eq!(status(&client, &database.reader()).await.unwrap()[0].position, 2);
}

async fn poison_stops_one_projection_at_the_guilty_event_and_after_a_fix_it_goes_on() {
    let (_dir, catalogue) = two();
    let (database, client) = installed(&catalogue).await;
    let mut history: Vec<_> = (1..=20).map(|n| event("Put", &["a", "b"], n)).collect();
    history[12] = event("Put", &["a"], -1);
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    running.send(journal(&database, 1).await).await;
    caught_up(&database, &["poisoned"]).await;
    until("the error is recorded", || async {
        status(&client, &database.reader()).await.unwrap()[1].error.is_some()
    })
    .await;
    let stopped = status(&client, &database.reader()).await.unwrap().remove(1);
    let error = stopped.error.unwrap();
    assert_eq!((stopped.name.as_str(), stopped.position, stopped.head), ("poisoned", 12, 20));
    assert_eq!((error.position, error.kind.as_deref()), (Some(13), Some("Put")));
    assert!(error.message.contains("no negative numbers"), "{}", error.message);
    // all that came before is in the rows
    assert!(rows(&client, "poisoned").await[0].contains("\"n\": 78"));

    let source: String = client
        .query_one(
            "select pg_get_functiondef(oid) from pg_proc where proname = 'poisoned__apply'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let fixed = source.replace("raise exception 'no negative numbers'", "r.note := 'odd'");
    client.batch_execute(&fixed).await.unwrap();
    caught_up(&database, &[]).await;
    running.stop().await;
    assert_eq!(rows(&client, "poisoned").await, rows(&client, "good").await);
}

#[tokio::test]
async fn what_postgresql_refuses_in_a_folder_is_said_by_name() {
    let (name, table, key, apply) = summing("good");
    for (table, key, apply, said) in [
        (table.replace("id text", "id txt"), key.clone(), apply.clone(), "txt"),
        (table.replace("tenant integer not null, ", ""), key.clone(), apply.clone(), "tenant"),
        (table.clone(), key.replace("k.part", "k.prt"), apply.clone(), "prt"),
        (table.clone(), key.clone(), apply.replace("end if", "end fi"), "fi"),
        (table.replace("primary key (tenant, id)", "primary key (id)"), key, apply, "primary key"),
    ] {
        let (_dir, catalogue) = folder(&[(&name, TOML, &table, &key, &apply)]);
        let database = crate::kit::Database::new().await;
        let mut client = database.client().await;
        let error = install(&mut client, &catalogue).await.unwrap_err().to_string();
        assert!(error.contains("projection good") && error.contains(said), "{error}");
    }
}

async fn a_rebuild_under_load_loses_nothing_and_no_reader_fails() {
    let catalogue = crate::kit::shipped();
    let (database, client) = installed(&catalogue).await;
    let history = crate::kit::history::History::of_length(7, 2_000);
    append(&database.journal, 1, &history.events[..1_000]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    client.batch_execute("update analyst.stock set reserved = reserved + 1").await.unwrap();

    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: Some(50),
        shares: None,
        anew: false,
    };
    let rebuilding = async {
        for _ in 0..3 {
            rebuild(&deps, "stock", Source::Journal, &|_, _| {}).await.unwrap();
        }
    };
    let writing = async {
        for events in history.events[1_000..].chunks(20) {
            append(&database.journal, 1, events).await;
            let all = journal(&database, 1).await;
            running.send(all[all.len() - events.len()..].to_vec()).await;
        }
    };
    let reading = async {
        let mut last = 0;
        for _ in 0..300 {
            let row = client
                .query_one(
                    "select (select count(*) from analyst.stock), position from projection.checkpoints
                     where projection = 'stock'",
                    &[],
                )
                .await
                .unwrap();
            assert_eq!(row.get::<_, i64>(0), 6, "rows are there all the time");
            assert!(row.get::<_, i64>(1) >= last, "the position never goes back");
            last = row.get(1);
        }
    };
    tokio::join!(rebuilding, writing, reading);
    caught_up(&database, &[]).await;
    running.stop().await;
    let report = rebuild(&deps, "stock", Source::Journal, &|_, _| {}).await.unwrap();
    assert_eq!(report.changed_rows, 0);
}

async fn a_projection_that_hangs_holds_up_no_other_and_reads_later_what_it_missed() {
    let (_dir, catalogue) = two();
    let (database, client) = installed(&catalogue).await;
    let history: Vec<_> = (1..=60).map(|n| event("Put", &["a", "b"], n)).collect();
    append(&database.journal, 1, &history).await;
    let mut holder = database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table analyst.poisoned in access exclusive mode").await.unwrap();

    let running = Running::start(&database).await;
    // many more deliveries than a queue holds
    for event in journal(&database, 1).await {
        running.send(vec![event]).await;
    }
    caught_up(&database, &["poisoned"]).await;
    assert_eq!(status(&client, &database.reader()).await.unwrap()[1].position, 0);
    held.commit().await.unwrap();
    caught_up(&database, &[]).await;
    running.stop().await;
    assert_eq!(rows(&client, "poisoned").await, rows(&client, "good").await);
}

async fn while_a_rebuild_puts_its_rows_in_place_no_projector_moves_them() {
    let (_dir, catalogue) = two();
    let (database, client) = installed(&catalogue).await;
    append(&database.journal, 1, &[event("Put", &["a", "b"], 1)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    let waiting = async || -> i64 {
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };

    // the rebuild finds a wrong row, and is held up when it corrects it
    client.batch_execute("update analyst.good set n = 7 where id = 'a'").await.unwrap();
    let mut holder = database.client().await;
    let held = holder.transaction().await.unwrap();
    held.batch_execute("select from analyst.good where id = 'a' for update").await.unwrap();
    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: None,
        shares: None,
        anew: false,
    };
    let rebuilding =
        tokio::spawn(async move { rebuild(&deps, "good", Source::Journal, &|_, _| {}).await });
    until("the rebuild waits", async || waiting().await == 1).await;
    append(&database.journal, 1, &[event("Put", &["b"], 1)]).await;
    running.send(journal(&database, 1).await).await;
    until("the projector waits too", async || waiting().await == 2).await;

    held.commit().await.unwrap();
    assert_eq!(rebuilding.await.unwrap().unwrap().changed_rows, 1);
    caught_up(&database, &[]).await;
    running.stop().await;
    assert_eq!(rows(&client, "good").await, rows(&client, "poisoned").await);
}

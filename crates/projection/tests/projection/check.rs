//! `check`: what a folder says is tried out, wrong things are named, and nothing is left behind.

use std::fs;

use crate::kit::{
    Database, append,
    folder::{APPLY, Folder, QUERY, TABLE, TOML, put},
    installed, shipped, upcasters,
};
use daybook_projection::{Checked, Example, add, check};

crate::kit::in_both_layouts!(the_shipped_folders_are_good,);

const EXAMPLE: &str = r#"{"title": "Sums are sums", "given": [
    {"type": "Put", "data": {"id": "b", "n": 2}},
    {"type": "Ignored", "data": {}},
    {"type": "Put", "data": {"id": "a", "n": 1}},
    {"type": "Put", "data": {"id": "b", "n": 3}}
], "then": [{"id": "a", "n": 1}, {"n": 5}]}"#;

fn folder() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("examples")).unwrap();
    folder.write("examples/sums.json", EXAMPLE);
    folder
}

async fn checked(database: &Database, folder: &Folder) -> Vec<Checked> {
    let examples = Example::load_all(&folder.path()).unwrap();
    let definition = folder.load().projections()[0].clone();
    check(&mut database.client().await, &definition, &upcasters(), &examples).await.unwrap()
}

/// Everything that is wrong, as one text.
fn wrong(checked: &[Checked]) -> String {
    let wrong = checked.iter().filter_map(|c| Some((&c.what, c.result.as_ref().err()?)));
    let lines: Vec<_> =
        wrong.map(|(what, wrong)| format!("{what}: {}", wrong.join("; "))).collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_good_folder_is_good_and_nothing_of_it_is_left() {
    let folder = folder();
    // also where the same version is installed already, and follows the journal
    let (database, client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("a", 1)]).await;
    let everything = "select string_agg(oid::text, ',' order by oid)
        || (select count(*) from pg_proc)::text || (select count(*) from pg_roles)::text
        || (select count(*) from projection.checkpoints)::text from pg_class";
    let before: String = client.query_one(everything, &[]).await.unwrap().get(0);
    let checked = checked(&database, &folder).await;
    assert_eq!(wrong(&checked), "");
    let whats: Vec<&str> = checked.iter().map(|c| c.what.as_str()).collect();
    assert_eq!(whats, ["table, key and apply", "query sums", "example sums.json", "apply"]);
    assert_eq!(checked[1].result, Ok("id text, n int8, sign text".to_owned()));
    let after: String = client.query_one(everything, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let database = Database::new().await;
    for (file, text, said) in [
        ("table.sql", TABLE.replace("id text", "id txt"), "txt"),
        ("key.sql", "select e.data->>'idd' as id, null::jsonb as part".to_owned(), "null value"),
        ("apply.sql", APPLY.replace("r.n :=", "r.m :="), "\"m\""),
        ("queries/sums.sql", QUERY.replace("n,", "m,"), "\"m\""),
        ("queries/sums.sql", QUERY.replace("id,", "id as key,"), "ordered by column id"),
        ("queries/sums.sql", QUERY.replace("n,", "n / 0 as n,"), ""),
        ("examples/sums.json", EXAMPLE.replace("\"n\": 5", "\"n\": 6"), "row 2: n is 5, not 6"),
        ("examples/sums.json", EXAMPLE.replace("{\"n\": 5}", "{\"m\": 5}"), "no column m"),
        ("examples/sums.json", EXAMPLE.replace(", {\"n\": 5}", ""), "2 rows, not 1"),
        // not a fold of the events: it looks elsewhere, at the clock, or at how they come
        ("apply.sql", format!("{APPLY} perform from journal.events;"), "permission denied"),
        ("apply.sql", "r.n := extract(epoch from clock_timestamp()) * 1e6;".into(), "twice"),
        (
            "apply.sql",
            format!("{APPLY} r.n := r.n + pg_backend_pid() * 0 + (random() * 1e9)::int;"),
            "different rows",
        ),
    ] {
        let folder = folder();
        folder.write(file, &text);
        let wrong = wrong(&checked(&database, &folder).await);
        if said.is_empty() {
            assert_eq!(wrong, "", "an empty table divides nothing");
        } else {
            assert!(wrong.contains(said), "{file} {said}: {wrong:?}");
        }
    }
}

#[tokio::test]
async fn a_fold_that_depends_on_how_events_come_is_found() {
    let database = Database::new().await;
    let folder = folder();
    // the transaction's time is the same for all events of one piece; so is a sequence's last value
    folder.write(
        "apply.sql",
        "r.n := coalesce(nullif(current_setting('daybook.last', true), ''), '0')::bigint + 1;
         perform set_config('daybook.last', r.n::text, true);",
    );
    let wrong = wrong(&checked(&database, &folder).await);
    assert!(wrong.contains("apply.sql makes"), "{wrong:?}");
}

#[tokio::test]
async fn a_query_that_writes_and_one_whose_path_is_taken_are_refused() {
    let folder = folder();
    let (database, mut client) = installed(&shipped()).await;
    folder.write(
        "table.sql",
        &format!(
            "{TABLE} create function read.sneak() returns bigint language sql volatile as
         $$ insert into read.sums values (0, 'x') returning n $$;"
        ),
    );
    folder.write("queries/sums.sql", "select '' as id, read.sneak() where :tenant = 0");
    let said = wrong(&checked(&database, &folder).await);
    assert!(said.contains("read-only transaction"), "{said}");

    folder.write("projection.toml", &TOML.replace("/operator/sums", "/operator/stock"));
    let said = wrong(&checked(&database, &folder).await);
    assert!(said.contains("the path is taken"), "{said}");
    assert!(add(&mut client, &folder.load().projections()[0], true).await.is_err());
}

async fn the_shipped_folders_are_good() {
    let (database, mut client) = installed(&shipped()).await;
    let mut examples = 0;
    for definition in shipped().projections() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../projections")
            .join(&definition.name);
        let own = Example::load_all(&folder).unwrap();
        examples += own.len();
        let checked = check(&mut client, definition, &upcasters(), &own).await.unwrap();
        assert_eq!(wrong(&checked), "", "{}", definition.name);
    }
    assert!(examples > 10, "{examples}");
    drop(database);
}

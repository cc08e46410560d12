//! What was stored in any version is read in the current one.

use daybook_journal::{Upcaster, Upcasters};
use tokio_postgres::Client;

use crate::{Database, store};

const CALL: &str = "select journal.current_version(type, schema_version)::text,
    journal.upcast(type, schema_version, data)::text from journal.events order by position";

fn set(steps: &[(&'static str, i16, &'static str)]) -> Upcasters {
    let step = |&(kind, from, sql)| Upcaster { kind, from, sql };
    Upcasters::new(steps.iter().map(step).collect()).unwrap()
}

async fn read(client: &Client, sql: &str) -> Vec<(String, String)> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn a_chain_lifts_every_version_and_sets_live_side_by_side() {
    let database = Database::create().await;
    let client = database.client().await;
    for (kind, version) in [("A", 1), ("A", 2), ("A", 3), ("B", 1)] {
        store(&client, kind, version, r#"{"n": 1}"#).await;
    }
    let stored = pairs(&[
        ("1", r#"{"n": 1}"#),
        ("2", r#"{"n": 1}"#),
        ("3", r#"{"n": 1}"#),
        ("1", r#"{"n": 1}"#),
    ]);
    let none = Upcasters::default();
    assert_eq!(read(&client, &none.in_sql(CALL)).await, stored, "nothing has evolved");

    // A program that knows two versions, then one that knows three: each reads with its own.
    let one = ("A", 1, r#"data || '{"b": 2}' -- a comment"#);
    let (older, newer) = (set(&[one]), set(&[one, ("A", 2, r#"data || '{"c": 3}'"#)]));
    assert!(!older.installed(&client).await.unwrap());
    older.install(&client).await.unwrap();
    assert!(older.installed(&client).await.unwrap());
    newer.install(&client).await.unwrap();
    newer.install(&client).await.unwrap();
    let plain = r#"{"n": 1}"#;
    let (b, c, bc) = (r#"{"b": 2, "n": 1}"#, r#"{"c": 3, "n": 1}"#, r#"{"b": 2, "c": 3, "n": 1}"#);
    assert_eq!(
        read(&client, &older.in_sql(CALL)).await,
        pairs(&[("2", b), ("2", plain), ("3", plain), ("1", plain)]),
        "3 is none that the older program knows"
    );
    let newest = pairs(&[("3", bc), ("3", c), ("3", plain), ("1", plain)]);
    assert_eq!(read(&client, &newer.in_sql(CALL)).await, newest);
    assert_eq!(read(&client, CALL).await, newest, "the plain name is the newest");
    let view =
        "select schema_version::text, data::text from journal.current_events order by position";
    assert_eq!(read(&client, view).await, newest);
    let stored_versions =
        "select stored_version::text, type from journal.current_events order by position";
    assert_eq!(
        read(&client, stored_versions).await,
        pairs(&[("1", "A"), ("2", "A"), ("3", "A"), ("1", "B")])
    );
    database.drop().await;
}

#[tokio::test]
async fn the_planner_inlines_them() {
    let database = Database::create().await;
    let client = database.client().await;
    let set = set(&[("A", 1, r#"data || '{"b": 2}'"#), ("A", 2, "data - 'b'")]);
    for upcasters in [Upcasters::default(), set.clone()] {
        upcasters.install(&client).await.unwrap();
        for sql in [upcasters.in_sql(CALL), CALL.to_owned()] {
            let plan = client.query(&format!("explain (verbose) {sql}"), &[]).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
            let plan = plan.join("\n");
            for function in ["journal.upcast", "journal.current_version", "journal.lift"] {
                assert!(!plan.contains(function), "{function} is called:\n{plan}");
            }
            assert_eq!(plan.contains("CASE"), !upcasters.steps().is_empty(), "{plan}");
        }
    }
    database.drop().await;
}

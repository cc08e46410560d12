//! `diff`: two versions at the same position, row by row.

use crate::kit::{
    Database, Running, append, caught_up,
    folder::{APPLY, Folder, TABLE, put},
    installed, until,
};
use daybook_projection::{DiffReport, LifecycleError, RowDiff, add, diff, status};
use serde_json::json;

crate::kit::in_both_layouts!(versions_are_compared_at_one_position_while_events_come_in,);

async fn compare(database: &Database) -> (Result<DiffReport, LifecycleError>, Vec<RowDiff>) {
    let mut rows = Vec::new();
    let report =
        diff(&database.config, &database.reader(), "sums", None, None, &mut |row| rows.push(row))
            .await;
    (report, rows)
}

#[tokio::test]
async fn rows_that_differ_are_told_by_key_at_one_position() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    let (report, _) = compare(&database).await;
    assert!(matches!(report, Err(LifecycleError::NoVersion { .. })), "{report:?}");
    append(&database.journal, 1, &[put("a", 1), put("b", -2), put("c", 3), put("b", 1)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;

    // other figures, other rows, another column
    folder.write("table.sql", &TABLE.replace("primary key", "twice bigint, primary key"));
    folder.write(
        "apply.sql",
        &format!("{APPLY} r.twice := 2 * r.n; if r.n < 0 then return null; end if;"),
    );
    folder.write(
        "key.sql",
        "select coalesce(nullif(e.data->>'id', 'c'), 'd') as id, null::jsonb as part",
    );
    add(&mut client, &folder.load().projections()[0], false).await.unwrap();
    let reader = database.reader();
    let all = status(&client, &reader).await.unwrap();
    // nobody builds it: the comparison itself brings it to the other's position, whichever is asked
    let [active, building] = [0, 1].map(|n| all[n].version.clone());
    let mut turned = Vec::new();
    let report =
        diff(&database.config, &reader, "sums", Some(&building), Some(&active), &mut |row| {
            turned.push(row);
        })
        .await
        .unwrap();
    assert_eq!((report.changed, report.only_old, report.only_new), (2, 1, 1));
    let (report, rows) = compare(&database).await;
    let old: Vec<_> = rows.iter().map(|row| &row.old).collect();
    assert_eq!(turned.iter().map(|row| &row.new).collect::<Vec<_>>(), old);
    let report = report.unwrap();
    assert_eq!(report.positions, [("main".to_owned(), 4)]);
    assert_eq!((report.same, report.changed, report.only_old, report.only_new), (0, 2, 1, 1));
    let of = |key: &str| rows.iter().find(|row| row.key == json!({"id": key})).unwrap();
    assert_eq!(of("a").old, Some(json!({"id": "a", "n": 1})));
    assert_eq!(of("a").new, Some(json!({"id": "a", "n": 1, "twice": 2})));
    assert_eq!(of("b").new, Some(json!({"id": "b", "n": 1, "twice": 2})));
    assert_eq!((&of("c").new, &of("d").old), (&None, &None));
    let keys: Vec<_> = rows.iter().map(|row| row.key["id"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c", "d"], "in order");
}

async fn versions_are_compared_at_one_position_while_events_come_in() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("a", 1), put("b", 2)]).await;
    let running = Running::start(&database).await;
    folder.write("apply.sql", &format!("{APPLY} -- the same in other words"));
    add(&mut client, &folder.load().projections()[0], false).await.unwrap();
    caught_up(&database, &[]).await;
    let writing = async {
        for n in 0..60 {
            append(&database.journal, 1, &[put("a", n), put("c", n)]).await;
            running.send(crate::kit::journal(&database, 1).await).await;
        }
    };
    let comparing = async {
        let mut last = 0;
        for _ in 0..8 {
            let (report, rows) = compare(&database).await;
            let report = report.unwrap();
            assert_eq!(rows, [], "the same at the same position");
            assert!(report.positions[0].1 >= last);
            last = report.positions[0].1;
        }
    };
    tokio::join!(writing, comparing);
    until("both have caught up", async || {
        status(&client, &database.reader()).await.unwrap().iter().all(|s| s.position == 122)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn versions_with_other_keys_are_not_compared() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    folder.write("table.sql", &TABLE.replace("(tenant, id)", "(tenant, id, n)"));
    folder.write("key.sql", "select e.data->>'id' as id, 0::bigint as n, null::jsonb as part");
    add(&mut client, &folder.load().projections()[0], false).await.unwrap();
    let (report, _) = compare(&database).await;
    assert!(matches!(report, Err(LifecycleError::OtherKeys { .. })), "{report:?}");
}

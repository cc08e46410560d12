//! A rebuild that is ended in the middle goes on where it was.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::kit::{
    Running, append, caught_up,
    folder::{Folder, put},
    installed, rows, until,
};
use daybook_projection::{RebuildDeps, RebuildError, Source, rebuild};

crate::kit::in_both_layouts!(
    a_rebuild_that_was_killed_goes_on_where_it_was,
    what_another_history_left_staged_is_thrown_away,
);

async fn a_rebuild_that_was_killed_goes_on_where_it_was() {
    let (database, client) = installed(&Folder::new().load()).await;
    let history: Vec<_> = (0..6_000).map(|n| put(["a", "b", "c"][n % 3], 1)).collect();
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    let before = rows(&client, "sums").await;
    client.batch_execute("update analyst.sums set n = 7 where id = 'a'").await.unwrap();

    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: Some(50),
        anew: false,
    };
    let mut resumed = 0;
    for round in 1..=3 {
        let done = Arc::new(AtomicU64::new(0));
        let (told, own) = (Arc::clone(&done), deps.clone());
        let task = tokio::spawn(async move {
            rebuild(&own, "sums", Source::Journal, &move |at, _| told.store(at, Ordering::Relaxed))
                .await
        });
        until("it is in the middle", async || done.load(Ordering::Relaxed) >= round * 200).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled(), "it was in the middle");
        // its connection ends, and with it the lock
        let locks = "select count(*) = 0 from pg_locks l join pg_database d on d.oid = l.database
                     where locktype = 'advisory' and datname = current_database()";
        until("nobody holds it", async || client.query_one(locks, &[]).await.unwrap().get(0)).await;
        let staged: i64 =
            client.query_one("select position from projection.rebuilds", &[]).await.unwrap().get(0);
        assert!(staged >= resumed, "what was done is kept");
        resumed = staged;
    }
    assert!((600..6_000).contains(&resumed), "{resumed}");
    // meanwhile the rows that answer are untouched
    assert!(rows(&client, "sums").await.iter().any(|row| row.contains("\"n\": 7,")));
    let report = rebuild(&deps, "sums", Source::Journal, &|_, _| {}).await.unwrap();
    assert_eq!((report.resumed, report.changed_rows), (resumed, 1));
    assert_eq!(rows(&client, "sums").await, before);
    let report = rebuild(&deps, "sums", Source::Journal, &|_, _| {}).await.unwrap();
    assert_eq!((report.resumed, report.changed_rows), (0, 0), "the next one begins anew");
    running.stop().await;
}

async fn what_another_history_left_staged_is_thrown_away() {
    let (database, client) = installed(&Folder::new().load()).await;
    append(&database.journal, 1, &[put("a", 1), put("a", 2)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    let deps = RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: Some(1),
        anew: false,
    };
    let ours = database.reader().incarnation().await.unwrap();
    for (left, resumed) in [(ours, 1), (uuid::Uuid::new_v4(), 0)] {
        client
            .batch_execute(&format!(
                "select projection.make_staging(projection, version) from projection.versions;
                 insert into projection.rebuilds (projection, version, tenant, source, position, incarnation)
                 select projection, version, 1, 'journal', 1, '{left}' from projection.versions"
            ))
            .await
            .unwrap();
        let report = rebuild(&deps, "sums", Source::Journal, &|_, _| {}).await.unwrap();
        assert_eq!(report.resumed, resumed, "{left}");
        client.batch_execute("delete from projection.rebuilds").await.unwrap();
        let restore = RebuildDeps { anew: true, ..deps.clone() };
        rebuild(&restore, "sums", Source::Journal, &|_, _| {}).await.unwrap();
    }
    let unknown = rebuild(&deps, "nothing", Source::Journal, &|_, _| {}).await;
    assert!(matches!(unknown, Err(RebuildError::Unknown(_))), "{unknown:?}");
}

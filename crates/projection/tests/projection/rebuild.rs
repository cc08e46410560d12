//! A rebuild that is ended in the middle goes on where it was, each of its shares where that was.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::kit::{
    Database, LAYOUT, Layout, Running, append, caught_up,
    folder::{Folder, put},
    installed, rows, until,
};
use daybook_projection::{RebuildDeps, RebuildError, RebuildReport, Source, rebuild};
use serde_json::json;

crate::kit::in_both_layouts!(
    a_rebuild_that_was_killed_goes_on_where_it_was,
    shares_that_stand_apart_go_on_from_where_each_is,
    nobody_folds_the_share_of_another,
    one_that_has_lost_its_place_stops,
    equal_keys_are_of_one_share,
    what_another_history_left_staged_is_thrown_away,
);

/// Twice what was, plus `n`: an event that is folded twice, left out or folded too early shows.
const ORDERLY: &str = "r.n := (2 * r.n + (e.data->>'n')::bigint) % 1000003;";

fn deps(database: &Database, piece_positions: i64, shares: u32) -> RebuildDeps {
    RebuildDeps {
        config: database.config.clone(),
        reader: database.reader(),
        feed: None,
        piece_positions: Some(piece_positions),
        shares: NonZeroU32::new(shares),
        anew: false,
    }
}

async fn again(deps: &RebuildDeps) -> Result<RebuildReport, RebuildError> {
    rebuild(deps, "sums", Source::Journal, &|_, _| {}).await
}

/// Whose rows are right, with an orderly fold of so many events of seven keys.
async fn orderly(events: usize) -> (Database, tokio_postgres::Client, Vec<String>) {
    let folder = Folder::new();
    folder.write("apply.sql", ORDERLY);
    let (database, client) = installed(&folder.load()).await;
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let history: Vec<_> =
        (0..events).map(|n| put(ids[(5 * n + n / 7) % 7], [3, 0, 8][n % 3])).collect();
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    let right = rows(&client, "sums").await;
    (database, client, right)
}

async fn a_rebuild_that_was_killed_goes_on_where_it_was() {
    for shares in 1..=3 {
        one_in_shares_that_was_killed_goes_on(shares).await;
    }
}

async fn one_in_shares_that_was_killed_goes_on(shares: u32) {
    let (database, client) = installed(&Folder::new().load()).await;
    let history: Vec<_> = (0..6_000).map(|n| put(["a", "b", "c"][n % 3], 1)).collect();
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    let before = rows(&client, "sums").await;
    client.batch_execute("update analyst.sums set n = 7 where id = 'a'").await.unwrap();

    let deps = deps(&database, 50, shares);
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
        let staged = client
            .query_one("select avg(position)::bigint, count(*) from projection.rebuilds", &[])
            .await
            .unwrap();
        assert_eq!(staged.get::<_, i64>(1), i64::from(shares));
        assert!(staged.get::<_, i64>(0) >= resumed, "what was done is kept");
        resumed = staged.get(0);
    }
    assert!((600..6_000).contains(&resumed), "{resumed}");
    // meanwhile the rows that answer are untouched
    assert!(rows(&client, "sums").await.iter().any(|row| row.contains("\"n\": 7,")));
    // whatever number is asked for now, it keeps the one that it began with
    let other = RebuildDeps { shares: NonZeroU32::new(4), ..deps };
    let report = again(&other).await.unwrap();
    assert!((resumed - 1..=resumed).contains(&report.resumed), "{report:?}");
    assert_eq!((report.changed_rows, report.shares), (1, shares as usize));
    assert_eq!(rows(&client, "sums").await, before);
    let report = again(&other).await.unwrap();
    assert_eq!((report.resumed, report.changed_rows), (0, 0), "the next one begins anew");
    assert_eq!(report.shares, 4);
    running.stop().await;
}

async fn shares_that_stand_apart_go_on_from_where_each_is() {
    let (database, mut client, right) = orderly(1_000).await;
    // the second share can't note what it has done of one piece: one in the middle, and the last
    for (place, done) in [(550, 500), (1_000, 950)] {
        let stumble = format!(
            "create function public.stumble() returns trigger language plpgsql as $$
             begin raise exception 'it stumbles'; end $$;
             create trigger stumble before update on projection.rebuilds for each row
             when (new.share = 1 and new.position = {place}) execute function public.stumble()"
        );
        client.batch_execute(&stumble).await.unwrap();
        let deps = deps(&database, 50, 3);
        let stumbled = again(&deps).await;
        assert!(matches!(stumbled, Err(RebuildError::Database(_))), "{stumbled:?}");
        let places: Vec<i64> = client
            .query("select position from projection.rebuilds order by share", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(places, [place, done, place], "each has its own");
        if LAYOUT.get() == Layout::Separate {
            // each piece was copied once, whatever the number of shares
            until("what was copied is counted", async || {
                let sql =
                    "select n_tup_ins from pg_stat_user_tables where relname = 'sums__copied'";
                client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == place
            })
            .await;
        }
        nothing_of_it_is_for_readers(&mut client).await;

        client.batch_execute("drop function public.stumble cascade").await.unwrap();
        let report = again(&deps).await.unwrap();
        assert_eq!((report.resumed, report.changed_rows), ((2 * place + done) / 3, 0));
        assert_eq!(rows(&client, "sums").await, right);
    }
}

/// What a rebuild has in a version's schema is not opened to readers with it.
async fn nothing_of_it_is_for_readers(client: &mut tokio_postgres::Client) {
    let transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute(
            "insert into projection.grantees values ('pg_monitor', 'read');
             select projection.open_schema(schema) from projection.versions",
        )
        .await
        .unwrap();
    let open: Vec<String> = transaction
        .query(
            "select relname::text from pg_class join projection.versions v
                 on relnamespace = v.schema::regnamespace
             where relkind = 'r' and has_table_privilege('pg_monitor', pg_class.oid, 'select')",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(open, ["sums"]);
    transaction.rollback().await.unwrap();
}

async fn nobody_folds_the_share_of_another() {
    let (database, client, right) = orderly(1_000).await;
    // two at once: the second is refused, or begins when the first has ended
    let ten = deps(&database, 10, 2);
    for (one, other) in [(&ten, &ten), (&ten, &deps(&database, 70, 3))] {
        let (one, other) = tokio::join!(again(one), again(other));
        assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
        for report in [one, other] {
            match report {
                Ok(report) => assert_eq!(report.changed_rows, 0),
                Err(error) => assert!(matches!(error, RebuildError::Busy(_)), "{error:?}"),
            }
        }
        assert_eq!(rows(&client, "sums").await, right);
    }
    // a process that is gone, with one of its connections still at work on the second share
    let left = database.client().await;
    left.batch_execute(
        "select pg_advisory_lock(hashtext('daybook.projection.rebuild.share'), hashtext('sums 1'))",
    )
    .await
    .unwrap();
    let busy = again(&ten).await;
    assert!(matches!(busy, Err(RebuildError::Busy(_))), "{busy:?}");
    drop(left);
    let report = again(&ten).await.unwrap();
    assert_eq!((report.shares, report.changed_rows), (2, 0));
    assert_eq!(rows(&client, "sums").await, right);
}

async fn one_that_has_lost_its_place_stops() {
    let (database, client, right) = orderly(6_000).await;
    for shares in [1, 2] {
        let done = Arc::new(AtomicU64::new(0));
        let (told, own) = (Arc::clone(&done), deps(&database, 10, shares));
        let task = tokio::spawn(async move {
            rebuild(&own, "sums", Source::Journal, &move |at, _| told.store(at, Ordering::Relaxed))
                .await
        });
        until("it is in the middle", async || done.load(Ordering::Relaxed) >= 100).await;
        // somebody else has begun anew
        client.batch_execute("update projection.rebuilds set position = 0").await.unwrap();
        let lost = task.await.unwrap();
        assert!(matches!(lost, Err(RebuildError::Busy(_))), "{lost:?}");
        let deps = RebuildDeps { anew: true, ..deps(&database, 500, shares) };
        assert_eq!(again(&deps).await.unwrap().changed_rows, 0);
        assert_eq!(rows(&client, "sums").await, right);
    }
}

async fn equal_keys_are_of_one_share() {
    // equal numbers may be written differently; strings of bits have an order, but no hash
    for (of, column, shares) in
        [("numeric", "(e.data->>'id')::numeric", 3), ("bit(3)", "(e.data->'bits'->>0)::bit(3)", 1)]
    {
        let folder = Folder::new();
        folder
            .write(
                "table.sql",
                &format!(
                    "create table read.sums (tenant integer not null, id {of} not null,
                     n bigint not null default 0, primary key (tenant, id))"
                ),
            )
            .write("key.sql", &format!("select {column} as id, null::jsonb as part"))
            .write("apply.sql", ORDERLY)
            .write("queries/sums.sql", "select id::text, n from read.sums where tenant = :tenant");
        let (database, client) = installed(&folder.load()).await;
        let history: Vec<_> = (0..900)
            .map(|n| {
                let mut event =
                    put(&format!("{}{}", n % 8, [".0", "", ".00"][n % 3]), [3, 0, 8][n % 3]);
                event.data["bits"] = json!([format!("{:03b}", n % 8)]);
                event
            })
            .collect();
        append(&database.journal, 1, &history).await;
        let running = Running::start(&database).await;
        caught_up(&database, &[]).await;
        running.stop().await;
        let right = rows(&client, "sums").await;
        assert_eq!(right.len(), 8, "{of}");
        let report = again(&deps(&database, 100, 3)).await.unwrap();
        assert_eq!((report.shares, report.changed_rows), (shares, 0), "{of}");
        assert_eq!(rows(&client, "sums").await, right);
    }
}

async fn what_another_history_left_staged_is_thrown_away() {
    let (database, client) = installed(&Folder::new().load()).await;
    append(&database.journal, 1, &[put("a", 1), put("a", 2)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    let deps = deps(&database, 1, 1);
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
        let report = again(&deps).await.unwrap();
        assert_eq!(report.resumed, resumed, "{left}");
        client.batch_execute("delete from projection.rebuilds").await.unwrap();
        let restore = RebuildDeps { anew: true, ..deps.clone() };
        again(&restore).await.unwrap();
    }
    let unknown = rebuild(&deps, "nothing", Source::Journal, &|_, _| {}).await;
    assert!(matches!(unknown, Err(RebuildError::Unknown(_))), "{unknown:?}");
}

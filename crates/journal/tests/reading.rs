//! Reading and following against a real PostgreSQL: order, bounds, wake-ups, broken connections.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

mod bank;

use std::{pin::pin, time::Duration};

use bank::{Command, Database, submission};
use daybook_journal::{
    Direction, EventFilter, Heads, JournalError, Reader, StoredEvent, StreamRange, Verdict,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for what must come.
const SOON: Duration = Duration::from_secs(30);

async fn fill(database: &Database, events: i32, bytes: i32) {
    let client = database.client().await;
    client.execute(include_str!("fill.sql"), &[&events, &bytes]).await.unwrap();
    client.batch_execute("analyze journal.events").await.unwrap();
}

/// A reader with one connection, whose `application_name` tells it from others.
fn one_connection(database: &Database, name: &str) -> Reader {
    let mut config = database.config();
    config.application_name(name);
    let manager = deadpool_postgres::Manager::new(config, NoTls);
    Reader::new(deadpool_postgres::Pool::builder(manager).max_size(1).build().unwrap())
}

async fn positions(
    events: impl Stream<Item = Result<StoredEvent, JournalError>>,
) -> Result<Vec<i64>, JournalError> {
    events.map_ok(|event| event.position).try_collect().await
}

#[tokio::test]
async fn a_stream_is_read_from_either_end_and_from_any_version() {
    let database = Database::create().await;
    fill(&database, 150_000, 10).await;
    let reader = database.reader();
    let read = async |direction, from_version, limit| {
        let range = StreamRange { direction, from_version, limit };
        let events = reader.read_stream(1, "account-07", range);
        let versions: Vec<i32> = events.map_ok(|event| event.version).try_collect().await.unwrap();
        versions
    };
    // 1,500 events: three pages.
    let all: Vec<i32> = (1..=1500).collect();
    let mut backward = all.clone();
    backward.reverse();
    assert_eq!(read(Direction::Forward, None, None).await, all);
    assert_eq!(read(Direction::Backward, None, None).await, backward);
    assert_eq!(read(Direction::Forward, Some(1499), None).await, [1499, 1500]);
    assert_eq!(read(Direction::Backward, Some(2), None).await, [2, 1]);
    assert_eq!(read(Direction::Forward, Some(400), Some(501)).await, all[399..900]);
    assert_eq!(read(Direction::Backward, Some(5000), Some(2)).await, [1500, 1499]);
    assert_eq!(read(Direction::Forward, Some(1501), None).await, [0_i32; 0]);
    assert_eq!(read(Direction::Forward, None, Some(0)).await, [0_i32; 0]);
    let nothing = reader.read_stream(1, "account-none", StreamRange::default());
    assert_eq!(positions(nothing).await.unwrap(), [0_i64; 0]);
    let end = reader.stream_end(1, "account-07").await.unwrap().unwrap();
    assert_eq!((end.version, end.position), (1500, 149_908));
    assert_eq!(reader.stream_end(2, "account-07").await.unwrap(), None, "another tenant");
    database.drop().await;
}

#[tokio::test]
async fn a_tenant_is_read_by_position_and_a_rare_filter_costs_bounded_statements() {
    let database = Database::create().await;
    fill(&database, 60_000, 10).await;
    let reader = database.reader();
    let read = async |after, filter: &EventFilter| {
        positions(reader.read(1, after, filter.clone())).await.unwrap()
    };
    let all: Vec<i64> = (1..=60_000).collect();
    assert_eq!(read(0, &EventFilter::default()).await, all);
    let middle = EventFilter { until: Some(50_001), ..EventFilter::default() };
    assert_eq!(read(20_000, &middle).await, all[20_000..50_001]);
    assert_eq!(read(60_000, &EventFilter::default()).await, [0_i64; 0]);

    let rare = EventFilter { kinds: vec!["Rare".to_owned()], ..EventFilter::default() };
    let every_ten_thousandth: Vec<i64> = (1..=6).map(|n| n * 10_000).collect();
    assert_eq!(read(0, &rare).await, every_ten_thousandth);
    let one_stream =
        EventFilter { stream_prefix: Some("account-99".to_owned()), ..EventFilter::default() };
    assert_eq!(read(59_000, &one_stream).await.len(), 10);
    let correlation = reader.events(1, 39_999, 1, &EventFilter::default()).await.unwrap();
    let meta: serde_json::Value = serde_json::from_str(&correlation[0].meta).unwrap();
    let correlation: Option<Uuid> = meta["correlation"].as_str().map(|id| id.parse().unwrap());
    assert_eq!(read(0, &EventFilter { correlation, ..EventFilter::default() }).await, [40_000]);

    // No page looks at more than its window, whatever it finds there.
    let pages: Vec<_> = reader.read_pages(1, 0, rare.clone()).try_collect().await.unwrap();
    let reached: Vec<i64> = pages.iter().map(|page| page.reached).collect();
    assert_eq!(reached, [20_000, 40_000, 60_000]);
    // Where such a page would end is known without reading it.
    let end = async |after, limit, most, filter: &EventFilter| {
        reader.page_end(1, after, limit, most, filter).await.unwrap()
    };
    assert_eq!(end(0, 3, 1_000_000, &rare).await, 30_000);
    assert_eq!(end(0, 7, 1_000_000, &rare).await, 60_000);
    assert_eq!(end(0, 7, 25_000, &rare).await, 25_000);
    assert_eq!(end(5, 7, 1_000, &EventFilter::default()).await, 12);
    assert_eq!(end(70_000, 7, 1_000, &rare).await, 70_000, "beyond the head");
    database.drop().await;
}

/// When the reader's connection last changed what it does, and that it does nothing now.
async fn idle_since(client: &tokio_postgres::Client, name: &str) -> Option<String> {
    let row = client
        .query_opt(
            "select state_change::text from pg_stat_activity
             where application_name = $1 and state = 'idle'",
            &[&name],
        )
        .await
        .unwrap();
    row.map(|row| row.get(0))
}

#[tokio::test]
async fn a_page_is_fetched_when_the_one_before_it_has_been_taken_and_not_earlier() {
    let database = Database::create().await;
    fill(&database, 2_000, 10).await;
    let watcher = database.client().await;
    let reader = one_connection(&database, "slow consumer");
    let mut events = pin!(reader.read(1, 0, EventFilter::default()));
    let mut pages: Vec<(String, usize)> = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        // What the connection did last, as this event was taken: fetching the page it is on.
        let mark = idle_since(&watcher, "slow consumer").await.expect("idle between pages");
        match pages.last_mut() {
            Some((last, count)) if *last == mark => *count += 1,
            Some(_) | None => pages.push((mark, 1)),
        }
        if event.position == 700 {
            // The only connection is free while the consumer thinks: anybody may use it.
            assert_eq!(reader.head(1).await.unwrap(), 2_000);
        }
    }
    let counts: Vec<usize> = pages.iter().map(|(_mark, count)| *count).collect();
    assert_eq!(counts, [500, 200, 300, 500, 500], "the second page is cut in two by the look");
    database.drop().await;
}

#[tokio::test]
async fn large_events_make_small_pages() {
    let database = Database::create().await;
    fill(&database, 40, 400_000).await;
    let pages: Vec<_> =
        database.reader().read_pages(1, 0, EventFilter::default()).try_collect().await.unwrap();
    assert!(pages.iter().all(|page| page.events.len() <= 11), "4 MiB and one event at most");
    let all: Vec<i64> = pages.iter().flat_map(|p| p.events.iter().map(|e| e.position)).collect();
    assert_eq!(all, (1..=40).collect::<Vec<i64>>());
    database.drop().await;
}

/// The plan of a statement with its parameters, as text.
async fn plan(database: &Database, sql: &str, parameters: &[&str]) -> String {
    let client = database.client().await;
    let mut sql = sql.to_owned();
    for (index, value) in parameters.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", index + 1), value);
    }
    let rows = client.query(&format!("explain (costs off) {sql}"), &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[tokio::test]
async fn every_read_finds_its_events_by_an_index_and_no_filter_leads_elsewhere() {
    let database = Database::create().await;
    fill(&database, 200_000, 10).await;
    let window =
        |kinds, prefix, correlation| ["1", "100000", "120000", kinds, prefix, correlation, "500"];
    for parameters in [
        window("'{}'", "null", "null"),
        window("'{Rare}'", "null", "null"),
        window("'{}'", "'account-07'", "null"),
        window("'{}'", "'nothing'", "null"),
        window("'{}'", "null", "'0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10'"),
    ] {
        for sql in
            [include_str!("../src/reader/events.sql"), include_str!("../src/reader/count.sql")]
        {
            let plan = plan(&database, sql, &parameters).await;
            assert!(plan.contains("events_pkey"), "{parameters:?}\n{plan}");
            let conditions = r#"Index Cond: ((tenant = 1) AND ("position" > 100000) AND ("position" <= 120000))"#;
            // By whichever means, what is looked at is the window and no more.
            assert!(plan.contains(conditions), "{parameters:?}\n{plan}");
            assert_eq!(plan.matches("Index Cond").count(), 1, "{parameters:?}\n{plan}");
            assert!(!plan.contains("Seq Scan"), "{parameters:?}\n{plan}");
        }
    }
    for sql in [
        include_str!("../src/reader/stream_forward.sql"),
        include_str!("../src/reader/stream_backward.sql"),
    ] {
        let plan = plan(&database, sql, &["1", "'account-07'", "1000", "500"]).await;
        assert!(plan.contains("events_tenant_stream_version_key"), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
    database.drop().await;
}

#[tokio::test]
async fn streams_are_listed_by_a_loose_scan_whatever_their_length() {
    let database = Database::create().await;
    fill(&database, 200_000, 10).await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into journal.events
             select 200000 + row_number() over (), occurred_at, recorded_at, tenant, 1, 1, name,
                    type, mac, data, meta
             from journal.events, unnest('{account,accountz,b-1,B-2,c-ü}'::text[]) name
             where position = 1",
        )
        .await
        .unwrap();
    let reader = database.reader();
    let names = async |prefix: &str, after: &str, limit| -> Vec<String> {
        let ends = reader.streams(1, prefix, after, limit).await.unwrap();
        ends.into_iter().map(|end| end.stream).collect()
    };
    assert_eq!(names("", "", 1_000).await.len(), 105);
    assert_eq!(names("", "", 3).await, ["B-2", "account", "account-00"]);
    assert_eq!(names("account-9", "account-97", 1_000).await, ["account-98", "account-99"]);
    assert_eq!(names("account-9", "b", 1_000).await, [""; 0]);
    assert_eq!(names("c-ü", "", 1_000).await, ["c-ü"]);
    assert_eq!(names("nothing", "", 1_000).await, [""; 0]);
    let end = &reader.streams(1, "account-07", "", 1).await.unwrap()[0];
    assert_eq!((end.version, end.position), (2_000, 199_908));

    let sql = include_str!("../src/reader/streams.sql");
    let plan = plan(&database, sql, &["1", "'account-'", "''", "1000"]).await;
    assert!(!plan.contains("Seq Scan"), "{plan}");
    // Not one of 200,000 entries a stream is read but those next to a name's ends.
    let counted = sql.replace("$1", "1").replace("$2", "'account-'").replace("$3", "''");
    let counted = counted.replace("$4", "1000");
    let rows = client
        .query(&format!("explain (analyze, buffers, timing off) {counted}"), &[])
        .await
        .unwrap();
    let text: String = rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    let buffers = text.split("shared hit=").nth(1).unwrap();
    let hit: usize = buffers.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(hit < 2_000, "about 8 pages a stream:\n{text}");
    database.drop().await;
}

/// Appends one event after another until told to stop; says how many.
fn keep_writing(database: &Database, stop: CancellationToken) -> tokio::task::JoinHandle<i64> {
    let writer = database.writer();
    tokio::spawn(async move {
        let mut written = 0;
        while !stop.is_cancelled() {
            let deposit = submission(&format!("k{written}"), Command::deposit("a", 1));
            // Again with the same key until there is an answer, as any client does.
            while !matches!(
                writer.submit(deposit.clone()).await,
                Ok(outcome) if matches!(outcome.verdict, Verdict::Accepted(_))
            ) {
                tokio::task::yield_now().await;
            }
            written += 1;
        }
        written
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_tenant_is_caught_up_and_then_live_without_gap_or_repeat() {
    let database = Database::create().await;
    fill(&database, 3_000, 10).await;
    let reader = database.reader();
    let (heads, task) = Heads::new(database.config(), reader.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let writing = keep_writing(&database, stop.clone());
    let mut events = pin!(reader.follow(1, 0, EventFilter::default(), &heads));
    for position in 1..=3_300 {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.position, position);
    }
    stop.cancel();
    let written = writing.await.unwrap();
    let rest = EventFilter { until: Some(3_000 + written), ..EventFilter::default() };
    let all = positions(reader.follow(1, 10, rest, &heads)).await.unwrap();
    assert_eq!(all, (11..=3_000 + written).collect::<Vec<_>>(), "ends where it is told to");
    database.drop().await;
}

#[tokio::test]
async fn lost_notifications_cost_latency_alone() {
    let database = Database::create().await;
    let reader = database.reader();
    let (heads, task) = Heads::new(database.config(), reader.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let mut events = pin!(reader.follow(1, 0, EventFilter::default(), &heads));
    let client = database.client().await;
    for position in 1..=3_i64 {
        // Straight into the table: nobody sends a notification of it.
        client
            .execute(
                "insert into journal.events
                 values ($1, now(), now(), 1, $1::bigint::integer, 1, 'account-a', 'Moved',
                         decode(repeat('00', 33), 'hex'), '{\"by\": 1}', '{}')",
                &[&position],
            )
            .await
            .unwrap();
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.position, position);
    }
    stop.cancel();
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_tenant_has_no_gap_and_no_repeat_though_every_connection_is_killed() {
    let database = Database::create().await;
    fill(&database, 20_000, 10).await;
    let reader = database.reader();
    let (heads, task) = Heads::new(database.config(), reader.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let killing = tokio::spawn({
        let (client, stop) = (database.client().await, stop.clone());
        async move {
            let mut killed = 0;
            // Later and later, so that a slow machine gets something done between two kills.
            let mut pause = Duration::from_millis(10);
            while !stop.is_cancelled() {
                let rows = client
                    .query(
                        "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()",
                        &[],
                    )
                    .await
                    .unwrap();
                killed += rows.len();
                tokio::time::sleep(pause).await;
                pause = (pause * 5 / 4).min(Duration::from_secs(2));
            }
            killed
        }
    });
    let writing = keep_writing(&database, stop.clone());
    let mut events = pin!(reader.follow(1, 0, EventFilter::default(), &heads));
    for position in 1..=20_100 {
        let event = tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(event.position, position);
    }
    stop.cancel();
    assert!(killing.await.unwrap() > 3, "connections were killed meanwhile");
    writing.await.unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_follower_stops_where_the_history_is_another_one() {
    let database = Database::create().await;
    fill(&database, 1_000, 10).await;
    let reader = database.reader();
    let (heads, task) = Heads::new(database.config(), reader.clone());
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let mut events = pin!(reader.follow(1, 0, EventFilter::default(), &heads));
    assert_eq!(events.next().await.unwrap().unwrap().position, 1);
    // As after a restore: the id was made for another cluster.
    let client = database.client().await;
    client
        .batch_execute("update journal.incarnations set system_identifier = system_identifier + 1")
        .await
        .unwrap();
    let mut last = 1;
    let error = loop {
        match tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap() {
            Ok(event) => last = event.position,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::AnotherHistory), "{error:?}");
    assert_eq!(last, 500, "what was read before is delivered, and nothing after it");
    assert!(events.next().await.is_none(), "it has ended");
    stop.cancel();
    database.drop().await;
}

#[tokio::test]
async fn a_moment_is_the_last_position_recorded_by_then() {
    let database = Database::create().await;
    let client = database.client().await;
    let reader = database.reader();
    let start: chrono::DateTime<chrono::Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(reader.position_at(1, start).await.unwrap(), 0, "an empty journal");
    // a batch shares its time, and another tenant's positions are its own
    fill(&database, 1_000, 10).await;
    client
        .batch_execute(
            "alter table journal.events disable trigger events_never_change;
             update journal.events
                set recorded_at = timestamptz '2026-01-01Z' + make_interval(secs => position / 7);
             insert into journal.events
                select position, occurred_at, timestamptz '2025-01-01Z', 2, version,
                       schema_version, stream, type, mac, data, meta
                from journal.events where position <= 5",
        )
        .await
        .unwrap();
    for seconds in -1..=144_i64 {
        for micros in [-1, 0, 1] {
            let at = start + chrono::Duration::seconds(seconds);
            let at = at + chrono::Duration::microseconds(micros);
            let whole = if micros < 0 { seconds - 1 } else { seconds };
            let wanted = if whole < 0 { 0 } else { (7 * whole + 6).min(1_000) };
            assert_eq!(reader.position_at(1, at).await.unwrap(), wanted, "{at}");
        }
    }
    assert_eq!(reader.position_at(2, start).await.unwrap(), 5);
    assert_eq!(reader.position_at(3, start).await.unwrap(), 0);
    database.drop().await;
}

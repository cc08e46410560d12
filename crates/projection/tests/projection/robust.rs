//! Whatever ends in the middle, and whoever believes to own a tenant: rows and checkpoints are
//! right, and a guilty event is named however many are folded at once.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::kit::{
    NewEvent, Running, append, caught_up,
    folder::{APPLY, Folder, put},
    installed, journal, rows, until,
};
use daybook_projection::{
    RebuildDeps, RebuildError, Source, VersionState, add, install, rebuild, status, switch,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::Client;

crate::kit::in_both_layouts!(
    killed_and_doubled_workers_and_rebalances_fold_everything_once,
    the_guilty_event_is_named_however_many_are_folded_at_once,
);

/// Twice what was, plus `n`: an event that is folded twice, left out or folded too early shows.
const ORDERLY: &str = "r.n := (2 * r.n + (e.data->>'n')::bigint) % 1000003;";

fn history(rng: &mut StdRng, length: usize) -> Vec<NewEvent> {
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    (0..length).map(|_| put(ids[rng.random_range(0..7)], rng.random_range(0..1000))).collect()
}

fn expected(events: &[NewEvent]) -> Vec<String> {
    let mut sums = std::collections::BTreeMap::new();
    for event in events {
        let n = event.data["n"].as_i64().unwrap();
        let sum = sums.entry(event.data["id"].as_str().unwrap()).or_insert(0_i64);
        *sum = (2 * *sum + n) % 1_000_003;
    }
    sums.iter().map(|(id, n)| format!("{{\"n\": {n}, \"id\": \"{id}\", \"tenant\": 1}}")).collect()
}

/// Ends a connection of a worker, if one is doing something.
async fn kill_one(client: &Client) {
    client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()
               and (query like '%advance%' or query like '%\\_\\_events%') order by random() limit 1",
            &[],
        )
        .await
        .unwrap();
}

async fn every_version_is_right(client: &Client, events: &[NewEvent]) {
    let schemas = client.query("select schema from projection.versions", &[]).await.unwrap();
    assert!(!schemas.is_empty());
    for schema in schemas {
        let schema: String = schema.get(0);
        let found = client
            .query(&format!("select to_jsonb(t)::text from {schema}.sums t order by id"), &[])
            .await
            .unwrap();
        let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, expected(events), "{schema}");
    }
}

async fn killed_and_doubled_workers_and_rebalances_fold_everything_once() {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = Folder::new();
    folder.write("apply.sql", ORDERLY);
    let (database, mut client) = installed(&folder.load()).await;
    let events = history(&mut rng, 3_000);
    let ended = Arc::new(AtomicBool::new(false));

    // rows are made anew all the time, by somebody who is killed as well
    let rebuilding = {
        let (ended, config, reader) =
            (Arc::clone(&ended), database.config.clone(), database.reader());
        tokio::spawn(async move {
            let (mut whole, mut turn) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let deps = RebuildDeps {
                    config: config.clone(),
                    reader: reader.clone(),
                    feed: None,
                    piece_positions: Some(200),
                    shares: NonZeroU32::new(turn % 3 + 1),
                    anew: false,
                };
                turn += 1;
                let limit = Duration::from_millis(300);
                match tokio::time::timeout(
                    limit,
                    rebuild(&deps, "sums", Source::Journal, &|_, _| {}),
                )
                .await
                {
                    Ok(Ok(_)) => whole += 1,
                    Ok(Err(RebuildError::Busy(_))) | Err(_) => {}
                    Ok(Err(error)) => panic!("{error}"),
                }
            }
            whole
        })
    };
    let mut workers = vec![Running::start(&database).await];
    let (mut at, mut round) = (0, 0);
    while at < events.len() {
        let to = (at + rng.random_range(1..120)).min(events.len());
        append(&database.journal, 1, &events[at..to]).await;
        let all = journal(&database, 1).await;
        // each worker is given some of it, with repeats and gaps, as partitions change hands
        for worker in &workers {
            if rng.random_bool(0.7) {
                let from = at.saturating_sub(rng.random_range(0..50));
                worker.send(all[from..].to_vec()).await;
            }
        }
        match rng.random_range(0..6) {
            0 if workers.len() < 3 => workers.push(Running::start(&database).await),
            1 if workers.len() > 1 => workers.remove(rng.random_range(0..workers.len())).kill(),
            2 => kill_one(&client).await,
            3 if round < 3 => {
                round += 1;
                folder.write("apply.sql", &format!("{ORDERLY} -- {round}"));
                install(&mut client, &folder.load()).await.unwrap();
            }
            _ => {}
        }
        at = to;
    }
    ended.store(true, Ordering::Relaxed);
    assert!(rebuilding.await.unwrap() > 0, "some rebuild came to its end");
    caught_up(&database, &[]).await;
    until("the newest version answers", async || {
        status(&client, &database.reader())
            .await
            .unwrap()
            .iter()
            .all(|s| s.state != VersionState::Building)
    })
    .await;
    for worker in workers {
        worker.stop().await;
    }
    every_version_is_right(&client, &events).await;
}

async fn the_guilty_event_is_named_however_many_are_folded_at_once() {
    let folder = Folder::new();
    folder.write(
        "apply.sql",
        &format!("if (e.data->>'n')::bigint < 0 then raise exception 'odd'; end if; {APPLY}"),
    );
    let (database, client) = installed(&folder.load()).await;
    let mut events: Vec<_> = (0..9_000).map(|n| put(["a", "b"][n % 2], 1)).collect();
    events[7_776] = put("a", -1);
    for chunk in events.chunks(3_000) {
        append(&database.journal, 1, chunk).await;
    }
    // nothing is delivered: all of it is one piece of the journal
    let running = Running::start(&database).await;
    until("it has stopped", async || {
        status(&client, &database.reader()).await.unwrap()[0].error.is_some()
    })
    .await;
    let shown = status(&client, &database.reader()).await.unwrap().remove(0);
    let error = shown.error.unwrap();
    assert_eq!(
        (shown.position, error.position, error.kind.as_deref()),
        (7_776, Some(7_777), Some("Put"))
    );
    assert!(error.message.contains("odd"), "{}", error.message);
    assert!(rows(&client, "sums").await[0].contains("\"n\": 3888"), "all before it is folded");

    // a version that can digest it takes over from the one that is stopped
    folder.write("apply.sql", APPLY);
    let mut owner = database.client().await;
    install(&mut owner, &folder.load()).await.unwrap();
    until("the corrected version answers", async || {
        let all = status(&client, &database.reader()).await.unwrap();
        all[0].state == VersionState::Active && all[0].position == 9_000 && all[0].error.is_none()
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn versions_that_two_processes_switch_at_once_are_one_in_the_end() {
    let folder = Folder::new();
    let (database, mut client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("a", 1), put("b", 2)]).await;
    let running = Running::start(&database).await;
    let first = folder.load().projections()[0].version().to_owned();
    folder.write("apply.sql", ORDERLY);
    add(&mut client, &folder.load().projections()[0], false).await.unwrap();
    let second = folder.load().projections()[0].version().to_owned();
    caught_up(&database, &[]).await;
    let switching = |to: String| {
        let config = database.config.clone();
        async move {
            let client = crate::kit::connect(&config).await;
            for _ in 0..20 {
                switch(&client, "sums", Some(&to)).await.unwrap();
            }
        }
    };
    tokio::join!(switching(first), switching(second));
    let active: i64 = client
        .query_one(
            "select count(*) from projection.versions v join projection.active a
                on a.projection = v.projection and (a.version = v.version) = (v.state = 'active')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(active, 2, "states and the active row agree");
    running.stop().await;
}

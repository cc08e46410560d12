//! How long a command waits for a stock of a million events that is not in memory.
//!
//! `scripts/bench load --json` starts a PostgreSQL and runs this; it prints one JSON object.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are printed")]

mod kit;

use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use kit::{Database, Running, Server, rounded};

/// How long a command waits for a long stream that is not in memory
#[derive(Debug, Parser)]
struct Arguments {
    /// Events of the stock
    #[arg(long, default_value_t = 1_000_000)]
    events: i64,
    /// Runs; their median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let server = Server::of_environment();
    let database = kit::shop_database(&server).await;
    eprintln!("load: writing {} events", arguments.events);
    kit::long_stock(&database, "LONG", arguments.events).await;
    let (mut without, mut with, mut short) = (vec![], vec![], vec![]);
    for run in 1..=arguments.runs {
        eprintln!("load: run {run} of {}", arguments.runs);
        let client = database.client().await;
        client.batch_execute("delete from journal.snapshots").await.expect("forgets snapshots");
        without.push(first_command(&database, "LONG").await);
        wait_for_snapshot(&database).await;
        with.push(first_command(&database, "LONG").await);
        short.push(first_command(&database, "SHORT").await);
    }
    println!(
        "{}",
        json!({
            "bench": "load",
            "events": arguments.events,
            "without_snapshot_ms": median(without),
            "with_snapshot_ms": median(with),
            "short_stream_ms": median(short),
        })
    );
    database.remove().await;
}

/// Milliseconds of a new writer's first command on a stock, without those for connecting.
async fn first_command(database: &Database, sku: &str) -> f64 {
    let running = Running::start(database);
    let warm = json!({ "sku": "OTHER", "quantity": 1 });
    kit::send(&running.shop, "ReceiveStock", &warm).await.expect("an outcome");
    let start = Instant::now();
    let body = json!({ "sku": sku, "quantity": 1 });
    kit::send(&running.shop, "ReceiveStock", &body).await.expect("an outcome");
    let took = start.elapsed();
    running.end().await;
    took.as_secs_f64() * 1e3
}

async fn wait_for_snapshot(database: &Database) {
    let client = database.client().await;
    // The writer that reads the stream offers it; another one may be needed if that has ended.
    for _ in 0..20 {
        let row = client.query_opt("select from journal.snapshots", &[]).await.expect("answers");
        if row.is_some() {
            return;
        }
        let running = Running::start(database);
        let body = json!({ "sku": "LONG", "quantity": 1 });
        kit::send(&running.shop, "ReceiveStock", &body).await.expect("an outcome");
        tokio::time::sleep(Duration::from_millis(500)).await;
        running.end().await;
    }
    panic!("no snapshot was written");
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).map_or(0.0, |&ms| rounded(ms, 2))
}

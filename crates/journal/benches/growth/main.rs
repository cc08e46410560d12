//! What a journal costs as it grows: appends, vacuum, sizes and backups, small and large.
//!
//! `scripts/bench growth --json` starts a PostgreSQL and runs this; one JSON object a line. Rows are
//! filled in bulk, as a writer would have written them: their streams and keys in no order, the
//! indexes in place, so that these are as large as indexes that grew.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

#[path = "../kit/mod.rs"]
mod kit;
mod upkeep;

use std::time::Instant;

use clap::Parser;
use serde_json::json;
use tokio_postgres::Client;

use kit::{Database, Server, median, rounded};
use upkeep::{Upkeep, extrapolated};

/// Events of one transaction while filling.
const PIECE: i64 = 250_000;
/// What the largest journal's figures are worked out for.
const EXTRAPOLATED_TO: i64 = 100_000_000;

/// What a journal costs as it grows; ten million events take about 20 GB of disk and a quarter of
/// an hour
#[derive(Debug, Parser)]
struct Arguments {
    /// Events of the small journal
    #[arg(long, default_value_t = 100_000)]
    small: i64,
    /// Events of the large journal; sizes are taken at a tenth of it as well
    #[arg(long, default_value_t = 10_000_000)]
    events: i64,
    /// Callers
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Seconds of one run
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each rate, in turn; their median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// No backups
    #[arg(long)]
    no_backup: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let server = Server::of_environment();
    let large = server.database().await;
    let tenth = arguments.events / 10;
    let mut upkeep = Vec::new();
    for (filled, events) in [(0, tenth), (tenth, arguments.events)] {
        let fill_s = fill(&large, filled, events).await;
        upkeep.push(Upkeep::measure(&large, events, fill_s, !arguments.no_backup).await);
        println!("{}", upkeep[upkeep.len() - 1].figures());
    }
    if let [at_a_tenth, at_all] = &upkeep[..] {
        println!("{}", extrapolated(at_a_tenth, at_all, EXTRAPOLATED_TO));
    }
    rates(&server, &arguments, &large).await;
    large.remove().await;
}

/// Appends to both, in turn, so that whatever else changes meanwhile concerns both. The small journal
/// is filled anew each time: a run would make it several times as large.
async fn rates(server: &Server, arguments: &Arguments, large: &Database) {
    let (callers, seconds) = (arguments.callers, arguments.seconds);
    let (mut small_runs, mut large_runs) = (vec![], vec![]);
    for run in 1..=arguments.runs {
        eprintln!("growth: appends, run {run} of {}", arguments.runs);
        let small = server.database().await;
        fill(&small, 0, arguments.small).await;
        settle(&small.client().await).await;
        small_runs.push(kit::append(&small, callers, seconds).await);
        small.remove().await;
        // What the small one left to be written is not the large one's to pay.
        large.client().await.batch_execute("checkpoint").await.expect("may checkpoint");
        large_runs.push(kit::append(large, callers, seconds).await);
    }
    let (small, large) = (median(small_runs), median(large_runs));
    for (events, rate) in [(arguments.small, small), (arguments.events, large)] {
        let mut figures = json!({
            "bench": "growth",
            "events": events,
            "callers": callers,
            "per_s": rounded(rate.per_s, 0),
            "p50_ms": rounded(rate.p50_ms, 2),
            "p99_ms": rounded(rate.p99_ms, 2),
        });
        if events == arguments.events {
            // What an append costs there against what it costs here.
            figures["ratio_growth"] = json!(rounded(small.per_s / large.per_s, 3));
        }
        println!("{figures}");
    }
}

/// Fills a journal that has `from` events up to `until`; how long that took, seconds.
async fn fill(database: &Database, from: i64, until: i64) -> f64 {
    let client = database.client().await;
    client.batch_execute("set synchronous_commit = off").await.expect("may be set");
    let start = Instant::now();
    let mut filled = from;
    while filled < until {
        let next = until.min(filled + PIECE);
        for statement in [include_str!("fill_events.sql"), include_str!("fill_commands.sql")] {
            client.execute(statement, &[&filled, &next]).await.expect("fills");
        }
        filled = next;
        if filled % 1_000_000 == 0 || filled == until {
            eprintln!("growth: {filled} events filled");
        }
    }
    start.elapsed().as_secs_f64()
}

/// What was written to prepare a run is not the run's to pay.
async fn settle(client: &Client) {
    for statement in
        ["vacuum analyze journal.events", "vacuum analyze journal.commands", "checkpoint"]
    {
        client.batch_execute(statement).await.expect("may vacuum");
    }
}

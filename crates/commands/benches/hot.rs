//! Orders of one product that everybody wants, against orders of ten thousand products.
//!
//! `scripts/bench hot --json` starts a PostgreSQL and runs this; one JSON object a line. With
//! `--child` the program is one of several processes that sell to the same tenant.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

mod kit;

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Parser;
use serde_json::{Value, json};
use tokio::process::Command;

use kit::{Database, Rate, Running, Server, median, rounded};

const PRODUCTS: u64 = 10_000;
const PLENTY: i64 = 1_000_000_000;
/// Units of the product that runs out, and how often each caller asks for it.
const SCARCE: u64 = 1_000;
const TRIES: u64 = 20;
/// Events of the stock that has a long history.
const LONG: i64 = 1_000_000;

/// Orders of one product against orders of ten thousand
#[derive(Debug, Parser)]
struct Arguments {
    /// Callers, of all processes together
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Seconds of one run
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each figure; their median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Numbers of processes
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    processes: Vec<usize>,
    /// Be one of several processes: database, callers, what to sell
    #[arg(long, hide = true, num_args = 3)]
    child: Option<Vec<String>>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let server = Server::of_environment();
    if let Some(child) = &arguments.child {
        let callers = child[1].parse().expect("a number of callers");
        let database = Database::named(&server, &child[0]);
        println!("{}", sell(&database, callers, &child[2], arguments.seconds).await);
        return;
    }
    for &processes in &arguments.processes {
        println!("{}", hot_against_spread(&server, &arguments, processes).await);
    }
}

/// What one process sells: its rate and percentiles, and of the scarce product how many orders
/// were accepted.
async fn sell(database: &Database, callers: usize, what: &str, seconds: u64) -> Value {
    let running = Running::start(database);
    let shop = running.shop.clone();
    let figures = if what == "scarce" {
        let accepted = Arc::new(AtomicU64::new(0));
        let selling: Vec<_> = (0..callers)
            .map(|_| {
                let (shop, accepted) = (shop.clone(), accepted.clone());
                tokio::spawn(async move {
                    for _ in 0..TRIES {
                        let sold = kit::order(&shop, "SCARCE").await;
                        accepted.fetch_add(u64::from(sold), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for caller in selling {
            caller.await.expect("a caller panicked");
        }
        json!([accepted.load(Ordering::Relaxed), 0, 0])
    } else {
        let hot = match what {
            "spread" => None,
            sku => Some(sku.to_owned()),
        };
        let next = Arc::new(AtomicU64::new(u64::from(std::process::id()) * 7919));
        let rate = kit::callers(callers, seconds, move |_caller| {
            let (shop, hot, next) = (shop.clone(), hot.clone(), next.clone());
            async move {
                let sku = hot.unwrap_or_else(|| {
                    // In an order that goes through all of them before it comes back.
                    format!("SKU-{}", next.fetch_add(1, Ordering::Relaxed) * 7919 % PRODUCTS)
                });
                assert!(kit::order(&shop, &sku).await, "there is plenty of {sku}");
                1
            }
        })
        .await;
        json!([rate.per_s, rate.p50_ms, rate.p99_ms])
    };
    running.end().await;
    figures
}

/// A database with everything to sell.
async fn stocked(server: &Server) -> Database {
    let database = kit::shop_database(server).await;
    kit::long_stock(&database, "LONG", LONG).await;
    let running = Running::start(&database);
    kit::stock_up(&running.shop, "HOT", PLENTY).await;
    kit::stock_up(&running.shop, "LONG", PLENTY).await;
    kit::stock_up(&running.shop, "SCARCE", i64::try_from(SCARCE).expect("it is small")).await;
    let stocking = (0..64).map(|part| {
        let shop = running.shop.clone();
        tokio::spawn(async move {
            for n in (part..PRODUCTS).step_by(64) {
                kit::stock_up(&shop, &format!("SKU-{n}"), PLENTY).await;
            }
        })
    });
    for part in stocking.collect::<Vec<_>>() {
        part.await.expect("stocking panicked");
    }
    running.end().await;
    kit::settle(&database.client().await).await;
    database
}

async fn hot_against_spread(server: &Server, arguments: &Arguments, processes: usize) -> Value {
    let (mut hot, mut spread, mut long) = (vec![], vec![], vec![]);
    let mut sold = Vec::new();
    for run in 1..=arguments.runs {
        eprintln!("hot: {processes} processes, run {run} of {}", arguments.runs);
        let database = stocked(server).await;
        hot.push(rate(&children(&database, arguments, processes, "HOT").await));
        spread.push(rate(&children(&database, arguments, processes, "spread").await));
        long.push(rate(&children(&database, arguments, processes, "LONG").await));
        let scarce = children(&database, arguments, processes, "scarce").await;
        let accepted: f64 = scarce.iter().map(|[accepted, ..]| accepted).sum();
        sold.push(accepted - SCARCE as f64);
        database.remove().await;
    }
    let (hot, spread, long) = (median(hot), median(spread), median(long));
    json!({
        "bench": "hot",
        "processes": processes,
        "callers": arguments.callers,
        "per_s": rounded(hot.per_s, 0),
        "p50_ms": rounded(hot.p50_ms, 2),
        "p99_ms": rounded(hot.p99_ms, 2),
        "spread_per_s": rounded(spread.per_s, 0),
        "ratio_hot": rounded(hot.per_s / spread.per_s, 3),
        "long_per_s": rounded(long.per_s, 0),
        "long_events": LONG,
        "ratio_long": rounded(long.per_s / hot.per_s, 3),
        "scarce_units": SCARCE,
        "oversold": sold.iter().fold(0.0_f64, |most, &over| most.max(over)),
        "unsold": sold.iter().fold(0.0_f64, |most, &over| most.max(-over)),
    })
}

/// Rates add up; of the percentiles the worst process's count.
fn rate(processes: &[[f64; 3]]) -> Rate {
    processes.iter().fold(Rate::default(), |all, &[per_s, p50_ms, p99_ms]| Rate {
        per_s: all.per_s + per_s,
        p50_ms: all.p50_ms.max(p50_ms),
        p99_ms: all.p99_ms.max(p99_ms),
    })
}

async fn children(
    database: &Database,
    arguments: &Arguments,
    processes: usize,
    what: &str,
) -> Vec<[f64; 3]> {
    let program = std::env::current_exe().expect("this program has a path");
    let callers = (arguments.callers / processes).to_string();
    let children: Vec<_> = (0..processes)
        .map(|_| {
            Command::new(&program)
                .args(["--child", database.name(), &callers, what])
                .args(["--seconds", &arguments.seconds.to_string()])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("starts itself")
        })
        .collect();
    let mut figures = Vec::new();
    for child in children {
        let output = child.wait_with_output().await.expect("a process ends");
        let figure = serde_json::from_slice(&output.stdout);
        figures.push(figure.expect("a process prints its figures"));
    }
    figures
}

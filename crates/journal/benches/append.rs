//! Commands accepted a second through the journal's own interface, beside floors that promise less.
//!
//! `scripts/bench append --json` starts a PostgreSQL and runs this; one JSON object a line. With
//! `--child` the program is one of several processes that write to the same tenant.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "figures are printed"
)]

mod kit;

use std::process::Stdio;

use clap::Parser;
use serde_json::{Value, json};
use tokio::process::Command;

use kit::{Database, Rate, Server, floors::Floors, median, rounded};

/// Commands accepted a second by the journal, beside floors that promise less
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of callers
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1024")]
    callers: Vec<usize>,
    /// Seconds of one run
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs of each figure; their median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Processes of the last figure, which share 256 callers; 0 leaves it out
    #[arg(long, default_value_t = 4)]
    processes: usize,
    /// The journal alone, without floors
    #[arg(long)]
    alone: bool,
    /// Be one of several processes: database and callers
    #[arg(long, hide = true, num_args = 2)]
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
        let rate = kit::append(&database, callers, arguments.seconds).await;
        println!("{}", json!([rate.per_s, rate.p50_ms, rate.p99_ms]));
        return;
    }
    for &callers in &arguments.callers {
        println!("{}", against_floors(&server, &arguments, callers).await);
    }
    if !arguments.alone {
        println!("{}", events_only(&server, &arguments).await);
    }
    if arguments.processes > 0 {
        println!("{}", processes(&server, &arguments).await);
    }
}

async fn fresh_journal(server: &Server, callers: usize, seconds: u64) -> Rate {
    let database = server.database().await;
    let rate = kit::append(&database, callers, seconds).await;
    database.remove().await;
    rate
}

async fn against_floors(server: &Server, arguments: &Arguments, callers: usize) -> Value {
    let seconds = arguments.seconds;
    let (mut ours, mut tx, mut gapless, mut rows) = (vec![], vec![], vec![], vec![]);
    for run in 1..=arguments.runs {
        eprintln!("append: {callers} callers, run {run} of {}", arguments.runs);
        ours.push(fresh_journal(server, callers, seconds).await);
        if arguments.alone {
            continue;
        }
        let floors = Floors::new(server.database().await).await;
        tx.push(floors.tx(callers, seconds).await);
        gapless.push(floors.gapless(callers, seconds).await);
        rows.push(floors.rows(seconds).await);
        floors.remove().await;
    }
    let (ours, tx, gapless, rows) = (median(ours), median(tx), median(gapless), median(rows));
    let ratio = |floor: Rate| rounded(ours.per_s / floor.per_s, 3);
    let mut figures = json!({
        "bench": "append",
        "callers": callers,
        "per_s": rounded(ours.per_s, 0),
        "p50_ms": rounded(ours.p50_ms, 2),
        "p99_ms": rounded(ours.p99_ms, 2),
    });
    if !arguments.alone {
        figures["ratio_tx"] = json!(ratio(tx));
        figures["ratio_gapless"] = json!(ratio(gapless));
        figures["ratio_rows"] = json!(ratio(rows));
        figures["floor_tx_per_s"] = json!(rounded(tx.per_s, 0));
        figures["floor_gapless_per_s"] = json!(rounded(gapless.per_s, 0));
        figures["floor_rows_per_s"] = json!(rounded(rows.per_s, 0));
    }
    figures
}

/// The best that several connections reach when they write events only; without target.
async fn events_only(server: &Server, arguments: &Arguments) -> Value {
    let mut figures = json!({ "bench": "append", "floor": "events only, 500 a transaction" });
    let floors = Floors::new(server.database().await).await;
    for connections in [1, 4, 64] {
        eprintln!("append: events only, {connections} connections");
        let rate = floors.events(connections, arguments.seconds).await;
        figures[format!("connections_{connections}_per_s")] = json!(rounded(rate.per_s, 0));
    }
    floors.remove().await;
    figures
}

/// Several processes on one tenant, against one, with 256 callers in all.
async fn processes(server: &Server, arguments: &Arguments) -> Value {
    const CALLERS: usize = 256;
    let (mut one, mut many) = (vec![], vec![]);
    for run in 1..=arguments.runs {
        eprintln!("append: {} processes, run {run} of {}", arguments.processes, arguments.runs);
        one.push(children(server, 1, CALLERS, arguments.seconds).await);
        many.push(children(server, arguments.processes, CALLERS, arguments.seconds).await);
    }
    let (one, many) = (median(one), median(many));
    json!({
        "bench": "append",
        "processes": arguments.processes,
        "callers": CALLERS,
        "per_s": rounded(many.per_s, 0),
        "p50_ms": rounded(many.p50_ms, 2),
        "p99_ms": rounded(many.p99_ms, 2),
        "ratio_processes": rounded(many.per_s / one.per_s, 3),
    })
}

/// Rates add up; of the percentiles the worst process's count.
async fn children(server: &Server, processes: usize, callers: usize, seconds: u64) -> Rate {
    let database = server.database().await;
    let program = std::env::current_exe().expect("this program has a path");
    let children: Vec<_> = (0..processes)
        .map(|_| {
            Command::new(&program)
                .args(["--child", database.name(), &(callers / processes).to_string()])
                .args(["--seconds", &seconds.to_string()])
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("starts itself")
        })
        .collect();
    let mut all = Rate::default();
    for child in children {
        let output = child.wait_with_output().await.expect("a process ends");
        let [per_s, p50_ms, p99_ms]: [f64; 3] =
            serde_json::from_slice(&output.stdout).expect("a process prints its figures");
        all.per_s += per_s;
        all.p50_ms = all.p50_ms.max(p50_ms);
        all.p99_ms = all.p99_ms.max(p99_ms);
    }
    database.remove().await;
    all
}

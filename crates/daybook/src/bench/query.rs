//! Keyed queries over HTTP from a few connections, one after the other on each.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::Full;
use hyper::{StatusCode, body::Bytes};
use rand::Rng;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use super::{QueryArgs, http::Http, percentile_ms};
use crate::tools::say;

/// Requests run for so long before they count.
const WARM_UP: Duration = Duration::from_secs(2);

/// Runs one measurement and prints it.
pub(super) async fn run(args: QueryArgs) -> anyhow::Result<()> {
    let keys = match &args.keys {
        None => vec![String::new()],
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("keys in {}", file.display()))?
            .lines()
            .map(str::to_owned)
            .collect(),
    };
    anyhow::ensure!(!keys.is_empty(), "there are no keys");
    let http = Arc::new(Http::new(&args.url, &args.key)?);
    let paths: Arc<Vec<String>> =
        Arc::new(keys.iter().map(|key| args.path.replace("{}", key)).collect());
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(u64::from(args.seconds));
    let mut running = JoinSet::new();
    for _ in 0..args.connections {
        running.spawn(ask(http.clone(), paths.clone(), from, until));
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.append(&mut done??);
    }
    times.sort_unstable();
    let per_s = f64::from(u32::try_from(times.len())?) / f64::from(args.seconds);
    say(&json!({
        "path": args.path,
        "connections": args.connections,
        "per_s": per_s.round(),
        "p50_ms": percentile_ms(&times, 50),
        "p99_ms": percentile_ms(&times, 99),
    })
    .to_string());
    Ok(())
}

/// Asks for random keys on one connection; how long each answer took.
async fn ask(
    http: Arc<Http>,
    paths: Arc<Vec<String>>,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = http.connect().await?;
    let mut times = Vec::new();
    loop {
        let path = &paths[rand::rng().random_range(0..paths.len())];
        let request = http.request("GET", path).body(Full::new(Bytes::new()))?;
        let start = Instant::now();
        let answer = connection.send(request).await?;
        let end = Instant::now();
        anyhow::ensure!(answer.status == StatusCode::OK, "{path}: {}", answer.status);
        if end >= until {
            return Ok(times);
        }
        if start >= from {
            times.push(end - start);
        }
    }
}

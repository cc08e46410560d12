//! `daybook bench`: measures a running Daybook and prints one JSON object a line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::tools::say;

/// Requests that may be in flight at once; an open loop beyond it says so instead of piling up.
const IN_FLIGHT: u64 = 5_000;
/// Lines of each order; what a small order of a gift shop has.
const ORDER_LINES: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Command accepted → visible in the read model, at a constant rate
    #[command(
        after_help = "Example:\n  daybook bench latency --url http://127.0.0.1:7070 --key $KEY --rate 200"
    )]
    Latency {
        /// Address of the server
        #[arg(long, env = "DAYBOOK_URL", default_value = "http://127.0.0.1:7070")]
        url: String,
        /// API key of an operator
        #[arg(long, env = "DAYBOOK_OPERATOR_KEY", hide_env_values = true)]
        key: String,
        /// Commands a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
        rate: u32,
        /// For how long, seconds
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
    },
}

/// Runs a measurement.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.what {
        What::Latency { url, key, rate, seconds } => latency(url, key, rate, seconds).await,
    }
}

struct Target {
    client: Client,
    url: String,
    key: String,
}

/// How long one command took, and how long until it could be read after that.
struct Sample {
    accepted: Duration,
    visible: Duration,
}

impl Target {
    async fn command(&self, name: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self
            .client
            .post(format!("{}/v1/commands/{name}", self.url))
            .bearer_auth(&self.key)
            .header("idempotency-key", Uuid::now_v7().to_string())
            .json(body)
            .send()
            .await?;
        let status = response.status();
        let answer: Value = response.json().await.context("the answer is no JSON")?;
        if !status.is_success() {
            bail!("{name}: {status}: {answer}");
        }
        Ok(answer)
    }

    async fn place_and_read(&self, sku: &str) -> anyhow::Result<Sample> {
        let id = Uuid::now_v7();
        let lines: Vec<Value> =
            (0..ORDER_LINES).map(|_| json!({ "sku": sku, "quantity": 1 })).collect();
        let order = json!({ "order_id": id, "currency": "GBP", "country": "United Kingdom",
                            "lines": lines });
        let sent = Instant::now();
        let answer = self.command("PlaceOrder", &order).await?;
        let accepted = Instant::now();
        let position = answer["position"].as_str().context("no position in the answer")?;
        let response = self
            .client
            .get(format!("{}/v1/operator/orders/{id}", self.url))
            .bearer_auth(&self.key)
            .header("daybook-min-position", position)
            .header("prefer", "wait=10")
            .send()
            .await?;
        if response.status() != StatusCode::OK {
            bail!("order {id} can't be read: {}", response.status());
        }
        Ok(Sample { accepted: accepted - sent, visible: accepted.elapsed() })
    }
}

/// An open loop: commands start on time whatever became of those before.
async fn latency(url: String, key: String, rate: u32, seconds: u32) -> anyhow::Result<()> {
    let target = Arc::new(Target {
        client: Client::builder().pool_max_idle_per_host(256).build()?,
        url: url.trim_end_matches('/').to_owned(),
        key,
    });
    let sku = format!("bench-{}", Uuid::now_v7().simple());
    let product = json!({ "sku": sku, "name": "Benchmark", "price": 250, "currency": "GBP" });
    target.command("AddProduct", &product).await?;
    let total = rate * seconds;
    let stock = json!({ "sku": sku, "quantity": u64::from(total) * u64::from(ORDER_LINES) + 1000 });
    target.command("ReceiveStock", &stock).await?;
    for _ in 0..20 {
        target.place_and_read(&sku).await?;
    }

    let late = Arc::new(AtomicU64::new(0));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut running = tokio::task::JoinSet::new();
    let started = Instant::now();
    let in_flight = Arc::new(AtomicU64::new(0));
    for _ in 0..total {
        ticks.tick().await;
        if in_flight.load(Ordering::Relaxed) >= IN_FLIGHT {
            late.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        in_flight.fetch_add(1, Ordering::Relaxed);
        let (target, sku, in_flight) = (target.clone(), sku.clone(), in_flight.clone());
        running.spawn(async move {
            let sample = target.place_and_read(&sku).await;
            in_flight.fetch_sub(1, Ordering::Relaxed);
            sample
        });
    }
    let mut accepted = Vec::new();
    let mut visible = Vec::new();
    let mut errors = Vec::new();
    while let Some(done) = running.join_next().await {
        match done? {
            Ok(sample) => {
                accepted.push(sample.accepted);
                visible.push(sample.visible);
            }
            Err(error) => errors.push(error),
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    if let Some(error) = errors.first() {
        eprintln!("first of {} errors: {error:#}", errors.len());
    }
    accepted.sort_unstable();
    visible.sort_unstable();
    say(&json!({
        "bench": "latency",
        "rate": rate,
        "seconds": seconds,
        "commands": accepted.len(),
        "per_s": (f64::from(u32::try_from(accepted.len())?) / elapsed).round(),
        "errors": errors.len(),
        "not_sent": late.load(Ordering::Relaxed),
        "accepted_p50_ms": percentile_ms(&accepted, 50),
        "accepted_p99_ms": percentile_ms(&accepted, 99),
        "visible_p50_ms": percentile_ms(&visible, 50),
        "visible_p99_ms": percentile_ms(&visible, 99),
    })
    .to_string());
    if !errors.is_empty() {
        bail!("{} of {total} commands failed", errors.len());
    }
    Ok(())
}

/// A percentile of sorted times in milliseconds, to the hundredth; null without any.
fn percentile_ms(sorted: &[Duration], percent: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = sorted[(sorted.len() * percent / 100).min(last)];
    Some((at.as_secs_f64() * 100_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&times, 50), Some(51.0));
        assert_eq!(percentile_ms(&times, 99), Some(100.0));
        assert_eq!(percentile_ms(&[], 50), None);
    }
}

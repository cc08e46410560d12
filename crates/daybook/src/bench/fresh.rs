//! Command accepted → visible in the read model, in an open loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use http_body_util::Full;
use hyper::{StatusCode, body::Bytes};
use rand::Rng;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::{By, FreshArgs, http::Http, live::Pages, percentile_ms};
use crate::tools::say;

/// Requests that may be in flight at once; an open loop beyond it says so instead of piling up.
const IN_FLIGHT: u64 = 5_000;
/// Lines of each order; what a small order of a gift shop has.
const ORDER_LINES: usize = 3;
/// Products that are ordered.
const PRODUCTS: usize = 300;
/// Orders one after the other before anything else, and seconds at the measured rate before
/// anything is counted: Kafka's virtual machine compiles what it runs often, which takes a core
/// for a while.
const WARM_UP: u32 = 200;
const WARM_UP_S: u32 = 10;
/// How long a reader waits for its position.
const WAIT: Duration = Duration::from_secs(10);
/// Time for the waiters to be waiting.
const GATHER: Duration = Duration::from_secs(5);

/// One command's times.
pub(super) struct Sample {
    /// From when it was to be sent until it was accepted.
    pub(super) accepted: Duration,
    /// From then on until it could be read.
    pub(super) visible: Duration,
}

pub(super) struct Shop {
    pub(super) http: Http,
    skus: Vec<String>,
}

impl Shop {
    /// A shop with products on stock that nobody else orders.
    async fn open(url: &str, key: &str) -> anyhow::Result<Arc<Self>> {
        let run = Uuid::now_v7().simple().to_string();
        let skus = (0..PRODUCTS).map(|n| format!("bench-{run}-{n}")).collect();
        let shop = Arc::new(Self { http: Http::new(url, key)?, skus });
        let mut stocked = JoinSet::new();
        for sku in &shop.skus {
            let (shop, sku) = (shop.clone(), sku.clone());
            stocked.spawn(async move {
                let product =
                    json!({ "sku": sku, "name": "Benchmark", "price": 250, "currency": "GBP" });
                shop.http.command("AddProduct", &product).await?;
                let stock = json!({ "sku": sku, "quantity": 1_000_000 });
                shop.http.command("ReceiveStock", &stock).await
            });
        }
        while let Some(done) = stocked.join_next().await {
            done??;
        }
        Ok(shop)
    }

    /// An order of a few lines, each of so many pieces.
    pub(super) fn order(&self, quantity: u32) -> (Uuid, Value) {
        let id = Uuid::now_v7();
        let first = rand::rng().random_range(0..PRODUCTS);
        let lines: Vec<Value> = (0..ORDER_LINES)
            .map(|n| {
                json!({ "sku": self.skus[(first + n * 7) % PRODUCTS],
                                "quantity": quantity })
            })
            .collect();
        let order = json!({ "order_id": id, "currency": "GBP", "country": "United Kingdom",
                            "lines": lines });
        (id, order)
    }

    async fn place_and_read(&self, scheduled: Instant) -> anyhow::Result<Sample> {
        let (id, order) = self.order(1);
        let answer = self.http.command("PlaceOrder", &order).await?;
        let accepted = Instant::now();
        self.read(id, position(&answer)?).await?;
        Ok(Sample { accepted: accepted - scheduled, visible: accepted.elapsed() })
    }

    /// Reads an order, no older than a position.
    async fn read(&self, id: Uuid, position: &str) -> anyhow::Result<()> {
        let request = self
            .http
            .request("GET", &format!("/v1/operator/orders/{id}"))
            .header("daybook-min-position", position)
            .header("prefer", format!("wait={}", WAIT.as_secs()))
            .body(Full::new(Bytes::new()))?;
        let answer = self.http.send(request).await?;
        if answer.status != StatusCode::OK {
            bail!("order {id} can't be read: {}", answer.status);
        }
        Ok(())
    }
}

pub(super) fn position(answer: &Value) -> anyhow::Result<&str> {
    answer["position"].as_str().context("no position in the answer")
}

/// Runs one measurement and prints it.
pub(super) async fn run(args: FreshArgs) -> anyhow::Result<()> {
    let shop = Shop::open(&args.url, &args.key).await?;
    for _ in 0..WARM_UP {
        shop.place_and_read(Instant::now()).await?;
    }
    match args.waiters {
        Some(waiters) => {
            let database = args.database.context("--waiters needs --database")?;
            many_wait(&shop, waiters, &database).await
        }
        None if args.by == By::Sse => {
            let pages = Arc::new(Pages::open(&shop).await?);
            let sample = |n, scheduled| pages.clone().change(shop.clone(), n, scheduled);
            open_loop("sse", sample, args.rate, args.seconds).await
        }
        None => {
            let sample = |_n, scheduled| {
                let shop = shop.clone();
                async move { shop.place_and_read(scheduled).await }
            };
            open_loop("position", sample, args.rate, args.seconds).await
        }
    }
}

/// Commands start on time whatever became of those before.
async fn open_loop<F>(
    by: &str,
    sample: impl Fn(u32, Instant) -> F,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Sample>> + Send + 'static,
{
    let warm_up = rate * WARM_UP_S.min(seconds);
    let total = warm_up + rate * seconds;
    let in_flight = Arc::new(AtomicU64::new(0));
    let mut not_sent = 0;
    let mut running = JoinSet::new();
    let began = Instant::now();
    let started = began + Duration::from_secs(1) * warm_up / rate;
    for n in 0..total {
        let scheduled = began + Duration::from_secs(1) * n / rate;
        sleep_until(scheduled).await;
        if in_flight.load(Ordering::Relaxed) >= IN_FLIGHT {
            not_sent += u32::from(n >= warm_up);
            continue;
        }
        in_flight.fetch_add(1, Ordering::Relaxed);
        let (sample, in_flight) = (sample(n, scheduled), in_flight.clone());
        running.spawn(async move {
            let sample = sample.await;
            in_flight.fetch_sub(1, Ordering::Relaxed);
            sample.map(|sample| (n >= warm_up).then_some(sample))
        });
    }
    let (mut accepted, mut visible, mut whole, mut errors) = (vec![], vec![], vec![], vec![]);
    while let Some(done) = running.join_next().await {
        match done? {
            Ok(None) => {}
            Ok(Some(sample)) => {
                accepted.push(sample.accepted);
                visible.push(sample.visible);
                whole.push(sample.accepted + sample.visible);
            }
            Err(error) => errors.push(error),
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    for times in [&mut accepted, &mut visible, &mut whole] {
        times.sort_unstable();
    }
    say(&json!({
        "bench": "fresh",
        "by": by,
        "rate": rate,
        "seconds": seconds,
        "commands": accepted.len(),
        "per_s": (f64::from(u32::try_from(accepted.len())?) / elapsed).round(),
        "errors": errors.len(),
        "not_sent": not_sent,
        "p50_ms": percentile_ms(&visible, 50),
        "p99_ms": percentile_ms(&visible, 99),
        "accepted_p50_ms": percentile_ms(&accepted, 50),
        "accepted_p99_ms": percentile_ms(&accepted, 99),
        "whole_p50_ms": percentile_ms(&whole, 50),
        "whole_p99_ms": percentile_ms(&whole, 99),
    })
    .to_string());
    if let Some(error) = errors.first() {
        bail!("{} of {total} commands failed, the first so: {error:#}", errors.len());
    }
    Ok(())
}

/// Many wait for the same position at once: the checkpoint is held until all of them do, and they
/// count from when it is let go.
async fn many_wait(shop: &Arc<Shop>, waiters: u32, database: &str) -> anyhow::Result<()> {
    let (holder, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(connection);
    holder
        .batch_execute(
            "begin; select from projection.checkpoints where projection = 'orders' for update",
        )
        .await
        .context("the checkpoint can't be held")?;
    let (id, order) = shop.order(1);
    let answer = shop.http.command("PlaceOrder", &order).await?;
    let position = position(&answer)?.to_owned();
    let mut waiting = JoinSet::new();
    for _ in 0..waiters {
        let (shop, position) = (shop.clone(), position.clone());
        waiting.spawn(async move {
            let read = shop.read(id, &position).await;
            read.map(|()| Instant::now())
        });
    }
    tokio::time::sleep(GATHER).await;
    anyhow::ensure!(
        waiting.try_join_next().is_none(),
        "somebody was answered although the read model stood still"
    );
    let released = Instant::now();
    holder.batch_execute("commit").await?;
    let mut times = Vec::new();
    while let Some(done) = waiting.join_next().await {
        times.push(done?? - released);
    }
    times.sort_unstable();
    say(&json!({
        "bench": "fresh",
        "by": "position",
        "waiters": times.len(),
        "p50_ms": percentile_ms(&times, 50),
        "p99_ms": percentile_ms(&times, 99),
        "all_ms": percentile_ms(&times, 100),
    })
    .to_string());
    Ok(())
}

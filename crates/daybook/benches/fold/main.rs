//! Events a second that projections are rebuilt with and moved in batches with, beside a
//! hand-written GROUP BY that makes the same rows of the same table.
//!
//! `scripts/bench fold --json` starts a PostgreSQL and runs this; it prints one JSON object for
//! each projection and layout: with the read models beside the journal, and in a database of their
//! own on the same server.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures are printed")]

use std::{num::NonZeroU32, path::PathBuf, time::Instant};

use clap::Parser;
use daybook_commands::schemas;
use daybook_journal::{EventFilter, Reader, StoredEvent};
use daybook_projection::{Catalogue, Definition, MeasuredFold, RebuildDeps, Source};
use deadpool_postgres::{Manager, Pool};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio_postgres::{Client, Config, NoTls};

type Failed = Box<dyn std::error::Error>;

/// The only tenant.
const TENANT: i32 = 1;
/// Events of one reading of the journal, ahead of what is measured.
const PAGE_EVENTS: i64 = 10_000;

/// Folds against hand-written GROUP BYs
#[derive(Debug, Parser)]
struct Arguments {
    /// Orders of the history; about fourteen events each
    #[arg(long, default_value_t = 80_000)]
    orders: u32,
    /// Only these projections
    #[arg(long, value_delimiter = ',')]
    projections: Vec<String>,
    /// Where the read models live: beside the journal (same), in a database of their own (separate)
    #[arg(long, value_delimiter = ',', default_values = ["same", "separate"])]
    layout: Vec<String>,
    /// Runs of floor and rebuild; the fastest counts, of both
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// Shares of the rebuild, beside one; as many as the program takes unless given
    #[arg(long)]
    shares: Option<NonZeroU32>,
    /// Folder of the projections
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../projections"))]
    folder: PathBuf,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A journal with the history, and a database where one projection after the other is measured.
struct Measured {
    layout: String,
    /// Of the read models.
    config: Config,
    client: Client,
    /// Of the journal, where the floor is made.
    journal: Client,
    reader: Reader,
    head: i64,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments = Arguments::parse();
    let url = std::env::var("DATABASE_URL").map_err(|_| "run scripts/bench fold")?;
    let admin: Config = url.parse()?;
    let catalogue = Catalogue::load(&arguments.folder)?.reading(&schemas::upcasters());
    let journal = new_database(&admin).await?;
    write_history(&journal, arguments.orders).await?;
    let mut unequal = Vec::new();
    for layout in &arguments.layout {
        let config = match layout.as_str() {
            "same" => journal.clone(),
            "separate" => new_database(&admin).await?,
            other => return Err(format!("there is no layout {other}").into()),
        };
        let measured = Measured::prepare(layout, &journal, config.clone(), &catalogue).await?;
        for definition in catalogue.projections() {
            let name = &definition.name;
            let wanted = arguments.projections.is_empty() || arguments.projections.contains(name);
            if wanted && !measured.measure(definition, arguments.runs, arguments.shares).await? {
                unequal.push(format!("{name} ({layout})"));
            }
        }
        drop(measured);
        if layout == "separate" {
            drop_database(&admin, &config).await?;
        }
    }
    drop_database(&admin, &journal).await?;
    if unequal.is_empty() {
        return Ok(());
    }
    Err(format!("rows differ from the GROUP BY's: {}", unequal.join(", ")).into())
}

/// Makes a database of its own.
async fn new_database(admin: &Config) -> Result<Config, Failed> {
    let name = format!("bench_{}", uuid::Uuid::new_v4().simple());
    connect(admin).await?.batch_execute(&format!("create database {name}")).await?;
    let mut config = admin.clone();
    config.dbname(&name);
    Ok(config)
}

async fn drop_database(admin: &Config, of: &Config) -> Result<(), Failed> {
    let name = of.get_dbname().ok_or("a database without a name")?;
    let drop = format!("drop database {name} with (force)");
    Ok(connect(admin).await?.batch_execute(&drop).await?)
}

fn reader(journal: &Config) -> Result<Reader, Failed> {
    let pool = Pool::builder(Manager::new(journal.clone(), NoTls)).max_size(2).build()?;
    Ok(Reader::new(pool))
}

/// Makes a journal with the history of so many orders.
async fn write_history(journal: &Config, orders: u32) -> Result<(), Failed> {
    let mut client = connect(journal).await?;
    daybook_journal::migrate(&mut client).await?;
    schemas::upcasters().install(&client).await?;
    let reader = reader(journal)?;
    reader.add_tenant("main", 1).await?;
    eprintln!("fold: writing the history of {orders} orders");
    let history = include_str!("history.sql").replace("$ORDERS", &orders.to_string());
    client.batch_execute(&history).await?;
    client.batch_execute("vacuum analyze journal.events").await?;
    eprintln!("fold: {} events", reader.head(TENANT).await?);
    Ok(())
}

impl Measured {
    async fn prepare(
        layout: &str,
        journal: &Config,
        config: Config,
        catalogue: &Catalogue,
    ) -> Result<Self, Failed> {
        let mut client = connect(&config).await?;
        daybook_projection::migrate(&mut client).await?;
        if layout == "separate" {
            schemas::upcasters().install_alone(&client).await?;
        }
        daybook_projection::install(&mut client, catalogue).await?;
        let (reader, journal) = (reader(journal)?, connect(journal).await?);
        for client in [&client, &journal] {
            let settings = "set jit = off; set work_mem = '64MB'; set timezone = 'UTC'";
            client.batch_execute(settings).await?;
        }
        let head = reader.head(TENANT).await?;
        Ok(Self { layout: layout.to_owned(), config, client, journal, reader, head })
    }

    /// Prints one projection's figures; whether its rows are those of the floor, each time.
    async fn measure(
        &self,
        definition: &Definition,
        runs: usize,
        shares: Option<NonZeroU32>,
    ) -> Result<bool, Failed> {
        let name = &definition.name;
        let Some(floor) = floor_of(name) else {
            return Err(format!("there is no GROUP BY for {name}: benches/fold/floor").into());
        };
        eprintln!("fold: {name}");
        let (mut whole, mut grouped) = (f64::MAX, f64::MAX);
        let (mut rebuilt, mut in_one_share, mut taken) = (f64::MAX, f64::MAX, 1);
        for _ in 0..runs.max(1) {
            let (group_by, with_indexes) = self.floor(definition, floor).await?;
            (grouped, whole) = (grouped.min(group_by), whole.min(with_indexes));
            let (seconds, _) = self.rebuild(definition, NonZeroU32::new(1)).await?;
            in_one_share = in_one_share.min(seconds);
            let (seconds, shares) = self.rebuild(definition, shares).await?;
            (rebuilt, taken) = (rebuilt.min(seconds), shares);
        }
        let mut differing = self.differing(definition).await?;

        self.clear(definition).await?;
        let mut fold = MeasuredFold::begin(&self.config, &self.reader, definition, TENANT).await?;
        // The last 45 % of the history in batches, so that what they touch is there and large.
        let share = |percent: i64| self.head * percent / 100;
        fold.catch_up(share(55)).await?;
        self.settle(definition).await?;
        let batch_10k = self.batches(&mut fold, share(75), 10_000).await?;
        let batch_1k = self.batches(&mut fold, share(95), 1_000).await?;
        let batch_100 = self.batches(&mut fold, self.head, 100).await?;
        differing += self.differing(definition).await?;

        let head = f64::from(u32::try_from(self.head)?);
        let (floor_per_s, rebuild_per_s) = (head / whole, head / rebuilt);
        println!(
            "{}",
            json!({
                "bench": "fold",
                "projection": name,
                "layout": self.layout,
                "events": self.head,
                "rows": self.count(&table(definition)).await?,
                "equal": differing == 0,
                "floor_per_s": floor_per_s.round(),
                "group_by_alone_per_s": (head / grouped).round(),
                "rebuild_per_s": rebuild_per_s.round(),
                "shares": taken,
                "rebuild_one_share_per_s": (head / in_one_share).round(),
                "ratio_rebuild": hundredths(rebuild_per_s / floor_per_s),
                "batch_100_per_s": batch_100.round(),
                "batch_1k_per_s": batch_1k.round(),
                "batch_10k_per_s": batch_10k.round(),
                "ratio_batch_1k": hundredths(batch_1k / floor_per_s),
            })
        );
        self.clear(definition).await?;
        Ok(differing == 0)
    }

    /// Makes the rows anew, from nothing; seconds, and in how many shares.
    async fn rebuild(
        &self,
        definition: &Definition,
        shares: Option<NonZeroU32>,
    ) -> Result<(f64, usize), Failed> {
        self.clear(definition).await?;
        let started = Instant::now();
        let deps = RebuildDeps {
            config: self.config.clone(),
            reader: self.reader.clone(),
            feed: None,
            piece_positions: None,
            shares,
            anew: true,
        };
        let done =
            daybook_projection::rebuild(&deps, &definition.name, Source::Journal, &|_, _| {})
                .await?;
        Ok((started.elapsed().as_secs_f64(), done.shares))
    }

    /// Makes the floor's table; seconds of the GROUP BY alone, and with the indexes that the
    /// projection's table has.
    async fn floor(&self, definition: &Definition, query: &str) -> Result<(f64, f64), Failed> {
        self.journal.batch_execute("drop table if exists floor; checkpoint").await?;
        let started = Instant::now();
        self.journal.batch_execute(&format!("create table floor as {query}")).await?;
        let grouped = started.elapsed().as_secs_f64();
        let indexes = self
            .client
            .query(
                "select pg_get_indexdef(i.indexrelid) from pg_index i
                 where i.indrelid = $1::text::regclass",
                &[&table(definition)],
            )
            .await?;
        for row in indexes {
            let made: String = row.get(0);
            let (before, after) = made.split_once(" USING ").ok_or("an index without a method")?;
            let unique = if before.contains("UNIQUE") { "unique" } else { "" };
            let index = format!("create {unique} index on floor using {after}");
            self.journal.batch_execute(&index).await?;
        }
        let whole = started.elapsed().as_secs_f64();
        self.bring_floor(definition).await?;
        Ok((grouped, whole))
    }

    /// Copies the floor's rows to where the projection's are, to be compared there.
    async fn bring_floor(&self, definition: &Definition) -> Result<(), Failed> {
        if self.layout == "same" {
            return Ok(());
        }
        let empty = format!(
            "drop table if exists floor; create table floor as table {} with no data",
            table(definition)
        );
        self.client.batch_execute(&empty).await?;
        let mut rows = Box::pin(self.journal.copy_out("copy floor to stdout").await?);
        let mut floor = Box::pin(self.client.copy_in("copy floor from stdin").await?);
        while let Some(bytes) = rows.next().await {
            floor.send(bytes?).await?;
        }
        floor.as_mut().finish().await?;
        Ok(())
    }

    /// How many rows the projection and the floor don't share.
    async fn differing(&self, definition: &Definition) -> Result<i64, Failed> {
        let read = table(definition);
        let sql = format!(
            "select (select count(*) from (table {read} except all table floor) a)
                  + (select count(*) from (table floor except all table {read}) b)"
        );
        Ok(self.client.query_one(&sql, &[]).await?.get(0))
    }

    /// Seconds folding, per event, of batches up to a position. Reading them is not counted: they
    /// come from Kafka.
    async fn batches(
        &self,
        fold: &mut MeasuredFold,
        until: i64,
        size: usize,
    ) -> Result<f64, Failed> {
        let mut waiting: Vec<StoredEvent> = Vec::new();
        let (mut seconds, mut events) = (0.0, 0);
        let mut read = fold.position();
        let filter = EventFilter { until: Some(until), ..EventFilter::default() };
        while fold.position() < until {
            while waiting.len() < size && read < until {
                let page = self.reader.events(TENANT, read, PAGE_EVENTS, &filter).await?;
                read = page.last().map_or(until, |event| event.position);
                waiting.extend(page);
            }
            let rest = waiting.split_off(size.min(waiting.len()));
            let started = Instant::now();
            fold.batch(&waiting).await?;
            seconds += started.elapsed().as_secs_f64();
            events += waiting.len();
            waiting = rest;
        }
        Ok(f64::from(u32::try_from(events)?) / seconds)
    }

    async fn clear(&self, definition: &Definition) -> Result<(), Failed> {
        let sql = format!(
            "truncate {}; delete from projection.checkpoints where projection = '{}'",
            table(definition),
            definition.name
        );
        self.client.batch_execute(&sql).await?;
        self.client.batch_execute("checkpoint").await?;
        Ok(())
    }

    /// What was written to prepare a run is not the run's to pay.
    async fn settle(&self, definition: &Definition) -> Result<(), Failed> {
        self.client.batch_execute(&format!("vacuum analyze {}", table(definition))).await?;
        self.client.batch_execute("checkpoint").await?;
        Ok(())
    }

    async fn count(&self, table: &str) -> Result<i64, Failed> {
        Ok(self.client.query_one(&format!("select count(*) from {table}"), &[]).await?.get(0))
    }
}

/// The GROUP BY that makes a projection's rows.
fn floor_of(projection: &str) -> Option<&'static str> {
    Some(match projection {
        "attention" => include_str!("floor/attention.sql"),
        "customers" => include_str!("floor/customers.sql"),
        "orders" => include_str!("floor/orders.sql"),
        "payments" => include_str!("floor/payments.sql"),
        "sales_by_country" => include_str!("floor/sales_by_country.sql"),
        "sales_by_day" => include_str!("floor/sales_by_day.sql"),
        "sales_by_product" => include_str!("floor/sales_by_product.sql"),
        "stock" => include_str!("floor/stock.sql"),
        _ => return None,
    })
}

fn table(definition: &Definition) -> String {
    format!("{}.{}", definition.schema(), definition.name)
}

async fn connect(config: &Config) -> Result<Client, Failed> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

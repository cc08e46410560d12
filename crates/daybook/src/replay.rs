//! `daybook replay`: a range of the journal once more, at any pace. It reads and does nothing else.

mod pace;

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use daybook_feed::{FeedEvent, Publisher};
use daybook_journal::{EventFilter, Reader, StoredEvent, Tenant};
use futures::TryStreamExt;
use indicatif::HumanCount;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    bar::Bar,
    config::Settings,
    database::{self, Login},
    streams::{all_known, is_broken_pipe, line},
    wiring,
};
use pace::Pace;

/// Shown below `daybook replay --help`.
pub(crate) const EXAMPLES: &str = "Examples:
  daybook replay --type OrderPlaced | jq .data.total
  daybook replay --from 100001 --until 200000 --out part-2.ndjson
  daybook replay --from 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --out november.ndjson
  daybook replay --prefix order- --topic shop.orders.test --rate 500
  daybook replay --from 2026-11-27T08:00:00Z --topic rehearsal --pace 60

Lines are as those of /v1/events, records as those of the feed. No job, payment, receipt or command
comes of a replay: it only reads. Ctrl-C ends it and says from where to go on.";

/// Longest wait at the end for what Kafka has not confirmed.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of lines that are written together at most.
const WRITE_BYTES: usize = 64 * 1024;
/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// What is played again, where to and how fast.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// First position, or an RFC 3339 time: the first event recorded then or later
    #[arg(long, value_name = "POSITION|TIME", default_value = "1")]
    from: Point,
    /// Last position, or a time: the last event recorded by then [default: the journal's last one]
    #[arg(long, value_name = "POSITION|TIME")]
    until: Option<Point>,
    /// Only this event type (may be given several times)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only streams whose names start so
    #[arg(long)]
    prefix: Option<String>,
    /// File for the events, a line each; must not exist [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with = "topic")]
    out: Option<PathBuf>,
    /// Write behind what the file has
    #[arg(long, requires = "out")]
    append: bool,
    /// Topic for the events, made if it is not there; never the feed's own
    #[arg(long)]
    topic: Option<String>,
    /// So many events a second [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = pace::factor, conflicts_with = "pace")]
    rate: Option<f64>,
    /// So many times as fast as they were recorded: 1 is the original pace
    #[arg(long, value_name = "K", value_parser = pace::factor)]
    pace: Option<f64>,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    Position(i64),
    Time(DateTime<Utc>),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return if position > 0 {
                Ok(Self::Position(position))
            } else {
                Err("positions begin with 1".to_owned())
            };
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self::Time(time.to_utc()))
            .map_err(|_| "neither a position nor a time as 2026-11-01T00:00:00Z".to_owned())
    }
}

impl Point {
    /// Position of the first event from here on.
    async fn first(self, reader: &Reader, tenant: i32) -> anyhow::Result<i64> {
        match self {
            Self::Position(position) => Ok(position),
            Self::Time(time) => {
                let before = time - TimeDelta::microseconds(1);
                Ok(reader.position_at(tenant, before).await? + 1)
            }
        }
    }

    /// Position of the last event up to here.
    async fn last(self, reader: &Reader, tenant: i32) -> anyhow::Result<i64> {
        match self {
            Self::Position(position) => Ok(position),
            Self::Time(time) => Ok(reader.position_at(tenant, time).await?),
        }
    }
}

/// Where events go.
enum Sink {
    Lines { out: Box<dyn Write + Send>, text: String },
    Topic { publisher: Publisher, tenant: String, incarnation: Uuid },
}

impl Sink {
    async fn open(
        args: &ReplayArgs,
        settings: &Settings,
        reader: &Reader,
        tenant: &Tenant,
    ) -> anyhow::Result<Self> {
        if let Some(topic) = &args.topic {
            let publisher = Publisher::new(&wiring::feed(settings)?, topic).await?;
            let incarnation = reader.incarnation().await?;
            return Ok(Self::Topic { publisher, tenant: tenant.name.clone(), incarnation });
        }
        let out: Box<dyn Write + Send> = match &args.out {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(file(path, args.append)?),
        };
        Ok(Self::Lines { out, text: String::new() })
    }

    async fn take(&mut self, event: &StoredEvent) -> anyhow::Result<()> {
        match self {
            Self::Lines { text, .. } => {
                text.push_str(&line(event, true)?);
                text.push('\n');
                if text.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
            }
            Self::Topic { publisher, tenant, incarnation } => {
                Ok(publisher.publish(&FeedEvent::of(tenant, *incarnation, event)).await?)
            }
        }
    }

    /// Lets out what is gathered.
    fn flush(&mut self) -> anyhow::Result<()> {
        if let Self::Lines { out, text } = self {
            out.write_all(text.as_bytes())?;
            out.flush()?;
            text.clear();
        }
        Ok(())
    }

    /// Waits until everything is where it should be.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if let Self::Topic { publisher, .. } = self {
            publisher.settle().await?;
        }
        Ok(())
    }
}

fn file(path: &std::path::Path, append: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    if append {
        options.append(true).create(true);
    } else {
        options.write(true).create_new(true);
    }
    options.open(path).with_context(|| {
        let hint = if path.exists() && !append {
            " (it exists: --append writes behind what it has)"
        } else {
            ""
        };
        format!("{} can't be written{hint}", path.display())
    })
}

/// How far a replay is.
#[derive(Debug, Default)]
struct Done {
    events: u64,
    /// Last position that was handed over or looked at.
    reached: i64,
    interrupted: bool,
}

/// `daybook replay`.
pub(crate) async fn run(settings: &Settings, args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let login = database::config(settings, Login::Audit)?;
    let reader = Reader::new(wiring::pool(settings, login)?);
    let tenant = wiring::tenant(&reader, settings).await?;
    all_known(&args.types)?;
    let head = reader.head(tenant.id).await?;
    let first = args.from.first(&reader, tenant.id).await?;
    let until = match args.until {
        Some(point) => point.last(&reader, tenant.id).await?.min(head),
        None => head,
    };
    let filter = EventFilter {
        kinds: args.types.clone(),
        stream_prefix: args.prefix.clone(),
        correlation: None,
        until: Some(until),
    };
    let mut sink = Sink::open(&args, settings, &reader, &tenant).await?;
    let stop = interruption();
    // A bar among lines on the same screen is of no use to anybody.
    let own_screen = args.out.is_some() || args.topic.is_some() || !io::stdout().is_terminal();
    let bar = Bar::new(args.quiet || !own_screen);
    bar.begin("replay", u64::try_from(until - first + 1).unwrap_or(0), 0);
    let mut done = Done { reached: first - 1, ..Done::default() };
    let played = Played { reader: &reader, tenant: tenant.id, first, filter, bar: &bar };
    let pace = Pace::new(args.rate, args.pace);
    let mut ended = played.to(&mut sink, pace, &stop, &mut done).await;
    if ended.is_ok() {
        ended = settle(&mut sink, &mut done, &stop).await;
    }
    bar.end();
    if let Sink::Topic { publisher, .. } = &sink
        && (done.interrupted || ended.is_err())
    {
        // What Kafka has not confirmed may be missing.
        done.reached = publisher.confirmed().max(first - 1);
    }
    match ended {
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error.context(go_on(&done))),
        Ok(()) => {}
    }
    if done.interrupted {
        tell(&format!("interrupted: {}", go_on(&done)));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if !args.quiet {
        let events = HumanCount(done.events);
        tell(&format!("{events} events of positions {first} to {}", done.reached));
    }
    Ok(ExitCode::SUCCESS)
}

fn go_on(done: &Done) -> String {
    format!("position {} was the last; go on with --from {}", done.reached, done.reached + 1)
}

/// To standard error: standard output may hold events.
fn tell(text: &str) {
    // Nobody reading it is no reason to fail.
    let _ = writeln!(io::stderr(), "{text}");
}

async fn settle(sink: &mut Sink, done: &mut Done, stop: &CancellationToken) -> anyhow::Result<()> {
    let settled = pin!(sink.settle());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(SETTLE_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        settled = settled => settled,
        () = late => {
            done.interrupted = true;
            Ok(())
        }
    }
}

/// Cancelled by the first Ctrl-C; the second one ends the process, whatever it waits for.
fn interruption() -> CancellationToken {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        asked.cancel();
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    stop
}

/// A range of the journal.
struct Played<'a> {
    reader: &'a Reader,
    tenant: i32,
    first: i64,
    filter: EventFilter,
    bar: &'a Bar,
}

impl Played<'_> {
    /// Hands the range over, one page of it in memory at a time, until its end or `stop`.
    async fn to(
        &self,
        sink: &mut Sink,
        mut pace: Pace,
        stop: &CancellationToken,
        done: &mut Done,
    ) -> anyhow::Result<()> {
        let pages = self.reader.read_pages(self.tenant, self.first - 1, self.filter.clone());
        let mut pages = pin!(pages);
        let start = Instant::now();
        loop {
            let page = tokio::select! {
                biased;
                () = stop.cancelled() => return interrupted(sink, done),
                page = pages.try_next() => page?,
            };
            let Some(page) = page else { return Ok(()) };
            for event in &page.events {
                if let Some(due) = pace.due(event.recorded_at) {
                    let due = start + due;
                    if due > Instant::now() {
                        // Out before the wait: it is time for what came before.
                        sink.flush()?;
                        tokio::select! {
                            biased;
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep_until(due) => {}
                        }
                    }
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return interrupted(sink, done),
                    taken = sink.take(event) => taken?,
                }
                done.events += 1;
                done.reached = event.position;
                self.reached(done);
            }
            sink.flush()?;
            done.reached = page.reached;
            self.reached(done);
        }
    }

    fn reached(&self, done: &Done) {
        self.bar.reached(u64::try_from(done.reached - self.first + 1).unwrap_or(0));
    }
}

fn interrupted(sink: &mut Sink, done: &mut Done) -> anyhow::Result<()> {
    done.interrupted = true;
    sink.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_position_or_a_time() {
        assert_eq!("7".parse(), Ok(Point::Position(7)));
        let time = DateTime::from_timestamp(1_793_491_200, 0).unwrap();
        assert_eq!("2026-11-01T00:00:00Z".parse(), Ok(Point::Time(time)));
        assert_eq!("2026-11-01T01:00:00+01:00".parse(), Ok(Point::Time(time)));
        for wrong in ["0", "-1", "", "yesterday", "2026-11-01"] {
            assert!(wrong.parse::<Point>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_is_not_written_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out.ndjson");
        file(&path, false).unwrap().write_all(b"1\n").unwrap();
        let refused = file(&path, false).unwrap_err().to_string();
        assert!(refused.contains("--append"), "{refused}");
        file(&path, true).unwrap().write_all(b"2\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n");
    }
}

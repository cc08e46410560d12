//! `daybook import uci-retail`: the UCI Online Retail data set, turned into commands.
//!
//! The file is read and hashed once and everything is planned before the first command is sent
//! ([`planner`], which says what each row becomes): an invoice is placed as a whole at its first
//! row, and the smallest opening stock is known only at the end. Then the commands go through
//! the same path as everybody's, in the order of the file, many at once ([`send`]). Keys and ids
//! come from the file alone ([`ids`]), so a run that was interrupted is simply started again.

mod desk;
mod ids;
mod line;
mod plan;
mod planner;
mod progress;
mod report;
mod returns;
mod row;
mod send;
mod source;
mod stock;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use daybook_commands::Shop;
use tokio_util::sync::CancellationToken;

pub(crate) use self::report::Report;
use self::{
    desk::ShopDesk, plan::Plan, progress::Progress, report::Took, send::Limits, source::Contents,
};

/// Pause after a first failure to write the journal.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the journal may be out of reach until the import gives up.
const PATIENCE: Duration = Duration::from_mins(10);
/// Most commands that may be under way.
const MAX_IN_FLIGHT: u64 = 100_000;

/// What is imported, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file: CSV, or CSV packed with gzip
    file: PathBuf,
    /// Also writes the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How many commands may be under way at once
    #[arg(long, value_name = "N", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=MAX_IN_FLIGHT))]
    in_flight: u64,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Imports a file into `tenant`'s shop, prints the report, and returns it if everything was
/// accepted. A file of another format, a journal that stays out of reach, `shutdown` before the
/// end and refused commands are errors; bad rows are not, they stand in the report.
pub(crate) async fn run(
    args: ImportArgs,
    shop: Shop,
    tenant: i32,
    shutdown: CancellationToken,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let file = args.file.clone();
    let plan = tokio::task::spawn_blocking(move || Contents::read(&file).map(Plan::new))
        .await
        .context("reading the file panicked")??;
    let read = started.elapsed();
    // Opened now: after an hour's import it is too late to learn that it can't be written.
    let json = args.report.as_deref().map(create).transpose()?;

    let limits = Limits {
        in_flight: usize::try_from(args.in_flight).unwrap_or(usize::MAX),
        pause: PAUSE,
        longest_pause: LONGEST_PAUSE,
        patience: PATIENCE,
    };
    let mut progress = Progress::new(plan.row_count, args.quiet);
    let desk = ShopDesk::new(shop, tenant, &plan);
    let tally = send::send(&plan, &desk, &limits, &mut progress, &shutdown).await;
    let (send, by_tenth) = progress.finish();

    let report = Report::new(&plan, tally, Took { read, send, by_tenth });
    write!(std::io::stdout(), "{report}").context("can't print the report")?;
    if let Some(json) = json {
        write_json(&report, json).context("can't write the report")?;
    }
    if let Some(reason) = report.failure() {
        bail!("{reason}");
    }
    Ok(report)
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("can't write the report to {}", path.display()))
}

fn write_json(report: &Report, file: File) -> anyhow::Result<()> {
    let mut file = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut file, report)?;
    writeln!(file)?;
    file.flush()?;
    Ok(())
}

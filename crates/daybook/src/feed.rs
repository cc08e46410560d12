//! `daybook feed …`: the topic, compared with the journal, or made anew.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::Subcommand;
use daybook_feed::{CheckReport, FeedConfig};
use indicatif::HumanCount;

use crate::{
    bar::Bar,
    config::Settings,
    database::{self, Login},
    tools::say,
    wiring,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// Reads the topic whole and compares each record with the journal; changes nothing
    #[command(after_help = "Example:\n  daybook feed check\n\n\
                      Exit code 0: topic and journal agree; 1: they don't, or settings differ. A \
                      relay may be at work meanwhile.")]
    Check {
        /// Shows no progress
        #[arg(long, short)]
        quiet: bool,
    },
    /// Deletes the topic and makes it anew; the next relay fills it from the journal
    #[command(after_help = "Examples:\n  daybook feed recreate\n  daybook feed recreate --yes\n\n\
                      No relay may be at work. Read models go on where they are: their checkpoints \
                      are positions, and what comes again they have. Other consumers that keep \
                      offsets begin anew.")]
    Recreate {
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// Does what is asked.
pub(crate) async fn run(settings: &Settings, command: Feed) -> anyhow::Result<ExitCode> {
    let config = wiring::feed(settings)?;
    match command {
        Feed::Check { quiet } => check(settings, &config, quiet).await,
        Feed::Recreate { yes } => recreate(settings, &config, yes).await,
    }
}

async fn check(settings: &Settings, config: &FeedConfig, quiet: bool) -> anyhow::Result<ExitCode> {
    let pool = wiring::pool(settings, database::config(settings, Login::Relay)?)?;
    let (bar, begun) = (Bar::new(quiet), AtomicBool::new(false));
    let progress = |done, total| {
        if !begun.swap(true, Ordering::Relaxed) {
            bar.begin("check", total, 0);
        }
        bar.reached(done);
    };
    let report = tokio::select! {
        report = daybook_feed::check(config, &pool, progress) => report,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted: nothing is said about the topic");
        }
    };
    bar.end();
    let report = report?;
    for line in lines(config, &report) {
        say(&line);
    }
    let sound = report.faults_in_all == 0 && report.settings.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A report for people.
fn lines(config: &FeedConfig, report: &CheckReport) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in &report.settings {
        lines.push(format!("topic {}: {difference}", config.topic));
    }
    lines.extend(report.faults.iter().map(ToString::to_string));
    let untold = report.faults_in_all - u64::try_from(report.faults.len()).unwrap_or(0);
    if untold > 0 {
        lines.push(format!("and {} more", HumanCount(untold)));
    }
    for (tenant, reach) in &report.tenants {
        let behind = reach.head - reach.last;
        let behind = match behind {
            1.. => format!(", {behind} behind the journal: the relay publishes them"),
            _ => String::new(),
        };
        let reached = match reach.last {
            0 => "nothing yet".to_owned(),
            last => format!("positions {} to {last}", reach.first),
        };
        lines.push(format!("tenant {tenant}: {reached}{behind}"));
    }
    let (records, repeats) = (HumanCount(report.records), HumanCount(report.repeats));
    let verdict = match report.faults_in_all {
        0 => "topic and journal agree".to_owned(),
        faults => format!(
            "faults: {}; `daybook feed recreate` makes the topic anew from the journal",
            HumanCount(faults)
        ),
    };
    lines.push(format!("{records} records, {repeats} of them repeats: {verdict}"));
    lines
}

async fn recreate(settings: &Settings, config: &FeedConfig, yes: bool) -> anyhow::Result<ExitCode> {
    if !yes && !agreed(&config.topic)? {
        say("Nothing was done.");
        return Ok(ExitCode::FAILURE);
    }
    let client = database::connect(&database::config(settings, Login::Relay)?).await?;
    daybook_feed::recreate_topic(config, &client).await?;
    say(&format!("topic {} is new and empty; the next relay fills it", config.topic));
    Ok(ExitCode::SUCCESS)
}

/// Asks whoever sits there.
fn agreed(topic: &str) -> anyhow::Result<bool> {
    anyhow::ensure!(io::stdin().is_terminal(), "nobody can be asked here: say --yes");
    let mut out = io::stderr();
    write!(out, "All records of topic {topic} are deleted. Type its name to go on: ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == topic)
}

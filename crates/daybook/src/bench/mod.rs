//! `daybook bench`: measures a running Daybook and prints one JSON object a line.

mod fresh;
mod http;
mod live;
mod query;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use daybook_feed::TopicSurvey;
use serde_json::json;

use crate::{config::Settings, tools::say, wiring};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Command accepted → visible in the read model, at a constant rate
    #[command(
        after_help = "Example:\n  daybook bench fresh --url http://127.0.0.1:7070 --key $KEY --rate 200"
    )]
    Fresh(FreshArgs),
    /// Keyed queries over HTTP, from a few connections that stay open
    #[command(
        after_help = "Example:\n  daybook bench query --key $KEY --path /v1/operator/orders/{} --keys ids.txt"
    )]
    Query(QueryArgs),
    /// A declared query's statements as serve sends them, for pgbench
    #[command(after_help = "Example:\n  daybook bench statements operator_stock_of")]
    Statements {
        /// Name of the query
        query: String,
    },
    /// What the topic holds, held against what is promised of it; for failure tests
    ///
    /// Reads the whole topic. The status is 1 where there is a gap, an event out of order, or
    /// another event at the same position; repeats are allowed.
    #[command(after_help = "Example:\n  daybook bench topic")]
    Topic,
}

#[derive(Debug, Args)]
struct FreshArgs {
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
    /// How it is seen that the read model has it
    #[arg(long, value_enum, default_value_t = By::Position)]
    by: By,
    /// Instead: so many wait for one position at once
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    waiters: Option<u32>,
    /// With --waiters: the database's owner, who holds the read model until all of them wait
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

/// How a reader learns of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// It asks for what is no older than the command
    Position,
    /// It follows a page of its own, which changes
    Sse,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// Address of the server
    #[arg(long, env = "DAYBOOK_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// API key of whom the query is for
    #[arg(long, env = "DAYBOOK_OPERATOR_KEY", hide_env_values = true)]
    key: String,
    /// Path of the query, with {} for the key
    #[arg(long)]
    path: String,
    /// File of keys, one a line, of which random ones are asked for
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// For how long, seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// Runs a measurement.
pub(crate) async fn run(args: BenchArgs, settings: &Settings) -> anyhow::Result<()> {
    match args.what {
        What::Fresh(args) => fresh::run(args).await,
        What::Query(args) => query::run(args).await,
        What::Statements { query } => statements(&query, settings),
        What::Topic => topic(settings).await,
    }
}

/// Prints what the topic holds.
async fn topic(settings: &Settings) -> anyhow::Result<()> {
    let config = wiring::feed(settings)?;
    let survey = tokio::task::spawn_blocking(move || TopicSurvey::take(&config)).await??;
    say(&json!({
        "bench": "topic",
        "records": survey.records,
        "repeats": survey.repeats,
        "contradictions": survey.contradictions,
        "gaps": survey.gaps,
        "reordered": survey.reordered,
        "positions": survey.positions,
    })
    .to_string());
    let wrong = survey.contradictions + survey.gaps + survey.reordered;
    anyhow::ensure!(wrong == 0, "topic {} breaks what is promised of it", settings.topic);
    Ok(())
}

/// Prints what serve sends for a query, in order.
fn statements(name: &str, settings: &Settings) -> anyhow::Result<()> {
    let catalogue = wiring::catalogue(settings)?;
    let statements = daybook_projection::statements(&catalogue, name);
    let statements = statements.ok_or_else(|| anyhow::anyhow!("there is no query {name}"))?;
    for statement in statements {
        say(&format!("{};", statement.trim_end()));
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

//! What keeping a journal of some size takes: disk, vacuum, backups.

#![expect(clippy::cast_possible_truncation, reason = "bytes are whole numbers far below 2^53")]

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Instant};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, process::Command};

use super::{Database, kit::rounded};

/// Figures of a journal with so many events, by name.
pub(crate) struct Upkeep {
    events: i64,
    figures: BTreeMap<String, f64>,
}

impl Upkeep {
    /// Vacuums, looks at sizes, backs up into nothing.
    pub(crate) async fn measure(
        database: &Database,
        events: i64,
        fill_s: f64,
        backup: bool,
    ) -> Self {
        eprintln!("growth: upkeep of {events} events");
        let client = database.client().await;
        let mut figures = BTreeMap::from([("fill_s".to_owned(), fill_s)]);
        // The first one after rows came reads them all; freezing is what has to be done once in two
        // hundred million transactions at the latest, and rewrites what it reads.
        for (name, statement) in [
            ("vacuum_s", "vacuum analyze journal.events, journal.commands"),
            ("vacuum_freeze_s", "vacuum freeze journal.events, journal.commands"),
            ("vacuum_idle_s", "vacuum journal.events, journal.commands"),
        ] {
            let start = Instant::now();
            client.batch_execute(statement).await.expect("may vacuum");
            figures.insert(name.to_owned(), start.elapsed().as_secs_f64());
        }
        client.batch_execute("checkpoint").await.expect("may checkpoint");
        for row in client.query(include_str!("sizes.sql"), &[]).await.expect("sizes can be asked") {
            let bytes: i64 = row.get(1);
            figures.insert(format!("{}_bytes", row.get::<_, &str>(0)), bytes as f64);
        }
        if backup {
            let url = database.url();
            let base = ["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"];
            let dump = ["--format=custom", "--compress=1"];
            let dbname = format!("--dbname={url}");
            let base: Vec<&str> = base.into_iter().chain([dbname.as_str()]).collect();
            let dump: Vec<&str> = dump.into_iter().chain([dbname.as_str()]).collect();
            for (name, program, arguments) in
                [("basebackup", "pg_basebackup", base), ("dump", "pg_dump", dump)]
            {
                if let Some((seconds, bytes)) = into_nothing(program, &arguments).await {
                    figures.insert(format!("{name}_s"), seconds);
                    figures.insert(format!("{name}_bytes"), bytes);
                }
            }
        }
        Self { events, figures }
    }

    pub(crate) fn figures(&self) -> Value {
        figures_of(self.events, self.figures.iter().map(|(name, value)| (name.clone(), *value)))
    }
}

fn figures_of(events: i64, named: impl Iterator<Item = (String, f64)>) -> Value {
    let mut figures = json!({ "bench": "growth", "events": events });
    for (name, value) in named {
        figures[&name] =
            if name.ends_with("_bytes") { json!(value as i64) } else { json!(rounded(value, 2)) };
    }
    figures
}

/// What a journal of `events` would take if everything went on in a straight line.
pub(crate) fn extrapolated(from: &Upkeep, to: &Upkeep, events: i64) -> Value {
    let steps = (events - to.events) as f64 / (to.events - from.events) as f64;
    let line = to.figures.iter().filter_map(|(name, last)| {
        let first = from.figures.get(name)?;
        // Filling took only what the last piece took.
        (name != "fill_s").then(|| (name.clone(), last + (last - first) * steps))
    });
    let mut figures = figures_of(events, line);
    figures["extrapolated_from"] = json!([from.events, to.events]);
    figures
}

/// Runs a program of PostgreSQL's and counts what it writes; seconds and bytes. `None` where there is
/// no such program.
async fn into_nothing(program: &str, arguments: &[&str]) -> Option<(f64, f64)> {
    let Some(path) = find(program) else {
        eprintln!("growth: there is no {program} here, so it is left out");
        return None;
    };
    let start = Instant::now();
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a program that was found starts");
    let mut output = child.stdout.take().expect("it is piped");
    let (mut bytes, mut piece) = (0, vec![0; 1 << 20]);
    loop {
        match output.read(&mut piece).await.expect("a pipe can be read") {
            0 => break,
            n => bytes += n,
        }
    }
    let status = child.wait().await.expect("it can be waited for");
    assert!(status.success(), "{program} failed: {status}");
    Some((start.elapsed().as_secs_f64(), bytes as f64))
}

/// Beside the server that runs, else on the path.
fn find(program: &str) -> Option<PathBuf> {
    let beside = std::env::var_os("DAYBOOK_POSTGRES_BIN").and_then(|bin| {
        let server = PathBuf::from(bin).join("pg_ctl").canonicalize().ok()?;
        Some(server.parent()?.to_owned())
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

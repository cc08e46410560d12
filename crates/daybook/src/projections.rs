//! `daybook projections …`: the life of read models, from a folder to being dropped.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use daybook_commands::schemas;
use daybook_journal::Reader;
use daybook_projection::{
    Catalogue, Change, Checked, Example, Installed, ProjectionStatus, RowDiff, Source, StopReason,
    VersionState,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use crate::{
    cli::{DiffFormat, From, Projections},
    config::Settings,
    database::{self, Login},
    tools::say,
    wiring,
};

/// How long a rate is measured.
const RATE_OVER: Duration = Duration::from_secs(1);

/// Does what the command line asks.
pub(crate) async fn run(settings: &Settings, command: Projections) -> anyhow::Result<ExitCode> {
    match command {
        Projections::Check { dir } => return check(settings, &dir).await,
        Projections::Status { json } => status(settings, json).await?,
        Projections::Diff { name, from, to, format, limit } => {
            diff(settings, &name, from.as_deref(), to.as_deref(), format, limit).await?;
        }
        Projections::Parked { name, retry: false, key: _ } => {
            list_parked(settings, name.as_deref()).await?;
        }
        Projections::Parked { name, retry: true, key } => {
            retry(settings, &name.unwrap_or_default(), key.as_deref()).await?;
        }
        Projections::Add { dir, no_switch } => {
            let catalogue = Catalogue::of_folder(&dir)?.reading(&schemas::upcasters());
            let mut client = database::connect(&database::read_owner(settings)?).await?;
            for definition in catalogue.projections() {
                let done = daybook_projection::add(&mut client, definition, !no_switch).await?;
                say(&installed_line(&done).unwrap_or_else(|| {
                    format!(
                        "{:20} version {} is there already",
                        done.projection,
                        short(&done.version)
                    )
                }));
            }
        }
        Projections::List => list(settings).await?,
        Projections::Switch { name, to } => {
            let client = database::connect(&database::read_owner(settings)?).await?;
            let version = daybook_projection::switch(&client, &name, to.as_deref()).await?;
            say(&format!("{name:20} version {} answers queries", short(&version)));
        }
        Projections::Drop { name, version, retired } => {
            drop(settings, &name, version, retired).await?;
        }
        Projections::Rebuild { name, all: _, from, parallel, anew } => {
            let parallel = parallel.and_then(NonZeroU32::new);
            anyhow::ensure!(
                from == From::Journal || parallel.is_none_or(|shares| shares.get() == 1),
                "a rebuild from the topic has one share: --parallel is for --from journal"
            );
            let client =
                database::connect(&database::read_config(settings, Login::Project)?).await?;
            let mut names: Vec<String> = daybook_projection::installed(&client)
                .await?
                .into_iter()
                .map(|version| version.definition.name)
                .collect();
            names.dedup();
            if let Some(name) = name {
                anyhow::ensure!(
                    names.contains(&name),
                    "there is no read model {name}; `daybook projections list` shows them"
                );
                names = vec![name];
            }
            for name in names {
                rebuild(settings, &name, from, parallel, anew).await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries a folder out and says of each thing how it went.
async fn check(settings: &Settings, dir: &Path) -> anyhow::Result<ExitCode> {
    let upcasters = schemas::upcasters();
    let catalogue = Catalogue::of_folder(dir)?.reading(&upcasters);
    let examples = Example::load_all(dir)?;
    let mut client = database::connect(&database::read_owner(settings)?).await?;
    let known: BTreeSet<&str> =
        schemas::event_versions().iter().map(|version| version.kind).collect();
    let mut good = true;
    for definition in catalogue.projections() {
        let mut checked =
            daybook_projection::check(&mut client, definition, &upcasters, &examples).await?;
        let named = definition.events.iter().map(String::as_str);
        let unknown: BTreeSet<&str> = named
            .chain(examples.iter().flat_map(Example::kinds))
            .filter(|kind| !known.contains(kind))
            .collect();
        let result = if unknown.is_empty() {
            Ok(definition.events.join(", "))
        } else {
            Err(unknown.iter().map(|kind| format!("there is no event type {kind}")).collect())
        };
        checked.insert(0, Checked { what: "events".to_owned(), result });
        for Checked { what, result } in checked {
            match result {
                Ok(said) => say(&format!("ok     {what:40} {said}")),
                Err(wrong) => {
                    good = false;
                    for (n, wrong) in wrong.iter().enumerate() {
                        let what = if n == 0 { what.as_str() } else { "" };
                        let mark = if n == 0 { "WRONG" } else { "" };
                        say(&format!("{mark:5}  {what:40} {wrong}"));
                    }
                }
            }
        }
        if examples.is_empty() {
            say("       there are no examples: apply.sql was not run");
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what another version would change.
async fn diff(
    settings: &Settings,
    name: &str,
    from: Option<&str>,
    to: Option<&str>,
    format: DiffFormat,
    limit: usize,
) -> anyhow::Result<()> {
    let owner = database::read_owner(settings)?;
    let mut shown = 0_usize;
    let mut print = |row: RowDiff| {
        if format == DiffFormat::Ndjson {
            say(&serde_json::to_string(&row).unwrap_or_default());
        } else if shown < limit {
            say(&format!("{:10} {}", row.tenant, diff_line(&row)));
        }
        shown += 1;
    };
    let report =
        daybook_projection::diff(&owner, &journal(settings)?, name, from, to, &mut print).await?;
    if format == DiffFormat::Table {
        if shown > limit {
            say(&format!("… and {} more (--limit, --format ndjson)", shown - limit));
        }
        let positions: Vec<String> =
            report.positions.iter().map(|(tenant, at)| format!("{tenant} {at}")).collect();
        say(&format!(
            "{name:20} {} -> {} at position {}: {} rows the same, {} changed, {} gone, {} new",
            short(&report.from),
            short(&report.to),
            positions.join(", "),
            report.same,
            report.changed,
            report.only_old,
            report.only_new
        ));
    }
    Ok(())
}

/// One row that differs, in a line: its key, and what changes.
fn diff_line(row: &RowDiff) -> String {
    let key = values(&row.key);
    match (&row.old, &row.new) {
        (Some(old), Some(new)) => {
            let mut changes = Vec::new();
            let columns: BTreeSet<&String> = [old, new]
                .into_iter()
                .filter_map(|row| row.as_object())
                .flat_map(Map::keys)
                .collect();
            for column in columns {
                match (old.get(column), new.get(column)) {
                    (Some(old), Some(new)) if old == new => {}
                    (Some(old), Some(new)) => changes.push(format!("{column}: {old} -> {new}")),
                    (Some(old), None) => changes.push(format!("{column}: {old} -> no column")),
                    (None, Some(new)) => changes.push(format!("{column}: no column -> {new}")),
                    (None, None) => {}
                }
            }
            format!("{key}  {}", changes.join(", "))
        }
        (Some(_), None) => format!("{key}  gone"),
        (None, new) => format!("{key}  new: {}", new.as_ref().map(values).unwrap_or_default()),
    }
}

fn values(row: &Value) -> String {
    let columns = row.as_object().into_iter().flatten();
    columns.map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(" ")
}

async fn list_parked(settings: &Settings, name: Option<&str>) -> anyhow::Result<()> {
    let client = database::connect(&database::read_config(settings, Login::Project)?).await?;
    for parked in daybook_projection::parked(&client, name).await? {
        say(&format!(
            "{:20} {:12} {} since position {} ({}): {}",
            parked.projection,
            short(&parked.version),
            parked.key,
            parked.position,
            parked.kind,
            parked.error
        ));
    }
    Ok(())
}

async fn retry(settings: &Settings, name: &str, key: Option<&str>) -> anyhow::Result<()> {
    let client = database::connect(&database::read_config(settings, Login::Project)?).await?;
    let tried = daybook_projection::retry(&client, &journal(settings)?, name, key).await?;
    if tried.is_empty() {
        say(&format!("{name:20} nothing is parked"));
    }
    for (parked, still) in tried {
        let said =
            still.map_or_else(|| "is up to date".to_owned(), |error| format!("stays: {error}"));
        say(&format!("{name:20} {} {said}", parked.key));
    }
    Ok(())
}

/// What a person is told about a definition that was put into the database, if anything changed.
pub(crate) fn installed_line(done: &Installed) -> Option<String> {
    let Installed { projection, version, change } = done;
    let said = match change {
        Change::None => return None,
        Change::Texts => "has a new title or new queries",
        Change::New => "is new and answers queries",
        Change::Version => "is being built beside the one that answers",
        Change::Again => "is to be switched to",
    };
    Some(format!("{projection:20} version {} {said}", short(version)))
}

/// Reads the journal as whoever folds it, wherever the read models live.
fn journal(settings: &Settings) -> anyhow::Result<Reader> {
    let login = database::config(settings, Login::Project)?;
    Ok(Reader::new(wiring::pool(settings, login)?))
}

/// As much of a version as tells it from others.
fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

async fn list(settings: &Settings) -> anyhow::Result<()> {
    let client = database::connect(&database::read_config(settings, Login::Project)?).await?;
    for version in daybook_projection::installed(&client).await? {
        let definition = &version.definition;
        say(&format!(
            "{:20} {} {:8}  {}",
            definition.name,
            short(definition.version()),
            version.state,
            definition.title
        ));
        if version.state == VersionState::Active {
            for query in &definition.queries {
                say(&format!("{:20}   GET {}  ({})", "", query.path, query.roles.join(", ")));
            }
        }
    }
    Ok(())
}

async fn status(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let client = database::connect(&database::read_config(settings, Login::Project)?).await?;
    let journal = journal(settings)?;
    let before = daybook_projection::status(&client, &journal).await?;
    let since = Instant::now();
    tokio::time::sleep(RATE_OVER).await;
    let rows = daybook_projection::status(&client, &journal).await?;
    let seconds = since.elapsed().as_secs_f64();
    if !json {
        say(&format!(
            "{:20} {:12} {:8} {:10} {:>12} {:>10} {:>9}  error",
            "read model", "version", "state", "tenant", "position", "behind", "events/s"
        ));
    }
    for row in rows {
        let same = |b: &&ProjectionStatus| {
            (&b.name, &b.version, b.tenant) == (&row.name, &row.version, row.tenant)
        };
        let moved = before.iter().find(same).map_or(0, |before| row.position - before.position);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = (moved as f64 / seconds).round();
        if json {
            let mut object = serde_json::to_value(&row)?;
            object["rate"] = rate.into();
            say(&object.to_string());
            continue;
        }
        let mut error = match &row.error {
            Some(StopReason { position: Some(at), kind: Some(kind), message }) => {
                format!("stopped at {at} ({kind}): {message}")
            }
            Some(reason) => format!("stopped: {}", reason.message),
            None => "-".to_owned(),
        };
        if row.parked > 0 {
            error = format!("{} keys parked; {error}", row.parked);
        }
        say(&format!(
            "{:20} {:12} {:8} {:10} {:>12} {:>10} {rate:>9}  {error}",
            row.name,
            short(&row.version),
            row.state,
            row.tenant_name,
            row.position,
            row.head - row.position,
        ));
    }
    Ok(())
}

async fn drop(
    settings: &Settings,
    name: &str,
    version: Option<String>,
    retired: bool,
) -> anyhow::Result<()> {
    let mut client = database::connect(&database::read_owner(settings)?).await?;
    let versions = if retired {
        let all = daybook_projection::installed(&client).await?;
        let of_it = all.iter().filter(|v| v.definition.name == name);
        let retired = of_it.filter(|v| v.state == VersionState::Retired);
        retired.map(|v| v.definition.version().to_owned()).collect()
    } else if let Some(version) = version {
        vec![version]
    } else {
        let dropped = daybook_projection::drop_projection(&mut client, name).await?;
        say(&format!("{name:20} dropped, with {} versions and its queries", dropped.len()));
        return Ok(());
    };
    if versions.is_empty() {
        say(&format!("{name:20} no version is retired"));
    }
    for version in versions {
        let version = daybook_projection::drop_version(&client, name, &version).await?;
        say(&format!("{name:20} version {} dropped", short(&version)));
    }
    Ok(())
}

async fn rebuild(
    settings: &Settings,
    name: &str,
    from: From,
    parallel: Option<NonZeroU32>,
    anew: bool,
) -> anyhow::Result<()> {
    let (source, feed) = match from {
        From::Journal => (Source::Journal, None),
        From::Kafka => (Source::Kafka, Some(wiring::feed(settings)?)),
    };
    let deps = daybook_projection::RebuildDeps {
        config: database::read_config(settings, Login::Project)?,
        reader: journal(settings)?,
        feed,
        piece_positions: None,
        shares: parallel,
        anew,
    };
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template(
            "{msg:20} {wide_bar} {pos}/{len} events  {per_sec}  {eta} left",
        )
        .unwrap_or_else(|_invalid| ProgressStyle::default_bar()),
    );
    bar.set_message(name.to_owned());
    let report = daybook_projection::rebuild(&deps, name, source, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await
    .with_context(|| format!("read model {name}"))?;
    bar.finish_and_clear();
    let events: i64 = report.positions.iter().map(|(_tenant, position)| position).sum();
    let resumed = match report.resumed {
        0 => String::new(),
        resumed => format!(" ({resumed} of them before)"),
    };
    let shares = match report.shares {
        1 => String::new(),
        shares => format!(" in {shares} shares"),
    };
    say(&format!(
        "{name:20} {events} events{resumed}{shares}, {} rows changed, {:.1} s",
        report.changed_rows,
        report.elapsed.as_secs_f64()
    ));
    Ok(())
}

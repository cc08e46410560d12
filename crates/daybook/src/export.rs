//! `daybook export` and `daybook import events`: the journal to files and back.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{Args, ValueEnum};
use daybook_commands::{event_schema, event_types, event_version, schemas};
use daybook_export::{
    ExportProgress, ExportSettings, Manifest, Plan, RestoreProgress, RestoreSettings, Schemas,
    Stage,
};
use daybook_journal::Reader;
use indicatif::HumanBytes;

use crate::{
    bar::Bar,
    config::Settings,
    database::{self, Login},
    secrets::Secrets,
    tools::say,
    wiring,
};

/// What is exported, and how.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// ndjson: as it is stored, restorable; parquet: current form, typed columns, for analysts
    #[arg(long, value_enum)]
    format: Format,
    /// First position
    #[arg(long, value_name = "POSITION", default_value_t = 1,
          value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,
    /// Last position [default: the journal's last one; of an export that continues, the one it had]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    until: Option<i64>,
    /// Folder for the files and their manifest
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Most events of a file
    #[arg(long, value_name = "N", default_value_t = daybook_export::FILE_EVENTS,
          value_parser = clap::value_parser!(u32).range(1..))]
    file_events: u32,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

/// What is restored.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// Folder of an export in NDJSON
    dir: PathBuf,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Parquet,
}

/// The event types of this program, as tables.
pub(crate) fn event_tables() -> anyhow::Result<Schemas> {
    let types = event_types().iter().map(|kind| {
        let schema = event_schema(kind).with_context(|| format!("{kind} has no schema"))?;
        Ok(((*kind).to_owned(), event_version(kind), schema))
    });
    Ok(Schemas::new(types.collect::<anyhow::Result<Vec<_>>>()?)?)
}

/// `daybook export`.
pub(crate) async fn export(settings: &Settings, args: ExportArgs) -> anyhow::Result<()> {
    let login = database::config(settings, Login::Audit)?;
    let reader = Reader::new(wiring::pool(settings, login)?);
    let wanted = ExportSettings {
        format: match args.format {
            Format::Ndjson => daybook_export::Format::Ndjson,
            Format::Parquet => daybook_export::Format::Parquet,
        },
        tenant: wiring::tenant(&reader, settings).await?,
        from: args.from,
        until: args.until,
        dir: args.out,
        file_events: args.file_events,
        schemas: Arc::new(event_tables()?),
        upcasters: schemas::upcasters(),
    };
    let bar = Arc::new(Shown { bar: Bar::new(args.quiet), from: args.from });
    let manifest = tokio::select! {
        done = daybook_export::export(&reader, &wanted, bar.clone()) => done,
        _ = tokio::signal::ctrl_c() => Err(daybook_export::ExportError::Interrupted),
    };
    bar.bar.end();
    let manifest = manifest?;
    say(&format!("{}, in {}", summary(&manifest), wanted.dir.display()));
    Ok(())
}

/// `daybook import events`.
pub(crate) async fn restore(settings: &Settings, args: RestoreArgs) -> anyhow::Result<()> {
    // No role of the running program may put events in past its writer: this is the owner's.
    let owner = database::owner(settings)?;
    let client = database::connect(&owner).await?;
    let reader = Reader::new(wiring::pool(settings, owner)?);
    let wanted = RestoreSettings {
        tenant: wiring::tenant(&reader, settings).await?,
        keys: Secrets::new(&settings.secrets_dir).mac_keys()?,
        dir: args.dir,
    };
    let bar = Arc::new(Shown { bar: Bar::new(args.quiet), from: 1 });
    let done = tokio::select! {
        done = daybook_export::restore(&client, &wanted, bar.clone()) => done,
        _ = tokio::signal::ctrl_c() => Err(daybook_export::RestoreFailure::Interrupted),
    };
    bar.bar.end();
    let (manifest, put_in) = done?;
    let there = i64::try_from(manifest.events).unwrap_or(i64::MAX) - put_in;
    let there = if there > 0 { format!("; {there} were there already") } else { String::new() };
    say(&format!("{}: {put_in} restored{there}", summary(&manifest)));
    Ok(())
}

fn summary(manifest: &Manifest) -> String {
    let Plan { from, until, tenant, .. } = &manifest.plan;
    format!(
        "{} events of tenant {tenant}, positions {from} to {until}, {} files, {}",
        manifest.events,
        manifest.files.len(),
        HumanBytes(manifest.bytes)
    )
}

/// A bar that counts events from a position on.
struct Shown {
    bar: Bar,
    from: i64,
}

fn count(from: i64, until: i64) -> u64 {
    u64::try_from(until - from + 1).unwrap_or_default()
}

impl ExportProgress for Shown {
    fn planned(&self, plan: &Plan, next: i64) {
        self.bar.begin("export", count(plan.from, plan.until), count(plan.from, next - 1));
    }

    fn reached(&self, position: i64) {
        self.bar.reached(count(self.from, position));
    }
}

impl RestoreProgress for Shown {
    fn begins(&self, stage: Stage, manifest: &Manifest) {
        let name = match stage {
            Stage::Checking => "check  ",
            Stage::Writing => "restore",
        };
        self.bar.begin(name, count(1, manifest.plan.until), count(1, manifest.plan.from - 1));
    }

    fn reached(&self, position: i64) {
        self.bar.reached(count(self.from, position));
    }
}

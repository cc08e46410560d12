//! `daybook projections …`: the life of read models, from a folder to being dropped.

use anyhow::Context;
use daybook_commands::schemas;
use daybook_projection::{Catalogue, Change, Installed, Source, VersionState};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{From, Projections},
    config::Settings,
    database::{self, Login},
    tools::say,
    wiring,
};

/// Does what the command line asks.
pub(crate) async fn run(settings: &Settings, command: Projections) -> anyhow::Result<()> {
    match command {
        Projections::Add { dir, no_switch } => {
            let catalogue = Catalogue::of_folder(&dir)?.reading(&schemas::upcasters());
            let mut client = database::connect(&database::owner(settings)?).await?;
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
            Ok(())
        }
        Projections::List => list(settings).await,
        Projections::Status => status(settings).await,
        Projections::Switch { name, to } => {
            let client = database::connect(&database::owner(settings)?).await?;
            let version = daybook_projection::switch(&client, &name, to.as_deref()).await?;
            say(&format!("{name:20} version {} answers queries", short(&version)));
            Ok(())
        }
        Projections::Drop { name, version, retired } => {
            drop(settings, &name, version, retired).await
        }
        Projections::Rebuild { name, all: _, from } => {
            let client = database::connect(&database::config(settings, Login::Project)?).await?;
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
                rebuild(settings, &name, from).await?;
            }
            Ok(())
        }
    }
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

/// As much of a version as tells it from others.
fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

async fn list(settings: &Settings) -> anyhow::Result<()> {
    let client = database::connect(&database::config(settings, Login::Project)?).await?;
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

async fn status(settings: &Settings) -> anyhow::Result<()> {
    let client = database::connect(&database::config(settings, Login::Project)?).await?;
    say(&format!(
        "{:20} {:12} {:8} {:10} {:>12} {:>10}  error",
        "read model", "version", "state", "tenant", "position", "behind"
    ));
    for row in daybook_projection::status(&client).await? {
        say(&format!(
            "{:20} {:12} {:8} {:10} {:>12} {:>10}  {}",
            row.name,
            short(&row.version),
            row.state,
            row.tenant_name,
            row.position,
            row.head - row.position,
            row.error.as_ref().map_or("-", |error| error.message.as_str()),
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
    let mut client = database::connect(&database::owner(settings)?).await?;
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

async fn rebuild(settings: &Settings, name: &str, from: From) -> anyhow::Result<()> {
    let (source, feed) = match from {
        From::Journal => (Source::Journal, None),
        From::Kafka => (Source::Kafka, Some(wiring::feed(settings)?)),
    };
    let deps = daybook_projection::RebuildDeps {
        config: database::config(settings, Login::Project)?,
        feed,
        piece_positions: None,
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
    say(&format!(
        "{name:20} {events} events, {} rows changed, {:.1} s",
        report.changed_rows,
        report.elapsed.as_secs_f64()
    ));
    Ok(())
}

//! `daybook schemas …`: versions of event types, their activation, and whether a change of their
//! files leaves every old event readable.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};
use daybook_commands::schemas::{self, SchemaFiles};
use daybook_journal::{EventVersion, activation};

use crate::{cli::Schemas, config::Settings, database, tools::say};

/// Does what is asked.
pub(crate) async fn run(settings: &Settings, command: Schemas) -> anyhow::Result<ExitCode> {
    match command {
        Schemas::List => list(settings).await?,
        Schemas::Activate { version } => activate(settings, &version).await?,
        Schemas::Check { against, schemas_dir } => {
            return check(&schemas_dir, against.as_deref());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is written is decided by whoever manages the installation.
async fn owner(settings: &Settings) -> anyhow::Result<tokio_postgres::Client> {
    database::connect(&database::owner(settings)?).await
}

async fn list(settings: &Settings) -> anyhow::Result<()> {
    let client = owner(settings).await?;
    let mut activated: HashMap<_, _> = activation::activated(&client)
        .await
        .context("(a new database wants `daybook migrate` first)")?
        .into_iter()
        .map(|activated| ((activated.kind, activated.version), activated.since))
        .collect();
    for EventVersion { kind, version } in schemas::event_versions() {
        let state = activated.remove(&(kind.to_owned(), version)).map_or_else(
            || format!("not activated: daybook schemas activate {kind}/{version}"),
            |since| format!("activated {}", since.format("%Y-%m-%d %H:%M:%S UTC")),
        );
        say(&format!("{:26} {state}", format!("{kind}/{version}")));
    }
    for ((kind, version), _) in activated {
        say(&format!("{:26} activated, not known to this program", format!("{kind}/{version}")));
    }
    for process in activation::processes(&client).await? {
        let blind: Vec<String> = schemas::event_versions()
            .iter()
            .filter(|v| process.reads.get(v.kind).is_none_or(|newest| *newest < v.version))
            .map(ToString::to_string)
            .collect();
        say(&format!(
            "process {} {}{}",
            process.name,
            if process.alive { "reads all of these" } else { "has lapsed" },
            if blind.is_empty() { String::new() } else { format!(" but {}", blind.join(", ")) },
        ));
    }
    Ok(())
}

async fn activate(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let version = schemas::event_versions()
        .into_iter()
        .find(|version| version.to_string() == name)
        .with_context(|| {
            format!("this program doesn't know {name}; `daybook schemas list` shows what it knows")
        })?;
    let client = owner(settings).await?;
    let new = activation::activate(&client, version)
        .await
        .with_context(|| format!("{version} is not activated"))?;
    say(&if new {
        format!("{version} is written from now on, by every process within a second")
    } else {
        format!("{version} was activated already")
    });
    Ok(())
}

fn check(dir: &Path, against: Option<&str>) -> anyhow::Result<ExitCode> {
    let files = read_folder(dir)?;
    let before = against.map(|against| read_before(dir, against)).transpose()?;
    let faults = schemas::check(&files, before.as_ref(), schemas::has_downcast);
    for fault in &faults {
        say(&fault.to_string());
    }
    let versions = files.keys().filter(|path| path.starts_with("events/")).count();
    say(&match (faults.len(), against) {
        (0, Some(against)) => format!("{versions} versions, compatible with {against}"),
        (0, None) => format!("{versions} versions, complete"),
        (1, _) => "One thing must not be.".to_owned(),
        (n, _) => format!("{n} things must not be."),
    });
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files as they were: in another folder, or in the repository's history.
fn read_before(dir: &Path, against: &str) -> anyhow::Result<SchemaFiles> {
    if Path::new(against).is_dir() {
        return read_folder(Path::new(against));
    }
    let git = |arguments: &[&str]| -> anyhow::Result<Vec<u8>> {
        let output = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(arguments)
            .output()
            .context("git can't be started")?;
        if !output.status.success() {
            bail!(
                "{against} is neither a folder nor something that git knows: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    };
    let revision = format!("{against}^{{commit}}");
    git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &revision])?;
    let paths = git(&["ls-tree", "-r", "-z", "--name-only", &revision])?;
    let paths = String::from_utf8(paths).context("names of files in git")?;
    let mut files = SchemaFiles::new();
    for path in paths.split_terminator('\0') {
        let text = git(&["show", &format!("{against}:./{path}")])?;
        files.insert(path.to_owned(), text);
    }
    Ok(files)
}

/// Every file below a folder, by its path in it.
fn read_folder(dir: &Path) -> anyhow::Result<SchemaFiles> {
    let unreadable = |path: &Path| format!("{} can't be read", path.display());
    let mut files = SchemaFiles::new();
    let mut folders: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| unreadable(&folder))? {
            let path = entry.with_context(|| unreadable(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
                files.insert(name, fs::read(&path).with_context(|| unreadable(&path))?);
            }
        }
    }
    anyhow::ensure!(
        files.keys().any(|path| path.starts_with("events/")),
        "{} holds no schemas of events",
        dir.display()
    );
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_in_the_repository_are_complete() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let files = read_folder(&dir).unwrap();
        assert_eq!(schemas::check(&files, Some(&files), schemas::has_downcast), []);
    }

    #[test]
    fn the_description_of_the_feed_names_the_headers_that_records_have() {
        let mut sent = daybook_feed::HEADER_NAMES;
        sent.sort_unstable();
        let document = schemas::asyncapi();
        let described = document["components"]["schemas"]["Headers"]["required"].clone();
        assert_eq!(described, serde_json::json!(sent));
    }

    #[test]
    fn a_change_is_compared_with_a_folder_or_with_history() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("schemas");
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("events/A/1.json", r#"{"type": "object"}"#);
        write("golden/A/1.json", "{}");
        let git = |arguments: &[&str]| {
            let done = Command::new("git")
                .arg("-C")
                .arg(home.path())
                .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
                .args(arguments)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "one"]);
        let old = read_folder(&dir).unwrap();
        assert_eq!(read_before(&dir, "HEAD").unwrap(), old);
        assert_eq!(check(&dir, Some("HEAD")).unwrap(), ExitCode::SUCCESS);

        write("events/A/1.json", r#"{"type": "array"}"#);
        assert_eq!(read_before(&dir, "HEAD").unwrap(), old);
        assert_eq!(check(&dir, Some("HEAD")).unwrap(), ExitCode::FAILURE);
        assert_eq!(check(&dir, None).unwrap(), ExitCode::SUCCESS);
        let copy = dir.display().to_string();
        assert_eq!(check(&dir, Some(&copy)).unwrap(), ExitCode::SUCCESS);
        assert!(check(&dir, Some("no-such-ref")).is_err());
        assert!(check(home.path(), None).is_err());
    }
}

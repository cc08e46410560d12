//! Tools: what is run once and ends.

use std::io::{self, Write};

use anyhow::Context;
use daybook_commands::schemas;
use daybook_identity::ApiKeys;
use daybook_journal::{
    Reader,
    activation::{self, Activated},
};
use daybook_projection::Installed;
use daybook_work::{JobFilter, JobStore};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{JobState, Jobs, Keys},
    config::Settings,
    database::{self, Login, Place},
    export,
    import::{self, ImportArgs},
    projections,
    secrets::Secrets,
    wiring,
};

/// Rows that one list prints at most.
const LISTED: i64 = 10_000;

/// Prints a line for the user. Whoever reads it may have seen enough (`daybook … | head`): then there
/// is nothing left to do.
pub(crate) fn say(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Brings database, topic and read models to this version, and makes the default tenant.
pub(crate) async fn migrate(settings: &Settings, reset_passwords: bool) -> anyhow::Result<()> {
    let owner = database::owner(settings)?;
    let mut client = database::connect(&owner).await?;
    // Two migrations at once would stand in each other's way.
    client.execute("select pg_advisory_lock(1684107371, 0)", &[]).await?;
    daybook_journal::migrate(&mut client).await.context("schema journal")?;
    daybook_identity::migrate(&mut client).await.context("schema identity")?;
    daybook_feed::migrate(&mut client).await.context("schema feed")?;
    daybook_work::sandbox::migrate(&mut client).await.context("schema sandbox")?;
    schemas::upcasters().install(&client).await.context("upcasters")?;
    let activated =
        activation::adopt(&client, &schemas::event_versions(), &schemas::first_versions())
            .await
            .context("activations")?;
    let views = daybook_export::install_views(&mut client, &export::event_tables()?)
        .await
        .context("views for analysts")?;
    let reader = Reader::new(wiring::pool(settings, owner)?);
    let tenant = reader.add_tenant(&settings.tenant, settings.topic_partitions).await?;
    say(&format!(
        "database: schemas journal, identity, feed, sandbox; tenant {} (Kafka partition {})",
        tenant.name, tenant.partition,
    ));
    say(&format!("analysts: schema analyst; {views} views of event types made anew"));
    let mut read_client = if settings.reads_elsewhere() {
        Some(database::connect(&database::read_owner(settings)?).await?)
    } else {
        None
    };
    let read_models = read_client.as_mut().unwrap_or(&mut client);
    let installed = migrate_read_models(settings, read_models).await?;
    for line in installed.iter().filter_map(projections::installed_line) {
        say(&line);
    }
    say(&schemas_line(&activation::activated(&client).await?, activated));
    let feed = wiring::feed(settings)?;
    daybook_feed::ensure_topic(&feed).await.context("topic")?;
    say(&format!("kafka: topic {}", settings.topic));
    // Last, so that everything else is done where somebody else has to make the roles.
    let provisioned =
        database::provision(settings, &mut client, Place::Journal, reset_passwords).await;
    if let Some(client) = &mut read_client {
        database::provision(settings, client, Place::Read, reset_passwords)
            .await
            .context("where the read models are")?;
    }
    provisioned?;
    say(&format!(
        "roles: {} log in as themselves, each with what it needs",
        Login::ALL.map(Login::as_str).join(", ")
    ));
    Ok(())
}

/// Brings the read models to this version, wherever they live. What was done for each is returned.
async fn migrate_read_models(
    settings: &Settings,
    client: &mut Client,
) -> anyhow::Result<Vec<Installed>> {
    if settings.reads_elsewhere() {
        let journal = "select to_regclass('journal.events') is not null";
        anyhow::ensure!(
            !client.query_one(journal, &[]).await?.get::<_, bool>(0),
            "setting read_database_url names a database with a journal: name one for read models \
             alone, or leave the setting out and they live beside their own journal"
        );
        schemas::upcasters().install_alone(client).await.context("upcasters")?;
    }
    daybook_projection::migrate(client).await.context("schema projection")?;
    let catalogue = wiring::catalogue(settings)?;
    let installed = daybook_projection::install(client, &catalogue).await.context("read models")?;
    say(&format!(
        "read models: schema projection{}; {} of them",
        if settings.reads_elsewhere() { ", in a database of their own" } else { "" },
        catalogue.projections().len()
    ));
    Ok(installed)
}

fn schemas_line(activated: &[Activated], added: i64) -> String {
    let waiting: Vec<String> = schemas::event_versions()
        .iter()
        .filter(|v| !activated.iter().any(|a| (&*a.kind, a.version) == (v.kind, v.version)))
        .map(ToString::to_string)
        .collect();
    let waiting = if waiting.is_empty() {
        String::new()
    } else {
        format!("; read, but not written before `daybook schemas activate`: {}", waiting.join(", "))
    };
    format!("schemas: {} versions activated, {added} of them now{waiting}", activated.len())
}

/// `daybook import uci-retail`.
pub(crate) async fn import(settings: &Settings, args: ImportArgs) -> anyhow::Result<()> {
    database::check(settings, Login::Import).await?;
    let login = database::config(settings, Login::Import)?;
    let pool = wiring::pool(settings, login.clone())?;
    let tenant = wiring::tenant(&Reader::new(pool.clone()), settings).await?;
    let secrets = Secrets::new(&settings.secrets_dir);
    let (activations, process) = wiring::register(&pool, "import").await?;
    let (shop, writers) =
        wiring::shop(settings, &login, &secrets, std::slice::from_ref(&tenant), &activations)?;
    let stop = CancellationToken::new();
    let running: Vec<_> =
        writers.into_iter().map(|writer| tokio::spawn(writer.run(stop.clone()))).collect();
    let interrupted = CancellationToken::new();
    let (registered_until, unreadable) = (stop.clone(), interrupted.clone());
    let registered = tokio::spawn(async move {
        let ended = process.run(registered_until).await;
        if ended.is_err() {
            unreadable.cancel();
        }
        ended
    });
    let interrupt = interrupted.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupt.cancel();
        }
    });
    let report = import::run(args, shop, tenant.id, interrupted).await;
    stop.cancel();
    for writer in running {
        writer.await.context("the writer panicked")?;
    }
    registered.await.context("the registration panicked")??;
    report.map(|_report| ())
}

/// `daybook jobs …`.
pub(crate) async fn jobs(settings: &Settings, command: Jobs) -> anyhow::Result<()> {
    let store = JobStore::new(wiring::pool(settings, database::config(settings, Login::Work)?)?);
    match command {
        Jobs::List { state, kind, limit } => {
            let state = state.map(|state| match state {
                JobState::Waiting => daybook_work::JobState::Waiting,
                JobState::Running => daybook_work::JobState::Running,
                JobState::Dead => daybook_work::JobState::Dead,
                JobState::Done => daybook_work::JobState::Done,
            });
            let filter = JobFilter { state, kind, tenant: None };
            for job in store.list(&filter, limit.clamp(1, LISTED)).await? {
                say(&format!(
                    "{} {:16} {:8} attempts {:2} due {}  {}",
                    job.id,
                    job.kind,
                    job.state.as_str(),
                    job.attempts,
                    job.run_at.format("%Y-%m-%d %H:%M:%S"),
                    job.last_error.as_deref().unwrap_or("-"),
                ));
            }
        }
        Jobs::Retry { id } => {
            anyhow::ensure!(store.retry_now(id).await?, "there is no such unfinished job: {id}");
            say(&format!("{id} is due now"));
        }
        Jobs::Discard { id } => {
            anyhow::ensure!(store.discard(id).await?, "there is no such unfinished job: {id}");
            say(&format!("{id} is ended, undone"));
        }
        Jobs::Stats => {
            for kind in store.stats().await? {
                say(&format!(
                    "{:16} waiting {:6}  running {:4}  failed {:4}  dead {:4}  oldest due {}",
                    kind.kind,
                    kind.waiting,
                    kind.running,
                    kind.failed,
                    kind.dead,
                    kind.oldest_due
                        .map_or_else(|| "-".to_owned(), |d| format!("{} s", d.as_secs())),
                ));
            }
        }
    }
    Ok(())
}

/// `daybook keys …`.
pub(crate) async fn keys(settings: &Settings, command: Keys) -> anyhow::Result<()> {
    // Who may use the shop is the owner's business: no role of the running program can make a key.
    let pool = wiring::pool(settings, database::owner(settings)?)?;
    let tenant = wiring::tenant(&Reader::new(pool.clone()), settings).await?;
    let keys = ApiKeys::new(pool);
    match command {
        Keys::Create { role, subject, label, quiet } => {
            let key = keys.create(tenant.id, role, subject, &label).await?;
            if quiet {
                say(&key.secret);
            } else {
                say(&format!(
                    "{}\n\nThis is the only time it is shown. Its public part is {}; \
                     `daybook keys revoke {}` ends it.",
                    key.secret, key.id, key.id
                ));
            }
        }
        Keys::List => {
            for key in keys.list(tenant.id).await? {
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                say(&format!(
                    "{:10} {:8} {:9} {}  {}  {}",
                    key.id,
                    state,
                    key.role,
                    key.created_at.format("%Y-%m-%d %H:%M"),
                    key.subject.map_or_else(|| "-".repeat(36), |subject| subject.to_string()),
                    key.label,
                ));
            }
        }
        Keys::Revoke { id } => {
            anyhow::ensure!(
                keys.revoke(&id).await?,
                "there is no active key {id}; `daybook keys list` shows them"
            );
            say(&format!("{id} is revoked"));
        }
    }
    Ok(())
}

/// The settings as TOML, passwords left out.
pub(crate) fn show_settings(settings: &Settings) -> String {
    let mut shown = settings.clone();
    for url in [
        &mut shown.database_url,
        &mut shown.serve_database_url,
        &mut shown.query_database_url,
        &mut shown.relay_database_url,
        &mut shown.project_database_url,
        &mut shown.work_database_url,
        &mut shown.audit_database_url,
        &mut shown.analyst_database_url,
        &mut shown.import_database_url,
        &mut shown.read_database_url,
        &mut shown.serve_read_database_url,
        &mut shown.query_read_database_url,
        &mut shown.project_read_database_url,
        &mut shown.analyst_read_database_url,
    ] {
        *url = without_password(url);
    }
    toml::to_string(&shown).unwrap_or_else(|error| error.to_string())
}

fn without_password(url: &str) -> String {
    if url.contains("password") {
        return "***".to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = user.split_once(':').map_or(user, |(name, _password)| name);
    format!("{scheme}://{user}:***@{host}")
}

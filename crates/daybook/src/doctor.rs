//! `daybook doctor`: checks each service and says in plain words what is wrong.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::Context;
use daybook_commands::schemas;
use daybook_journal::{
    EventVersion, Reader,
    activation::{self, Activated},
    check_durability,
};
use daybook_projection::VersionState;
use tokio_postgres::Client;

use crate::{
    config::Settings,
    database::{self, Login, Place},
    secrets::Secrets,
    tools::say,
    wiring,
};

/// Runs every check; fails if one of them does.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut wrong = 0;
    let mut report = |name: &str, result: anyhow::Result<String>| match result {
        Ok(fine) => say(&format!("ok     {name:14} {fine}")),
        Err(error) => {
            wrong += 1;
            say(&format!("WRONG  {name:14} {error:#}"));
        }
    };
    report("secrets", secrets(settings));
    for login in Place::Journal.logins(settings) {
        let name = format!("login {}", login.as_str());
        report(&name, database::check(settings, login).await.map(|user| format!("as {user}")));
    }
    if settings.reads_elsewhere() {
        for login in Place::Read.logins(settings) {
            let name = format!("read {}", login.as_str());
            report(
                &name,
                database::check_read(settings, login).await.map(|user| format!("as {user}")),
            );
        }
        report("read server", read_server(settings).await);
    }
    match serve(settings).await {
        Ok(client) => {
            report("postgresql", version(&client).await);
            report("durability", durability(&client).await);
            report("journal", journal(settings).await);
            report("schemas", schemas(&client).await);
            report("clock", clock(&client).await);
        }
        Err(error) => report("postgresql", Err(error)),
    }
    report("read models", read_models(settings).await);
    report("kafka", kafka(settings).await);
    say(&match wrong {
        0 => "Everything is in order.".to_owned(),
        1 => "One thing is wrong.".to_owned(),
        n => format!("{n} things are wrong."),
    });
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A connection as the role that answers requests: what it sees is what counts.
async fn serve(settings: &Settings) -> anyhow::Result<Client> {
    database::connect(&database::config(settings, Login::Serve)?).await
}

/// The same where the read models are.
async fn read_client(settings: &Settings) -> anyhow::Result<Client> {
    database::connect(&database::read_config(settings, Login::Serve)?).await
}

/// The database of the read models, where it is not the journal's.
async fn read_server(settings: &Settings) -> anyhow::Result<String> {
    let client = database::connect(&database::read_config(settings, Login::Project)?).await?;
    anyhow::ensure!(
        schemas::upcasters().installed(&client).await?,
        "old events can't be lifted to what this program reads there: `daybook migrate`"
    );
    version(&client).await
}

fn secrets(settings: &Settings) -> anyhow::Result<String> {
    let secrets = Secrets::new(&settings.secrets_dir);
    secrets.mac_keys()?;
    secrets.fingerprint()?;
    secrets.installation()?;
    Ok(format!("complete in {}", settings.secrets_dir.display()))
}

async fn version(client: &Client) -> anyhow::Result<String> {
    let number: String = client.query_one("show server_version_num", &[]).await?.get(0);
    let version: String = client.query_one("show server_version", &[]).await?.get(0);
    let number: i32 = number.parse().context("server_version_num")?;
    anyhow::ensure!(number >= 150_000, "PostgreSQL {version} is too old; 15 or newer is needed");
    Ok(format!("version {version}"))
}

async fn durability(client: &Client) -> anyhow::Result<String> {
    check_durability(client).await??;
    let pages: String = client.query_one("show full_page_writes", &[]).await?.get(0);
    anyhow::ensure!(
        pages == "on",
        "full_page_writes is {pages}: a power cut can tear pages; set it to on"
    );
    Ok("fsync, synchronous_commit and full_page_writes are on".to_owned())
}

async fn journal(settings: &Settings) -> anyhow::Result<String> {
    let reader = Reader::new(wiring::pool(settings, database::config(settings, Login::Serve)?)?);
    let mut heads = Vec::new();
    for tenant in wiring::tenants(&reader).await? {
        heads.push(format!("{} at {}", tenant.name, reader.head(tenant.id).await?));
    }
    Ok(format!("tenants: {}", heads.join(", ")))
}

async fn schemas(client: &Client) -> anyhow::Result<String> {
    let installed = schemas::upcasters().installed(client).await?;
    anyhow::ensure!(
        installed,
        "old events can't be lifted to what this program reads: `daybook migrate`"
    );
    let activated = activation::activated(client).await?;
    let known = schemas::event_versions();
    let is = |a: &Activated, v: &EventVersion| (&*a.kind, a.version) == (v.kind, v.version);
    let unknown: Vec<String> = activated
        .iter()
        .filter(|a| !known.iter().any(|v| is(a, v)))
        .map(|a| format!("{}/{}", a.kind, a.version))
        .collect();
    anyhow::ensure!(
        unknown.is_empty(),
        "activated, and this program can't read it: {}; a newer program is needed",
        unknown.join(", ")
    );
    let waiting: Vec<String> = known
        .iter()
        .filter(|v| !activated.iter().any(|a| is(a, v)))
        .map(ToString::to_string)
        .collect();
    Ok(if waiting.is_empty() {
        format!("{} versions, all activated", known.len())
    } else {
        format!("{} versions; not activated: {}", known.len(), waiting.join(", "))
    })
}

async fn clock(client: &Client) -> anyhow::Result<String> {
    let database: chrono::DateTime<chrono::Utc> =
        client.query_one("select clock_timestamp()", &[]).await?.get(0);
    let ahead_ms = (chrono::Utc::now() - database).num_milliseconds();
    anyhow::ensure!(
        ahead_ms < 2_000,
        "this machine's clock is {ahead_ms} ms ahead of the database's; commands are refused from \
         2,000 ms on: set the clocks (chrony, systemd-timesyncd)"
    );
    Ok(format!("within {} ms of the database's", ahead_ms.abs()))
}

async fn read_models(settings: &Settings) -> anyhow::Result<String> {
    let client = read_client(settings).await?;
    let reader = Reader::new(wiring::pool(settings, database::config(settings, Login::Serve)?)?);
    let rows = daybook_projection::status(&client, &reader).await.context(
        "the read models can't be looked at (a new database wants `daybook migrate` first)",
    )?;
    // one that answered once may have been replaced for that very reason
    let live = rows.iter().filter(|row| row.state != VersionState::Retired);
    let mut wrong: Vec<String> = Vec::new();
    for row in live {
        if let Some(error) = &row.error {
            wrong.push(format!("{} stopped: {}", row.name, error.message));
        }
        if row.parked > 0 {
            wrong.push(format!(
                "{} has {} keys parked (`daybook projections parked`)",
                row.name, row.parked
            ));
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let active = rows.iter().filter(|row| row.state == VersionState::Active);
    let behind = active.clone().map(|row| row.head - row.position).max().unwrap_or(0);
    let names: BTreeSet<&str> = active.map(|row| row.name.as_str()).collect();
    Ok(format!("{} of them, at most {behind} events behind", names.len()))
}

async fn kafka(settings: &Settings) -> anyhow::Result<String> {
    let feed = wiring::feed(settings)?;
    daybook_feed::check_topic(&feed).await?;
    Ok(format!("topic {} at {}", settings.topic, settings.brokers()?))
}

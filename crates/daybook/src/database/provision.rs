//! Making the roles of the program, and giving each what it needs.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, error::SqlState};

use super::login::{self, Login, Place};
use crate::{config::Settings, secrets::Secrets, tools::say};

/// Longest name that PostgreSQL keeps whole, bytes.
const NAME_BYTES: usize = 63;

/// How often rights are granted anew where a read model has changed meanwhile, and the wait between.
const GRANT_TRIES: u32 = 20;
const GRANT_WAIT: Duration = Duration::from_millis(100);

/// Schemas of ours, of which a database has some.
const SCHEMAS: [&str; 6] = ["journal", "identity", "feed", "projection", "sandbox", "analyst"];

/// What everybody loses.
const EVERYBODY: &str = include_str!("grants/everybody.sql");
/// The same where there are read models.
const EVERYBODY_READ: &str = include_str!("grants/everybody_read.sql");
/// What each role starts from.
const EACH: &str = include_str!("grants/each.sql");
/// The same where there are read models.
const EACH_READ: &str = include_str!("grants/each_read.sql");

/// What a role may where the journal is.
fn journal_grants(login: Login) -> &'static str {
    match login {
        Login::Serve => include_str!("grants/serve.sql"),
        Login::Relay => include_str!("grants/relay.sql"),
        Login::Project => include_str!("grants/project.sql"),
        Login::Work => include_str!("grants/work.sql"),
        Login::Audit => include_str!("grants/audit.sql"),
        Login::Analyst => include_str!("grants/analyst.sql"),
        Login::Import => include_str!("grants/import.sql"),
        Login::Query => "",
    }
}

/// What a role may where the read models are, besides.
fn read_grants(login: Login) -> &'static str {
    match login {
        Login::Serve => include_str!("grants/serve_read.sql"),
        Login::Query => include_str!("grants/query.sql"),
        Login::Project => include_str!("grants/project_read.sql"),
        Login::Analyst => include_str!("grants/analyst.sql"),
        Login::Relay | Login::Work | Login::Audit | Login::Import => "",
    }
}

/// A role of PostgreSQL that a part of the program logs in as.
struct Account {
    login: Login,
    name: String,
    /// Its password, where it is ours to give: none for a login that a setting names.
    password: Option<String>,
    exists: bool,
}

/// Makes the roles that are missing in the database at `place` and grants each exactly what it
/// needs, in one transaction; safe to run again. Where the owner may not make roles, the SQL for whoever may is printed and the
/// error says what to do next; roles that are there get their rights all the same. With
/// `reset_passwords` roles that are there are given the passwords of this secrets folder.
pub(crate) async fn provision(
    settings: &Settings,
    client: &mut Client,
    place: Place,
    reset_passwords: bool,
) -> anyhow::Result<()> {
    let row = client
        .query_one(
            "select current_database()::text, rolsuper or rolcreaterole, current_user::text
             from pg_roles where rolname = current_user",
            &[],
        )
        .await?;
    let (database, may_create, owner): (String, bool, String) =
        (row.get(0), row.get(1), row.get(2));
    let mut accounts = accounts(settings, client, place, &database).await?;

    let (mut statements, mut by_hand) = (Vec::new(), Vec::new());
    for account in &accounts {
        match (&account.password, account.exists) {
            (Some(password), false) => statements.extend(create(account, password, &database)),
            (Some(password), true) if reset_passwords => statements.push(format!(
                "alter role {} password '{}';",
                quoted(&account.name),
                scram_sha_256(password.as_bytes())
            )),
            (None, false) => by_hand.push(format!(
                "login {} of {} does not exist",
                account.name,
                account.login.variable(place)
            )),
            (_, true) => {}
        }
    }
    let refused = !may_create && !statements.is_empty();
    if !refused {
        for statement in &statements {
            client.batch_execute(statement).await.context("making the roles")?;
        }
        for account in accounts.iter_mut().filter(|a| a.password.is_some()) {
            account.exists = true;
        }
    }
    let parts = Parts {
        journal: place == Place::Journal,
        read: place == Place::Read || !settings.reads_elsewhere(),
    };
    grant(client, &accounts, &database, parts)
        .await
        .context("granting the roles what they need")?;
    if refused {
        for statement in &statements {
            say(statement);
        }
        bail!(
            "login {owner} may not make roles. Have the SQL above run in any database of this \
             server by somebody who may (it holds no password in clear), then run `daybook migrate` \
             again; or have logins made, name them in {} …, and run `daybook migrate` with these \
             settings",
            Login::Serve.variable(place)
        );
    }
    ensure!(by_hand.is_empty(), "{}: have it made, or leave the setting out", by_hand.join("; "));
    for account in accounts.iter().filter(|account| account.password.is_some()) {
        let config = login::config_at(settings, account.login, place)?;
        login::connect(&config).await.with_context(|| {
            format!(
                "role {} exists, and secret {} does not open it. Bring the secrets folder of the \
                 machine that made it; or run `daybook migrate --reset-passwords`, after which \
                 processes elsewhere need the secrets of this one",
                account.name,
                Secrets::database_secret(account.login),
            )
        })?;
    }
    Ok(())
}

async fn accounts(
    settings: &Settings,
    client: &Client,
    place: Place,
    database: &str,
) -> anyhow::Result<Vec<Account>> {
    let secrets = Secrets::new(&settings.secrets_dir);
    let mut accounts = Vec::new();
    for login in place.logins(settings) {
        let (name, password) = if login.url(settings, place).is_empty() {
            let name = login.default_name(database);
            ensure!(
                name.len() <= NAME_BYTES,
                "role {name} would have a longer name than PostgreSQL's {NAME_BYTES} bytes: use a \
                 database with a shorter name, or give {}",
                login.variable(place)
            );
            (name, Some(secrets.create_database_password(login)?))
        } else {
            let config = login::config_at(settings, login, place)?;
            let name = config.get_user().with_context(|| {
                format!("{} names no user to give rights to", login.variable(place))
            })?;
            (name.to_owned(), None)
        };
        let row = client.query_one(include_str!("role_state.sql"), &[&name]).await?;
        let (exists, owns): (bool, bool) = (row.get(0), row.get(1));
        ensure!(
            !owns,
            "{} names {name}, which owns the tables: give role {} a login of its own, or leave the \
             setting out and `daybook migrate` makes one",
            login.variable(place),
            login.as_str()
        );
        accounts.push(Account { login, name, password, exists });
    }
    Ok(accounts)
}

/// The SQL that makes a role. It holds the password's SCRAM verifier (RFC 5803), never the
/// password: it may be printed, and stands in the server's log.
fn create(account: &Account, password: &str, database: &str) -> Vec<String> {
    let name = quoted(&account.name);
    let verifier = scram_sha_256(password.as_bytes());
    let mut statements = vec![format!("create role {name} login password '{verifier}';")];
    if account.login == Login::Analyst {
        statements.push(format!(
            "alter role {name} in database {} set default_transaction_read_only = on;",
            quoted(database)
        ));
    }
    statements
}

/// What a database holds that roles need rights to.
#[derive(Debug, Clone, Copy)]
struct Parts {
    journal: bool,
    read: bool,
}

async fn grant(
    client: &mut Client,
    accounts: &[Account],
    database: &str,
    parts: Parts,
) -> Result<(), tokio_postgres::Error> {
    let mut tries = 1;
    loop {
        match try_grant(client, accounts, database, parts).await {
            Err(error) if tries < GRANT_TRIES && has_been_overtaken(&error) => {
                tracing::debug!(%error, "a read model changed while rights were granted");
                tries += 1;
                tokio::time::sleep(GRANT_WAIT).await;
            }
            granted => return granted,
        }
    }
}

/// Whether what rights were being granted to was changed or dropped meanwhile: a running projector
/// switches versions, shows analysts another one and drops old ones. PostgreSQL gives rights without
/// locking what they are to, and reports the former as an internal error.
fn has_been_overtaken(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::INTERNAL_ERROR,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_OBJECT,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
    })
}

async fn try_grant(
    client: &mut Client,
    accounts: &[Account],
    database: &str,
    parts: Parts,
) -> Result<(), tokio_postgres::Error> {
    // In one transaction: no running process is without its rights for a moment.
    let transaction = client.transaction().await?;
    let database = quoted(database);
    let there: Vec<String> = transaction
        .query("select nspname::text from pg_namespace where nspname = any ($1)", &[&&SCHEMAS[..]])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    // also read models that nobody keeps up to date any more, since they live elsewhere now
    let read_models = there.iter().any(|schema| schema == "projection");
    let if_read = |sql: &'static str| if read_models { sql } else { "" };
    let fill =
        |sql: &str| sql.replace("{database}", &database).replace("{schemas}", &there.join(", "));
    transaction.batch_execute(&fill(EVERYBODY)).await?;
    transaction.batch_execute(&fill(if_read(EVERYBODY_READ))).await?;
    // All begin from nothing before the first is given anything: two settings may name one login.
    let templates: [&dyn Fn(Login) -> &'static str; 4] = [
        &|_login| EACH,
        &|_login| if_read(EACH_READ),
        &|login| if parts.journal { journal_grants(login) } else { "" },
        &|login| if parts.read { read_grants(login) } else { "" },
    ];
    for template in templates {
        for account in accounts.iter().filter(|account| account.exists) {
            let sql = fill(template(account.login)).replace("{role}", &quoted(&account.name));
            transaction.batch_execute(&sql).await?;
        }
    }
    // Once all grantees are known, so that what stands already is left alone.
    let open = "select projection.open_schema(schema) from projection.versions";
    transaction.batch_execute(if_read(open)).await?;
    transaction.commit().await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

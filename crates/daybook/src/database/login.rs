//! One login a role: from its own setting, or `<database>_<role>` with its secret.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio_postgres::{Client, Config, NoTls, config::Host, error::SqlState};

use crate::{config::Settings, secrets::Secrets};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which PostgreSQL is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// A part of the program that logs in to PostgreSQL as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Login {
    Serve,
    Query,
    Relay,
    Project,
    Work,
    Audit,
    Analyst,
    Import,
}

/// A database that parts of the program log in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The journal's, with everything that `read_database_url` doesn't name another one for.
    Journal,
    /// The read models' own, which `read_database_url` names.
    Read,
}

impl Place {
    /// Who logs in there.
    pub(crate) fn logins(self, settings: &Settings) -> Vec<Login> {
        let queries_there = self == Self::Read || !settings.reads_elsewhere();
        Login::ALL
            .into_iter()
            .filter(|login| match login {
                Login::Query => queries_there,
                Login::Serve | Login::Project | Login::Analyst => true,
                Login::Relay | Login::Work | Login::Audit | Login::Import => self == Self::Journal,
            })
            .collect()
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Journal => "database_url",
            Self::Read => "read_database_url",
        }
    }
}

impl Login {
    pub(crate) const ALL: [Self; 8] = [
        Self::Serve,
        Self::Query,
        Self::Relay,
        Self::Project,
        Self::Work,
        Self::Audit,
        Self::Analyst,
        Self::Import,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Query => "query",
            Self::Relay => "relay",
            Self::Project => "project",
            Self::Work => "work",
            Self::Audit => "audit",
            Self::Analyst => "analyst",
            Self::Import => "import",
        }
    }

    /// The setting that gives this login, as it stands in the environment.
    pub(crate) fn variable(self, place: Place) -> String {
        format!("DAYBOOK_{}_{}", self.as_str().to_uppercase(), place.setting().to_uppercase())
    }

    /// The value of that setting; empty where it is not given.
    pub(crate) fn url(self, settings: &Settings, place: Place) -> &str {
        match (place, self) {
            (Place::Journal, Self::Serve) => &settings.serve_database_url,
            (Place::Journal, Self::Query) => &settings.query_database_url,
            (Place::Journal, Self::Relay) => &settings.relay_database_url,
            (Place::Journal, Self::Project) => &settings.project_database_url,
            (Place::Journal, Self::Work) => &settings.work_database_url,
            (Place::Journal, Self::Audit) => &settings.audit_database_url,
            (Place::Journal, Self::Analyst) => &settings.analyst_database_url,
            (Place::Journal, Self::Import) => &settings.import_database_url,
            (Place::Read, Self::Serve) => &settings.serve_read_database_url,
            (Place::Read, Self::Query) => &settings.query_read_database_url,
            (Place::Read, Self::Project) => &settings.project_read_database_url,
            (Place::Read, Self::Analyst) => &settings.analyst_read_database_url,
            (Place::Read, Self::Relay | Self::Work | Self::Audit | Self::Import) => "",
        }
    }

    /// What the role is called where no setting says otherwise. PostgreSQL's roles belong to the
    /// whole cluster, so the database's name stands in front.
    pub(super) fn default_name(self, database: &str) -> String {
        format!("{database}_{}", self.as_str())
    }
}

/// The owner's connection settings: DATABASE_URL as it is given.
pub(crate) fn owner(settings: &Settings) -> anyhow::Result<Config> {
    if settings.database_url.is_empty() {
        bail!(
            "setting database_url is missing: give --database-url, DATABASE_URL or \
             DAYBOOK_DATABASE_URL (./scripts/up makes a private server and writes its address to \
             .daybook/env: `. .daybook/env`)"
        );
    }
    parse("database_url", &settings.database_url)
}

/// The connection settings of the owner of the read models.
pub(crate) fn read_owner(settings: &Settings) -> anyhow::Result<Config> {
    if settings.reads_elsewhere() {
        return parse(Place::Read.setting(), &settings.read_database_url);
    }
    owner(settings)
}

/// A role's connection settings for the journal's database. Never the owner's: a role without a
/// login is refused by name.
pub(crate) fn config(settings: &Settings, login: Login) -> anyhow::Result<Config> {
    config_at(settings, login, Place::Journal)
}

/// The same for the database of the read models, which may be the journal's.
pub(crate) fn read_config(settings: &Settings, login: Login) -> anyhow::Result<Config> {
    let place = if settings.reads_elsewhere() { Place::Read } else { Place::Journal };
    config_at(settings, login, place)
}

/// The same for either.
pub(super) fn config_at(settings: &Settings, login: Login, place: Place) -> anyhow::Result<Config> {
    let url = login.url(settings, place);
    let (role, variable) = (login.as_str(), login.variable(place));
    if !url.is_empty() {
        return parse(&variable.to_lowercase()["daybook_".len()..], url);
    }
    let mut config = match place {
        Place::Journal if settings.database_url.is_empty() => {
            bail!("role {role} has no database: give {variable}, or DATABASE_URL and its secret")
        }
        Place::Journal => owner(settings)?,
        Place::Read => read_owner(settings)?,
    };
    let database = database_name(&config, place)?;
    let password =
        Secrets::new(&settings.secrets_dir).database_password(login).with_context(|| {
            format!(
                "role {role} has no login of its own in PostgreSQL. `daybook secrets create` and \
             `daybook migrate` make one, or {variable} gives one (the login in DATABASE_URL owns \
             the tables and is never used instead)"
            )
        })?;
    config.user(login.default_name(&database)).password(password).dbname(database);
    Ok(config)
}

/// The database that the settings name, or that PostgreSQL takes where they name none.
fn database_name(config: &Config, place: Place) -> anyhow::Result<String> {
    config.get_dbname().or(config.get_user()).map(ToOwned::to_owned).with_context(|| {
        format!(
            "setting {} names no database (postgres://user:password@host:port/database)",
            place.setting()
        )
    })
}

fn parse(setting: &str, url: &str) -> anyhow::Result<Config> {
    // The URL holds a password: it is not repeated.
    let mut config: Config = url.parse().map_err(|_error| {
        anyhow::anyhow!(
            "setting {setting} is no PostgreSQL address \
             (postgres://user:password@host:port/database)"
        )
    })?;
    if config.get_application_name().is_none() {
        config.application_name("daybook");
    }
    config.connect_timeout(CONNECT_TIMEOUT);
    config.keepalives_idle(KEEPALIVE_IDLE);
    Ok(config)
}

/// A connection of its own, for what needs one. The error names server and login.
pub(crate) async fn connect(config: &Config) -> anyhow::Result<Client> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        let user = config.get_user().unwrap_or("?");
        let hint = match error.code() {
            Some(code) if *code == SqlState::INVALID_PASSWORD => {
                ": its password is another one (`daybook migrate --help` says how to give a role the \
                 password of this secrets folder)"
            }
            Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                ": `daybook migrate` makes the logins (if it is there, pg_hba.conf keeps it out)"
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                ": it has no rights here yet, run `daybook migrate` with the same settings"
            }
            _ => "",
        };
        let hosts: Vec<String> = config.get_hosts().iter().map(shown).collect();
        let server = format!("PostgreSQL at {} {:?}", hosts.join(","), config.get_ports());
        let what = if error.as_db_error().is_some() {
            format!("{server} refuses login {user}{hint}")
        } else {
            format!("{server} does not answer")
        };
        anyhow::Error::new(error).context(what)
    })?;
    tokio::spawn(connection);
    Ok(client)
}

fn shown(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// Logs in as the role and makes sure that it has its rights, and none to change history. Returns
/// what it is called.
pub(crate) async fn check(settings: &Settings, login: Login) -> anyhow::Result<String> {
    let (role, variable) = (login.as_str(), login.variable(Place::Journal));
    let client = connect(&config(settings, login)?)
        .await
        .with_context(|| format!("role {role} can't log in"))?;
    let schema = match login {
        Login::Analyst => "analyst",
        Login::Query => "projection",
        Login::Serve
        | Login::Relay
        | Login::Project
        | Login::Work
        | Login::Audit
        | Login::Import => "journal",
    };
    let row = client
        .query_opt(include_str!("rights.sql"), &[&schema])
        .await?
        .context("there is no journal yet: run `daybook migrate`")?;
    let (user, may_change, may_enter): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if may_change {
        bail!(
            "role {role}: login {user} may change or delete events, which no role of the running \
             program may. Give it a login of its own: without {variable}, `daybook migrate` makes one"
        );
    }
    if !may_enter {
        bail!(
            "role {role}: login {user} has no rights here yet: run `daybook migrate` with the same \
             {variable}"
        );
    }
    Ok(user)
}

/// The same where the read models are: that the role may read them, and owns none. Where they are
/// in the journal's database, [`check`] says all there is to say.
pub(crate) async fn check_read(settings: &Settings, login: Login) -> anyhow::Result<String> {
    let (role, variable) = (login.as_str(), login.variable(Place::Read));
    let client = connect(&config_at(settings, login, Place::Read)?)
        .await
        .with_context(|| format!("role {role} can't log in where the read models are"))?;
    let schema = if login == Login::Analyst { "analyst" } else { "projection" };
    let row = client
        .query_opt(include_str!("read_rights.sql"), &[&schema])
        .await?
        .context("there are no read models yet: run `daybook migrate`")?;
    let (user, owns, may_enter): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
    if owns {
        bail!(
            "role {role}: login {user} owns the read models, as no role of the running program \
             may. Give it a login of its own: without {variable}, `daybook migrate` makes one"
        );
    }
    if !may_enter {
        bail!(
            "role {role}: login {user} has no rights where the read models are: run `daybook \
             migrate` with the same {variable}"
        );
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(database_url: &str) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        let secrets_dir = dir.path().join("secrets");
        let database_url = database_url.to_owned();
        (dir, Settings { database_url, secrets_dir, ..Settings::default() })
    }

    #[test]
    fn a_role_without_a_login_is_refused_by_name() {
        let (_dir, settings) = settings("postgres://owner:hunter2@db/shop");
        for login in Login::ALL {
            let error = format!("{:#}", config(&settings, login).unwrap_err());
            assert!(error.contains(&format!("role {}", login.as_str())), "{error}");
            assert!(error.contains(&login.variable(Place::Journal)), "{error}");
            assert!(error.contains("daybook migrate"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_login_is_the_databases_role_with_its_secret() {
        let (_dir, settings) = settings("postgres://owner:hunter2@db:7/shop");
        Secrets::new(&settings.secrets_dir).create_missing().unwrap();
        let config = config(&settings, Login::Relay).unwrap();
        assert_eq!(config.get_user(), Some("shop_relay"));
        assert_ne!(config.get_password(), Some(b"hunter2".as_slice()));
        assert_eq!((config.get_dbname(), config.get_ports()), (Some("shop"), &[7][..]));
    }

    #[test]
    fn read_models_of_their_own_have_logins_of_their_own() {
        let (_dir, mut settings) = settings("postgres://owner:hunter2@db:7/shop");
        Secrets::new(&settings.secrets_dir).create_missing().unwrap();
        let here = read_config(&settings, Login::Project).unwrap();
        assert_eq!((here.get_user(), here.get_ports()), (Some("shop_project"), &[7][..]));
        settings.read_database_url = "postgres://other:swordfish@reads:8/rows".to_owned();
        let there = read_config(&settings, Login::Project).unwrap();
        assert_eq!((there.get_user(), there.get_ports()), (Some("rows_project"), &[8][..]));
        assert_eq!(there.get_dbname(), Some("rows"));
        assert_ne!(there.get_password(), Some(b"swordfish".as_slice()));
        assert_eq!(config(&settings, Login::Project).unwrap().get_user(), Some("shop_project"));
        assert_eq!(read_owner(&settings).unwrap().get_user(), Some("other"));
        settings.serve_read_database_url = "postgres://w:x@pooler:6432/rows".to_owned();
        let pooled = read_config(&settings, Login::Serve).unwrap();
        assert_eq!((pooled.get_user(), pooled.get_ports()), (Some("w"), &[6432][..]));
        settings.read_database_url = "postgres://u:hunter2@[broken".to_owned();
        let error = read_config(&settings, Login::Project).unwrap_err().to_string();
        assert!(error.contains("setting read_database_url") && !error.contains("hunter2"));
    }

    #[test]
    fn the_address_alone_is_enough_and_a_setting_wins() {
        let (_dir, mut settings) = settings("postgres://db/shop");
        Secrets::new(&settings.secrets_dir).create_missing().unwrap();
        assert_eq!(config(&settings, Login::Work).unwrap().get_user(), Some("shop_work"));
        settings.work_database_url = "postgres://w:x@pooler:6432/shop".to_owned();
        let config = config(&settings, Login::Work).unwrap();
        assert_eq!((config.get_user(), config.get_ports()), (Some("w"), &[6432][..]));
    }

    #[test]
    fn a_password_is_not_repeated_in_an_error() {
        let (_dir, mut settings) = settings("postgres://u:hunter2@[broken");
        assert!(!owner(&settings).unwrap_err().to_string().contains("hunter2"));
        settings.import_database_url = "postgres://u:hunter2@[broken".to_owned();
        let error = config(&settings, Login::Import).unwrap_err().to_string();
        assert!(error.contains("setting import_database_url"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

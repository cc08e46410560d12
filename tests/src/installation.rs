//! A fresh installation: a database, a topic, secrets and a folder of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::{Environment, Process};

/// Longest run of a program that is expected to end.
const RUN: Duration = Duration::from_mins(1);

/// A role of a principal, bound to whom it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A customer.
    Customer(Uuid),
    /// A partner.
    Partner(Uuid),
    /// An operator.
    Operator,
    /// An analyst.
    Analyst,
    /// An auditor.
    Auditor,
    /// An administrator.
    Admin,
}

/// A migrated installation that shares nothing but the servers with any other. Its database goes
/// when it is dropped.
#[derive(Debug)]
pub struct Installation {
    environment: Environment,
    database: String,
    topic: String,
    /// Where its read models are, if not beside the journal.
    reads: Option<Place>,
    home: TempDir,
    settings: Vec<(String, String)>,
    processes: AtomicUsize,
}

/// A database on a server.
#[derive(Debug)]
struct Place {
    server: String,
    database: String,
}

impl Installation {
    /// Makes database and secrets and migrates.
    pub async fn new() -> Self {
        Self::with_settings(&[]).await
    }

    /// The same, with settings for all its processes, as `("DAYBOOK_RESERVATION_S", "2")`.
    ///
    /// # Panics
    /// When the services are not there, or the migration fails.
    pub async fn with_settings(settings: &[(&str, &str)]) -> Self {
        Self::on(Environment::read(), None, settings).await
    }

    /// The same with the read models in a database of their own: on that server, or else on the
    /// journal's.
    ///
    /// # Panics
    /// When the services are not there, or the migration fails.
    pub async fn with_reads_apart(server: Option<&str>) -> Self {
        let environment = Environment::read();
        let server = server.unwrap_or(&environment.database_url).to_owned();
        Self::on(environment, Some(server), &[]).await
    }

    /// The same, on a PostgreSQL server of the test's own.
    ///
    /// # Panics
    /// When the migration fails.
    pub async fn on_server(url: &str, settings: &[(&str, &str)]) -> Self {
        let environment = Environment { database_url: url.to_owned(), ..Environment::read() };
        Self::on(environment, None, settings).await
    }

    async fn on(
        environment: Environment,
        reads: Option<String>,
        settings: &[(&str, &str)],
    ) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let database = format!("test_{}", &id[..16]);
        create_database(&environment.database_url, &database).await;
        let reads = reads.map(|server| Place { server, database: format!("reads_{}", &id[..16]) });
        if let Some(Place { server, database }) = &reads {
            create_database(server, database).await;
        }
        let home = tempfile::Builder::new().prefix("daybook-test-").tempdir().expect("a folder");
        let settings = settings.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let installation = Self {
            environment,
            topic: format!("test.{}", &id[..16]),
            database,
            reads,
            home,
            settings,
            processes: AtomicUsize::new(0),
        };
        installation.run_ok(&["secrets", "create"]).await;
        installation.run_ok(&["migrate"]).await;
        installation
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.environment.program);
        for (name, _) in std::env::vars() {
            let ours = name.starts_with("DAYBOOK_");
            if ours || matches!(name.as_str(), "DATABASE_URL" | "KAFKA_BROKERS" | "REDIS_URL") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.home.path())
            .env("DAYBOOK_DATABASE_URL", self.database_url())
            .env("DAYBOOK_READ_DATABASE_URL", self.reads.as_ref().map_or(String::new(), Place::url))
            .env("DAYBOOK_KAFKA_BROKERS", &self.environment.kafka_brokers)
            .env("DAYBOOK_TOPIC", &self.topic)
            .env("DAYBOOK_SECRETS_DIR", self.home.path().join("secrets"))
            .env("DAYBOOK_PROJECTIONS_DIR", repository().join("projections"));
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        command
    }

    /// Connection string of its database, as a superuser.
    pub fn database_url(&self) -> String {
        url_of(&self.environment.database_url, &self.database)
    }

    /// Name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Connection string of its database as a role of the program, as `serve`.
    ///
    /// # Panics
    /// When the role has no secret.
    pub fn login_url(&self, role: &str) -> String {
        self.login(role, &self.database, &self.database_url())
    }

    fn login(&self, role: &str, database: &str, url: &str) -> String {
        let secret = self.home.path().join("secrets").join(format!("database-{role}"));
        let password = std::fs::read_to_string(&secret).expect("migrate made the role's secret");
        let (scheme, rest) = url.split_once("://").expect("a connection string has a scheme");
        let (_owner, server) = rest.split_once('@').expect("a connection string names a user");
        format!("{scheme}://{database}_{role}:{}@{server}", password.trim())
    }

    /// A superuser's connection to its read models.
    pub async fn connect_reads(&self) -> tokio_postgres::Client {
        let url = self.reads.as_ref().map_or_else(|| self.database_url(), Place::url);
        connect(&url).await
    }

    /// A connection to its read models as a role of the program.
    pub async fn connect_reads_as(&self, role: &str) -> tokio_postgres::Client {
        let Some(reads) = &self.reads else { return self.connect_as(role).await };
        connect(&self.login(role, &reads.database, &reads.url())).await
    }

    /// Loses the database of the read models and makes an empty one of the same name.
    ///
    /// # Panics
    /// When they live beside the journal.
    pub async fn lose_reads(&self) {
        let Place { server, database } = self.reads.as_ref().expect("the read models are apart");
        let admin = connect(server).await;
        let drop = format!("drop database {database} with (force)");
        admin.batch_execute(&drop).await.expect("the tests' user may drop databases");
        create_database(server, database).await;
    }

    /// A connection to its database as a role of the program.
    pub async fn connect_as(&self, role: &str) -> tokio_postgres::Client {
        connect(&self.login_url(role)).await
    }

    /// Its folder: secrets and logs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A superuser's connection to its database.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.database_url()).await
    }

    /// Starts `daybook <role>` on a port of its own and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(&self, role: &str) -> Process {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let log = self.home.path().join(format!("{role}-{number}.log"));
        let mut command = self.command();
        command.arg(role);
        let urls = matches!(role, "serve" | "up").then(|| {
            ["DAYBOOK_LISTEN", "DAYBOOK_METRICS_LISTEN"].map(|setting| {
                let address = format!("127.0.0.1:{}", free_port());
                command.env(setting, &address);
                format!("http://{address}")
            })
        });
        Process::start(role, command, log, urls).await
    }

    /// Runs `daybook` with arguments until it ends.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().await.expect("the program can be started")
    }

    /// Starts `daybook` with arguments, its standard output to be read, its errors to be seen.
    /// Killed when dropped.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be started")
    }

    /// The same with its errors to be read too.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn_with_errors(&self, arguments: &[&str]) -> Child {
        self.command()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program can be started")
    }

    /// Runs `daybook` with arguments and returns its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(
            output.status.success(),
            "daybook {} failed: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// Runs `daybook` with settings of its own until it ends, as `("DAYBOOK_SECRETS_DIR", "…")`.
    ///
    /// # Panics
    /// When it can't be started, or does not end within a minute.
    pub async fn run_with(&self, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments).envs(settings.iter().copied()).kill_on_drop(true);
        tokio::time::timeout(RUN, command.output())
            .await
            .expect("the program ends")
            .expect("the program can be started")
    }

    /// Makes an API key.
    pub async fn key(&self, role: Role) -> String {
        let (name, subject) = match role {
            Role::Customer(id) => ("customer", Some(id.to_string())),
            Role::Partner(id) => ("partner", Some(id.to_string())),
            Role::Operator => ("operator", None),
            Role::Analyst => ("analyst", None),
            Role::Auditor => ("auditor", None),
            Role::Admin => ("admin", None),
        };
        let mut arguments = vec!["keys", "create", "--quiet", "--role", name];
        if let Some(subject) = &subject {
            arguments.extend(["--subject", subject]);
        }
        self.run_ok(&arguments).await.trim().to_owned()
    }

    /// Position of the last event; 0 when there is none.
    ///
    /// # Panics
    /// When the database can't be read.
    pub async fn head(&self) -> i64 {
        let client = self.connect().await;
        let row = client
            .query_one("select coalesce(max(position), 0) from journal.events", &[])
            .await
            .expect("the journal can be read");
        row.get(0)
    }

    /// Checks what holds for every journal: positions and each stream's versions from 1 without a
    /// gap, `recorded_at` never decreasing, and no stock below zero at any moment.
    ///
    /// # Panics
    /// When it does not hold.
    pub async fn check_journal(&self) {
        let client = self.connect().await;
        for (what, sql) in [
            ("positions without a gap", include_str!("sql/position_gaps.sql")),
            ("versions without a gap", include_str!("sql/version_gaps.sql")),
            ("recorded_at in order", include_str!("sql/recorded_order.sql")),
            ("stock never below zero", include_str!("sql/oversold.sql")),
        ] {
            let rows = client.query(sql, &[]).await.expect("the journal can be read");
            let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            assert!(found.is_empty(), "{what}: {found:?}");
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let journal = Place {
            server: self.environment.database_url.clone(),
            database: self.database.clone(),
        };
        let places: Vec<Place> = self.reads.take().into_iter().chain([journal]).collect();
        // Away from the test's own runtime, which may be ending. What stays behind is only
        // rubbish in a server that is thrown away after the tests.
        let cleaning = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            else {
                return;
            };
            runtime.block_on(async {
                for place in places {
                    place.remove().await;
                }
            });
        });
        drop_quietly(cleaning.join());
    }
}

impl Place {
    /// Connection string, as a superuser.
    fn url(&self) -> String {
        url_of(&self.server, &self.database)
    }

    /// Drops the database and the roles that were made for it.
    async fn remove(&self) {
        let Ok((client, connection)) = tokio_postgres::connect(&self.server, NoTls).await else {
            return;
        };
        tokio::spawn(connection);
        let database = &self.database;
        let drop = format!("drop database if exists {database} with (force)");
        drop_quietly(client.batch_execute(&drop).await);
        let roles = client
            .query(
                "select quote_ident(rolname) from pg_roles where starts_with(rolname, $1)",
                &[&format!("{database}_")],
            )
            .await
            .unwrap_or_default();
        for role in roles {
            let role: String = role.get(0);
            drop_quietly(client.batch_execute(&format!("drop role {role}")).await);
        }
    }
}

/// The connection string with another database.
fn url_of(server: &str, database: &str) -> String {
    let (url, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (server, _) = url.rsplit_once('/').expect("a connection string names a database");
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{server}/{database}{question}{parameters}")
}

async fn create_database(server: &str, database: &str) {
    let admin = connect(server).await;
    let create = format!("create database {database}");
    admin.batch_execute(&create).await.expect("the tests' user may create databases");
}

fn drop_quietly<T, E>(_result: Result<T, E>) {}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of it").to_owned()
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("the PostgreSQL of the tests can't be reached: {error}"));
    tokio::spawn(connection);
    client
}

/// A port that nothing listens on at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

//! Settings: defaults, then a file, then the environment, then flags; typed, refused by name.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use daybook_commands::{Amount, Currency};
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

/// Every setting with its default. The name in the file is the field's, in the environment
/// `DAYBOOK_` and the field's in capitals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// PostgreSQL, as `postgres://user:password@host:5432/database`. `DATABASE_URL` is read too.
    /// Its login owns the tables and is used by `migrate` and tools that manage the installation;
    /// processes take server and database from it, and log in as themselves.
    pub(crate) database_url: String,
    /// PostgreSQL of the read models, in the same form, where they are not to live in the journal's
    /// database; empty: they do. Its login owns them; processes log in as themselves there too.
    pub(crate) read_database_url: String,
    /// Login of role serve, as a whole address; empty: `<database>_serve` with its secret.
    pub(crate) serve_database_url: String,
    /// The same for declared queries, which role serve sends as this login.
    pub(crate) query_database_url: String,
    /// The same for role relay.
    pub(crate) relay_database_url: String,
    /// The same for role project.
    pub(crate) project_database_url: String,
    /// The same for role work.
    pub(crate) work_database_url: String,
    /// The same for role audit.
    pub(crate) audit_database_url: String,
    /// The same for role analyst: people, read only.
    pub(crate) analyst_database_url: String,
    /// The same for `daybook import`.
    pub(crate) import_database_url: String,
    /// Login of role serve at `read_database_url`; empty: `<its database>_serve` with the same secret.
    pub(crate) serve_read_database_url: String,
    /// The same for declared queries.
    pub(crate) query_read_database_url: String,
    /// The same for role project.
    pub(crate) project_read_database_url: String,
    /// The same for role analyst.
    pub(crate) analyst_read_database_url: String,
    /// Kafka, as `host:9092,host:9092`. `KAFKA_BROKERS` is read too.
    pub(crate) kafka_brokers: String,
    /// Address of the HTTP server.
    pub(crate) listen: SocketAddr,
    /// Address of `/metrics` and of `/readyz` with details, which are nowhere else and want no key:
    /// nobody but who looks after the shop should reach it.
    pub(crate) metrics_listen: SocketAddr,
    /// Tenant that the command line works on.
    pub(crate) tenant: String,
    /// Kafka topic of the events.
    pub(crate) topic: String,
    /// Partitions that the topic is created with; tenants are spread over them.
    pub(crate) topic_partitions: i32,
    /// Copies of each partition.
    pub(crate) topic_replication: i32,
    /// Copies that must acknowledge.
    pub(crate) topic_min_insync: i32,
    /// Folder with a folder per read model.
    pub(crate) projections_dir: PathBuf,
    /// Folder with the secrets, files of mode 600.
    pub(crate) secrets_dir: PathBuf,
    /// Connections to PostgreSQL for queries, at most, of each role.
    pub(crate) database_connections: usize,
    /// Queries that may fold the journal at once, to answer as of a position.
    pub(crate) as_of_folds: usize,
    /// How long one of them may take, seconds.
    pub(crate) as_of_deadline_s: u32,
    /// Commands that may wait in front of a tenant's writer.
    pub(crate) queue_commands: usize,
    /// Commands that are decided and committed together, at most.
    pub(crate) batch_commands: usize,
    /// Events after which such a batch takes no further command.
    pub(crate) batch_events: usize,
    /// Events of a stream after which its state is written down again as a snapshot.
    pub(crate) snapshot_events: i32,
    /// Memory for the states of streams that each tenant's writer keeps, MiB.
    pub(crate) cache_mib: usize,
    /// Bytes of one event's data and meta.
    pub(crate) event_bytes: usize,
    /// Events that one command may append.
    pub(crate) events_per_command: usize,
    /// Streams that one command may read.
    pub(crate) streams_per_command: usize,
    /// Bytes of a request's body.
    pub(crate) body_bytes: u64,
    /// Requests that may wait for a position at once.
    pub(crate) waiters: usize,
    /// Streams that follow queries at once.
    pub(crate) streams: usize,
    /// The same of one principal.
    pub(crate) streams_of_principal: usize,
    /// How long an unpaid order keeps its stock, seconds.
    pub(crate) reservation_s: u32,
    /// How long a payment may stay open, seconds.
    pub(crate) payment_deadline_s: u32,
    /// What is asked for sending an order, in minor units by currency, as `GBP:395,EUR:450`.
    pub(crate) flat_shipping: String,
    /// Whether partners may say what is asked for shipping and tax of the orders they place.
    pub(crate) partners_charge: bool,
    /// How long a client's idempotency key is kept, seconds.
    pub(crate) idempotency_keep_s: u64,
    /// How long a command may wait before it is sent, milliseconds.
    pub(crate) command_deadline_ms: u64,
    /// Jobs that one worker process runs at once.
    pub(crate) worker_jobs: usize,
    /// How long a background job that is done is kept, seconds.
    pub(crate) jobs_keep_s: u64,
    /// How long a stop may take before the process ends all the same, seconds.
    pub(crate) shutdown_s: u64,
    /// What is logged, as `info` or `daybook_journal=debug,info`.
    pub(crate) log: String,
    /// How it is logged.
    pub(crate) log_format: LogFormat,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database_url: String::new(),
            read_database_url: String::new(),
            serve_database_url: String::new(),
            query_database_url: String::new(),
            relay_database_url: String::new(),
            project_database_url: String::new(),
            work_database_url: String::new(),
            audit_database_url: String::new(),
            analyst_database_url: String::new(),
            import_database_url: String::new(),
            serve_read_database_url: String::new(),
            query_read_database_url: String::new(),
            project_read_database_url: String::new(),
            analyst_read_database_url: String::new(),
            kafka_brokers: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9070)),
            tenant: "main".to_owned(),
            topic: "daybook.events".to_owned(),
            topic_partitions: 6,
            topic_replication: 1,
            topic_min_insync: 1,
            projections_dir: PathBuf::from("projections"),
            secrets_dir: PathBuf::from(".daybook/secrets"),
            database_connections: 16,
            as_of_folds: 2,
            as_of_deadline_s: 20,
            queue_commands: 4_096,
            batch_commands: 500,
            batch_events: 10_000,
            snapshot_events: 1_000,
            cache_mib: 64,
            event_bytes: 1 << 20,
            events_per_command: 5_000,
            streams_per_command: 5_000,
            body_bytes: 1 << 20,
            waiters: 5_000,
            streams: 5_000,
            streams_of_principal: 100,
            reservation_s: 15 * 60,
            payment_deadline_s: 60 * 60,
            flat_shipping: String::new(),
            partners_charge: false,
            idempotency_keep_s: 30 * 24 * 60 * 60,
            command_deadline_ms: 5_000,
            worker_jobs: 16,
            jobs_keep_s: 30 * 24 * 60 * 60,
            shutdown_s: 30,
            log: "info,tokio_postgres=warn,refinery_core=warn".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// Flags that every subcommand takes. They win over the environment and the file.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct Overrides {
    /// Settings file (TOML)
    #[arg(long, global = true, env = "DAYBOOK_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// PostgreSQL, as postgres://user:password@host:5432/database
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_url: Option<String>,
    /// Kafka brokers, as host:9092,host:9092
    #[arg(long, global = true, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_brokers: Option<String>,
    /// Tenant to work on
    #[arg(long, global = true, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Folder with the secrets
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets_dir: Option<PathBuf>,
    /// Folder with the read models
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    projections_dir: Option<PathBuf>,
    /// Any other setting, as --set listen=0.0.0.0:80 (may be given several times)
    #[arg(long = "set", global = true, value_name = "NAME=VALUE")]
    #[serde(skip)]
    set: Vec<String>,
}

/// Names of all settings, from the defaults.
fn names() -> Vec<String> {
    match serde_json::to_value(Settings::default()) {
        Ok(serde_json::Value::Object(members)) => members.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

impl Settings {
    /// Reads all sources. The error names the setting and where its value came from.
    pub(crate) fn load(overrides: &Overrides) -> anyhow::Result<Self> {
        let names = names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = &overrides.config {
            if !file.is_file() {
                bail!("--config {}: there is no such file", file.display());
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment
            .merge(Env::raw().only(&["database_url", "kafka_brokers"]))
            .merge(Env::prefixed("DAYBOOK_").only(&known))
            .merge(Serialized::globals(overrides));
        for pair in &overrides.set {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("--set {pair}: expected NAME=VALUE"))?;
            if !names.iter().any(|known| known == name) {
                bail!("--set {name}: there is no such setting; there are {}", names.join(", "));
            }
            // Numbers and booleans as themselves, everything else as text.
            let value: figment::value::Value = value
                .parse()
                .unwrap_or_else(|_infallible| figment::value::Value::from(value.to_owned()));
            figment = figment.merge(Serialized::global(name, value));
        }
        let settings: Self = figment.extract().map_err(|error| explain(&error))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        let at_least = |name: &str, value: usize, least: usize| {
            if value < least {
                bail!("setting {name} is {value}; the least is {least}");
            }
            Ok(())
        };
        at_least("topic_partitions", usize::try_from(self.topic_partitions).unwrap_or(0), 1)?;
        at_least("topic_replication", usize::try_from(self.topic_replication).unwrap_or(0), 1)?;
        at_least("topic_min_insync", usize::try_from(self.topic_min_insync).unwrap_or(0), 1)?;
        at_least("database_connections", self.database_connections, 4)?;
        // the rest of the connections is for everybody else
        if !(1..=self.database_connections / 2).contains(&self.as_of_folds) {
            bail!(
                "setting as_of_folds is {}; it must be from 1 to half of database_connections, {}",
                self.as_of_folds,
                self.database_connections / 2
            );
        }
        at_least("as_of_deadline_s", usize::try_from(self.as_of_deadline_s).unwrap_or(1), 1)?;
        at_least("queue_commands", self.queue_commands, 1)?;
        at_least("batch_commands", self.batch_commands, 1)?;
        at_least("batch_events", self.batch_events, 1)?;
        at_least("snapshot_events", usize::try_from(self.snapshot_events).unwrap_or(0), 1)?;
        at_least("cache_mib", self.cache_mib, 1)?;
        at_least("event_bytes", self.event_bytes, 1024)?;
        at_least("events_per_command", self.events_per_command, 1)?;
        at_least("streams_per_command", self.streams_per_command, 1)?;
        at_least("waiters", self.waiters, 1)?;
        at_least("streams_of_principal", self.streams_of_principal, 1)?;
        at_least("worker_jobs", self.worker_jobs, 1)?;
        at_least("body_bytes", usize::try_from(self.body_bytes).unwrap_or(usize::MAX), 1024)?;
        self.flat_shipping()?;
        for (name, url) in [
            ("serve_read_database_url", &self.serve_read_database_url),
            ("query_read_database_url", &self.query_read_database_url),
            ("project_read_database_url", &self.project_read_database_url),
            ("analyst_read_database_url", &self.analyst_read_database_url),
        ] {
            if !url.is_empty() && !self.reads_elsewhere() {
                bail!("setting {name} is given, but read_database_url is not");
            }
        }
        Ok(())
    }

    /// What is asked for sending an order, by its currency.
    pub(crate) fn flat_shipping(&self) -> anyhow::Result<BTreeMap<Currency, Amount>> {
        let listed = self.flat_shipping.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let mut amounts = BTreeMap::new();
        for pair in listed {
            let amount = || {
                let (code, minor_units) = pair.split_once(':')?;
                let amount = Amount::new(minor_units.trim().parse().ok()?).ok()?;
                Some((Currency::new(code.trim()).ok()?, amount))
            };
            let (currency, amount) = amount().with_context(|| {
                format!("setting flat_shipping is {pair}; expected minor units, as GBP:395,EUR:450")
            })?;
            if amounts.insert(currency, amount).is_some() {
                bail!("setting flat_shipping names a currency twice: {pair}");
            }
        }
        Ok(amounts)
    }

    /// Whether read models live in a database of their own.
    pub(crate) fn reads_elsewhere(&self) -> bool {
        !self.read_database_url.is_empty()
    }

    /// The brokers' addresses.
    pub(crate) fn brokers(&self) -> anyhow::Result<&str> {
        if self.kafka_brokers.is_empty() {
            bail!(
                "setting kafka_brokers is missing: give --kafka-brokers, KAFKA_BROKERS or \
                 DAYBOOK_KAFKA_BROKERS, as host:9092"
            );
        }
        Ok(&self.kafka_brokers)
    }
}

fn explain(errors: &figment::Error) -> anyhow::Error {
    let lines: Vec<String> = errors
        .clone()
        .into_iter()
        .map(|error| {
            let source = error
                .metadata
                .as_ref()
                .map(|from| format!(" (from {})", from.name))
                .unwrap_or_default();
            match error.path.last() {
                Some(name) => format!("setting {name}: {}{source}", error.kind),
                None => format!("{}{source}", error.kind),
            }
        })
        .collect();
    anyhow::anyhow!(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[&str]) -> anyhow::Result<Settings> {
        let set = set.iter().map(|&pair| pair.to_owned()).collect();
        Settings::load(&Overrides { set, ..Overrides::default() })
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        let refused = |pair: &str| with(&[pair]).unwrap_err().to_string();
        assert!(refused("listen=nowhere").contains("setting listen"));
        assert!(refused("metrics_listen=9070").contains("setting metrics_listen"));
        assert!(refused("queue_commands=many").contains("setting queue_commands"));
        assert!(refused("queue_commands=0").contains("setting queue_commands is 0"));
        assert!(refused("as_of_folds=0").contains("setting as_of_folds is 0"));
        assert!(refused("as_of_folds=9").contains("setting as_of_folds is 9"));
        assert!(refused("as_of_deadline_s=0").contains("setting as_of_deadline_s is 0"));
        assert!(refused("log_format=yaml").contains("setting log_format"));
        assert!(refused("lisen=1").contains("--set lisen: there is no such setting"));
        assert!(refused("listen").contains("expected NAME=VALUE"));
        for pair in ["GBP", "GBP:-1", "GBP:3.95", "PND:1", "GBP:1,GBP:2"] {
            let refused = refused(&format!("flat_shipping={pair}"));
            assert!(refused.contains("setting flat_shipping"), "{refused}");
        }
    }

    #[test]
    fn flags_win_over_defaults() {
        let settings = with(&["listen=0.0.0.0:8080", "topic=other", "log_format=json"]).unwrap();
        assert_eq!(settings.listen.port(), 8080);
        assert!(settings.metrics_listen.ip().is_loopback(), "unless it is said otherwise");
        assert_eq!(settings.topic, "other");
        assert_eq!(settings.log_format, LogFormat::Json);
        assert_eq!(settings.tenant, "main");
    }

    #[test]
    fn flat_shipping_is_a_list_of_amounts() {
        let shipping = with(&["flat_shipping=GBP:395, EUR:450"]).unwrap().flat_shipping().unwrap();
        let gbp = Currency::new("GBP").unwrap();
        assert_eq!((shipping.len(), shipping[&gbp].get()), (2, 395));
        assert!(with(&[]).unwrap().flat_shipping().unwrap().is_empty());
    }
}

//! The command line: what can be asked of the binary, with examples.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use daybook_identity::Role;
use uuid::Uuid;

use crate::{
    bench::BenchArgs,
    config::{LogFormat, Overrides, Settings},
    doctor,
    export::{self, ExportArgs, RestoreArgs},
    feed::{self, Feed},
    import::ImportArgs,
    projections,
    replay::{self, ReplayArgs},
    roles, schemas,
    secrets::Secrets,
    streams, tenants, tools,
};

const EXAMPLES: &str = "Examples:
  daybook up                                     every role in one process
  daybook serve --set listen=0.0.0.0:8080        HTTP alone; as many as you like
  daybook migrate                                bring the database to this version
  daybook import uci-retail online_retail.csv.gz load a year of a real shop
  daybook doctor                                 what is wrong, in plain words

Settings come from defaults, --config FILE, the environment (DAYBOOK_…, DATABASE_URL,
KAFKA_BROKERS) and flags, the later ones winning. `daybook settings` shows them all.";

/// An event-sourced commerce backend on PostgreSQL and Apache Kafka
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every role in one process
    #[command(after_help = "Example:\n  daybook up --set listen=127.0.0.1:8080")]
    Up,
    /// Runs the HTTP API
    #[command(after_help = "Example:\n  daybook serve --set listen=0.0.0.0:8080")]
    Serve,
    /// Runs the relay from the journal to Kafka; one is active, others stand by
    #[command(after_help = "Example:\n  daybook relay --kafka-brokers kafka:9092")]
    Relay,
    /// Runs a projector worker: folds events into read models
    #[command(after_help = "Example:\n  daybook project --kafka-brokers kafka:9092")]
    Project,
    /// Runs a worker for background jobs: charges, refunds, expiry
    #[command(after_help = "Example:\n  daybook work --set worker_jobs=32")]
    Work,
    /// Brings the database, the topic and the read models to this version; safe to run again
    #[command(
        after_help = "Example:\n  DATABASE_URL=postgres://owner:…@host/shop daybook migrate\n\n\
                      DATABASE_URL's login will own the tables. The roles that the processes log in \
                      as (shop_serve, shop_relay, …) are made too, or their SQL is printed where \
                      that login may not make roles. DAYBOOK_READ_DATABASE_URL names an empty \
                      database for the read models, where they are not to live beside the journal."
    )]
    Migrate {
        /// Give the roles in PostgreSQL the passwords of this secrets folder
        #[arg(long)]
        reset_passwords: bool,
    },
    /// Checks every service and setting and says what is wrong
    #[command(after_help = "Example:\n  daybook doctor")]
    Doctor,
    /// Loads data from elsewhere through the ordinary commands, or restores a journal
    #[command(subcommand)]
    Import(Import),
    /// Writes a range of the journal to files, with a manifest
    #[command(after_help = "Examples:\n  daybook export --format ndjson --out backup\n  \
                      daybook export --format parquet --out analysts/2026-11\n  \
                      daybook export --format ndjson --from 100001 --until 200000 --out part-2\n\n\
                      The same range, schemas and --file-events give the same bytes. One that was \
                      interrupted goes on where it was. docs/analysts.md shows what to do with \
                      Parquet; `daybook import events` restores from NDJSON.")]
    Export(ExportArgs),
    /// Plays a range of the journal again: to standard output, a file or a topic; nothing else happens
    #[command(after_help = replay::EXAMPLES)]
    Replay(ReplayArgs),
    /// The topic in Kafka: whether it holds what the journal does, and making it anew
    #[command(subcommand)]
    Feed(Feed),
    /// Read models
    #[command(subcommand)]
    Projections(Projections),
    /// Versions of event types, and which of them are written
    #[command(subcommand)]
    Schemas(Schemas),
    /// Background jobs
    #[command(subcommand)]
    Jobs(Jobs),
    /// The journal: streams and their events
    #[command(subcommand)]
    Streams(Streams),
    /// Tenants: shops with a journal of their own
    #[command(subcommand)]
    Tenants(Tenants),
    /// API keys
    #[command(subcommand)]
    Keys(Keys),
    /// The files with the installation's secrets
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Measures a running Daybook
    #[command(
        after_help = "Example:\n  daybook bench fresh --url http://127.0.0.1:7070 --key $KEY --rate 200"
    )]
    Bench(BenchArgs),
    /// Shows the settings in force (no passwords)
    #[command(after_help = "Example:\n  DAYBOOK_LISTEN=0.0.0.0:80 daybook settings")]
    Settings,
    /// Prints a completion script
    #[command(after_help = "Example:\n  daybook completions bash > /etc/bash_completion.d/daybook")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Import {
    /// The UCI Online Retail data set (CSV or CSV.gz)
    #[command(
        name = "uci-retail",
        after_help = "Example:\n  daybook import uci-retail uci_online_retail.csv.gz --report report.json\n\n\
                      It may be interrupted and started again: nothing takes effect twice."
    )]
    UciRetail(ImportArgs),
    /// Restores a journal from `daybook export --format ndjson`, at the same positions
    #[command(after_help = "Examples:\n  daybook import events backup\n  \
                      daybook --tenant second-shop import events backup-of-second-shop\n\n\
                      As the owner (DATABASE_URL), into a tenant of the same name without events, with \
                      the secrets mac-<n> of the installation that wrote them. Everything is checked \
                      before anything is written; a damaged export is refused by file and line. It \
                      may be interrupted and started again. Idempotency keys and background jobs are \
                      not in an export: see docs/exports.md before commands are accepted again.")]
    Events(RestoreArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// Tries a folder out: table, queries, apply and its own examples; leaves nothing behind
    #[command(after_help = "Example:\n  daybook projections check ./projections/orders\n\n\
                      As the owner (DATABASE_URL), in a transaction that is rolled back. Examples are \
                      files examples/*.json or *.toml: {\"title\", \"given\": [{\"type\", \
                      \"data\", …}], \"then\": [{column: value, …}]}.")]
    Check {
        /// The folder; its name is the read model's
        dir: PathBuf,
    },
    /// Puts a folder's read model into the database; a running `project` builds it at once
    #[command(after_help = "Examples:\n  daybook projections add ./projections/orders\n  \
                      daybook projections add ./my-orders/orders --no-switch\n\n\
                      A new read model answers queries at once. A changed one is built beside the one \
                      that answers, and switched to by itself once it has caught up. As the owner \
                      (DATABASE_URL).")]
    Add {
        /// The folder; its name is the read model's
        dir: PathBuf,
        /// Build it, but leave the switch to `projections switch`
        #[arg(long)]
        no_switch: bool,
    },
    /// Lists the read models with their versions and queries
    #[command(after_help = "Example:\n  daybook projections list")]
    List,
    /// Shows where each version stands, how far it is and what stopped it
    #[command(after_help = "Examples:\n  daybook projections status\n  \
                      daybook projections status --json | jq 'select(.error)'")]
    Status {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Compares two versions at the same position, row by row
    #[command(after_help = "Examples:\n  daybook projections diff orders\n  \
                      daybook projections diff orders --from 3f2a91 --to 88aa01 --format ndjson\n\n\
                      Both versions go on meanwhile. As the owner (DATABASE_URL).")]
    Diff {
        /// The read model
        name: String,
        /// The version that is compared [default: the one that answers]
        #[arg(long, value_name = "VERSION")]
        from: Option<String>,
        /// The version that it is compared with [default: the one that is being built]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// How rows that differ are printed
        #[arg(long, value_enum, default_value_t = DiffFormat::Table)]
        format: DiffFormat,
        /// How many rows a table shows at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Lists keys that were put aside (on_error = "park"), or folds what they have missed
    #[command(after_help = "Examples:\n  daybook projections parked\n  \
                      daybook projections parked orders --retry\n  \
                      daybook projections parked orders --retry --key '[\"0199d0c4-…\"]'")]
    Parked {
        /// Only of this read model
        #[arg(required_if_eq("retry", "true"))]
        name: Option<String>,
        /// Try them again
        #[arg(long)]
        retry: bool,
        /// Only this key, as it is listed
        #[arg(long, requires = "retry")]
        key: Option<String>,
    },
    /// Makes another version the one that answers queries, in one step
    #[command(after_help = "Examples:\n  daybook projections switch orders\n  \
                      daybook projections switch orders --to 3f2a91\n\n\
                      Refused while the version is behind the one that answers, so that nobody sees \
                      older rows than before. The other version follows on: one may switch back.")]
    Switch {
        /// The read model
        name: String,
        /// The version: the beginning of its hash [default: the one that is being built]
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
    },
    /// Drops a version, or a whole read model; the journal still has all that it was made from
    #[command(after_help = "Examples:\n  daybook projections drop orders --version 3f2a91\n  \
                      daybook projections drop orders --retired\n  \
                      daybook projections drop my_sales")]
    Drop {
        /// The read model
        name: String,
        /// One version that answers no queries: the beginning of its hash
        #[arg(long)]
        version: Option<String>,
        /// Every version that answered queries once
        #[arg(long, conflicts_with = "version")]
        retired: bool,
    },
    /// Builds read models anew beside the old rows, then swaps them in
    #[command(after_help = "Examples:\n  daybook projections rebuild orders\n  \
                      daybook projections rebuild --all --from kafka\n\n\
                      One that was ended in the middle goes on where it was, in as many shares \
                      as it began with.")]
    Rebuild {
        /// Which one
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        name: Option<String>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Where the events come from
        #[arg(long, value_enum, default_value_t = From::Journal)]
        from: From,
        /// Shares of the keys that are folded at once, by a connection each [default: 2 from
        /// 300,000 positions on, else 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
        parallel: Option<u32>,
        /// Begin at the first event, also where an earlier rebuild was ended in the middle
        #[arg(long)]
        anew: bool,
    },
}

/// How rows that differ are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    /// For people
    Table,
    /// One JSON object a line
    Ndjson,
}

/// Source of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// The journal in PostgreSQL
    Journal,
    /// The topic in Kafka; the journal is not read
    Kafka,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schemas {
    /// Lists the versions that this program reads, since when each is written, and the processes
    #[command(after_help = "Example:\n  daybook schemas list")]
    List,
    /// Lets every process write a version; refused while one that is running can't read it
    #[command(after_help = "Example:\n  daybook schemas activate OrderPlaced/2")]
    Activate {
        /// Type and version
        #[arg(value_name = "TYPE/N")]
        version: String,
    },
    /// Refuses what would make old events unreadable; wants no database
    #[command(after_help = "Examples:\n  daybook schemas check\n  \
                      daybook schemas check --against origin/main")]
    Check {
        /// What to compare with: a git revision, or another folder of schemas
        #[arg(long, value_name = "REF|DIR")]
        against: Option<String>,
        /// Folder with the schemas
        #[arg(long, value_name = "DIR", default_value = "schemas")]
        schemas_dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// Lists jobs that are not done
    #[command(after_help = "Example:\n  daybook jobs list --state dead")]
    List {
        /// Only those waiting, running, dead or done
        #[arg(long, value_enum)]
        state: Option<JobState>,
        /// Only this kind, as charge_payment
        #[arg(long)]
        kind: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Tries a dead or waiting job again now
    #[command(after_help = "Example:\n  daybook jobs retry 0199d0c4-…")]
    Retry {
        /// The job
        id: Uuid,
    },
    /// Ends a job without doing it
    #[command(after_help = "Example:\n  daybook jobs discard 0199d0c4-…")]
    Discard {
        /// The job
        id: Uuid,
    },
    /// Counts jobs by kind
    #[command(after_help = "Example:\n  daybook jobs stats")]
    Stats,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobState {
    /// For its time or for a worker
    Waiting,
    /// A worker has it
    Running,
    /// Given up
    Dead,
    /// Ended
    Done,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Streams {
    /// Shows the events of one stream
    #[command(after_help = "Examples:\n  daybook streams show product-85123A\n  \
                      daybook streams show stock-85123A --backward --limit 5\n  \
                      daybook streams show order-0199d0c4-… --from 3 --json | jq .data")]
    Show {
        /// Its name, as `streams list` shows it
        stream: String,
        /// Newest first
        #[arg(long)]
        backward: bool,
        /// Version to begin with [default: the first; with --backward the last]
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i32).range(1..))]
        from: Option<i32>,
        /// How many events at most [default: all]
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
        limit: Option<i64>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Lists streams by name, each with its last version and position
    #[command(after_help = "Examples:\n  daybook streams list --prefix stock-\n  \
                      daybook streams list --prefix order- --after order-0199d0c4-… --limit 1000")]
    List {
        /// Only names that start so
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only names behind this one: the last of the page before
        #[arg(long, value_name = "NAME", default_value = "")]
        after: String,
        /// How many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Follows the journal: prints each event as it is committed, until Ctrl-C
    #[command(after_help = "Examples:\n  daybook streams tail\n  \
                      daybook streams tail --type OrderPlaced --type OrderPaid\n  \
                      daybook streams tail --from 1 --prefix stock- --json | gzip > stock.ndjson.gz\n  \
                      daybook streams tail --from 1 --correlation 0199d0c4-…")]
    Tail {
        /// First position wanted; 1 for everything [default: only what comes from now on]
        #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
        from: Option<i64>,
        /// Only this event type (may be given several times)
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// Only streams whose names start so
        #[arg(long)]
        prefix: Option<String>,
        /// Only what one request set in motion: its X-Request-Id
        #[arg(long, value_name = "ID")]
        correlation: Option<Uuid>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tenants {
    /// Makes a tenant; safe to run again
    #[command(after_help = "Example:\n  daybook tenants add second-shop\n\n\
                      Processes that are running take it up when they are started again. Keys for \
                      it:\n  daybook --tenant second-shop keys create --role operator")]
    Add {
        /// Its name for ever: a letter, then letters, digits and -, all lower case, at most 63 characters
        name: String,
    },
    /// Lists tenants with their Kafka partitions and last positions
    #[command(after_help = "Example:\n  daybook tenants list")]
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Makes an API key and shows it, once
    #[command(
        after_help = "Examples:\n  daybook keys create --role operator --label warehouse\n  \
                      daybook keys create --role customer --subject 0199d0c4-0000-7000-8000-000000000001"
    )]
    Create {
        /// customer, partner, operator, analyst, auditor or admin
        #[arg(long)]
        role: Role,
        /// Customer or partner that the key is bound to
        #[arg(long)]
        subject: Option<Uuid>,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// Print the key alone
        #[arg(long)]
        quiet: bool,
    },
    /// Lists API keys, without their secrets
    #[command(after_help = "Example:\n  daybook keys list")]
    List,
    /// Ends an API key
    #[command(after_help = "Example:\n  daybook keys revoke k3x9a0bc")]
    Revoke {
        /// The key's public part, as `keys list` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Makes the secrets that are missing
    #[command(after_help = "Example:\n  daybook secrets create --secrets-dir /etc/daybook/secrets")]
    Create,
}

/// Does what the command line asks.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "daybook", &mut std::io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::load(&cli.overrides)?;
    let quiet = matches!(
        cli.command,
        Command::Import(_)
            | Command::Export(_)
            | Command::Feed(_)
            | Command::Replay(_)
            | Command::Projections(_)
            | Command::Streams(_)
    );
    log_to_stderr(&settings, quiet)?;
    match cli.command {
        Command::Up => roles::run(settings, &roles::Role::ALL).await?,
        Command::Serve => roles::run(settings, &[roles::Role::Serve]).await?,
        Command::Relay => roles::run(settings, &[roles::Role::Relay]).await?,
        Command::Project => roles::run(settings, &[roles::Role::Project]).await?,
        Command::Work => roles::run(settings, &[roles::Role::Work]).await?,
        Command::Migrate { reset_passwords } => {
            tools::migrate(&settings, reset_passwords).await?;
        }
        Command::Doctor => return doctor::run(&settings).await,
        Command::Import(Import::UciRetail(args)) => tools::import(&settings, args).await?,
        Command::Import(Import::Events(args)) => export::restore(&settings, args).await?,
        Command::Export(args) => export::export(&settings, args).await?,
        Command::Feed(command) => return feed::run(&settings, command).await,
        Command::Replay(args) => return replay::run(&settings, args).await,
        Command::Projections(command) => return projections::run(&settings, command).await,
        Command::Schemas(command) => return schemas::run(&settings, command).await,
        Command::Jobs(command) => tools::jobs(&settings, command).await?,
        Command::Streams(command) => streams::run(&settings, command).await?,
        Command::Tenants(command) => tenants::run(&settings, command).await?,
        Command::Keys(command) => tools::keys(&settings, command).await?,
        Command::Secrets(SecretsCommand::Create) => {
            let made = Secrets::new(&settings.secrets_dir).create_missing()?;
            tools::say(&if made.is_empty() {
                format!("{}: nothing is missing", settings.secrets_dir.display())
            } else {
                format!("{}: made {}", settings.secrets_dir.display(), made.join(", "))
            });
        }
        Command::Bench(args) => crate::bench::run(args, &settings).await?,
        Command::Settings => tools::say(&tools::show_settings(&settings)),
        Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Tools with a progress bar or much output log warnings only, unless something else is asked for.
fn log_to_stderr(settings: &Settings, quiet: bool) -> anyhow::Result<()> {
    let default = Settings::default().log;
    let wanted = if quiet && settings.log == default { "warn" } else { &settings.log };
    let filter = tracing_subscriber::EnvFilter::try_new(wanted)
        .map_err(|error| anyhow::anyhow!("setting log: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

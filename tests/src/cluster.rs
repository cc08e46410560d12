//! A PostgreSQL cluster of a test's own, with a standby or a Kafka: for what concerns a whole server.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::installation::{free_port, repository};

/// A private PostgreSQL, and a Kafka where it was asked for, stopped and removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    home: TempDir,
    url: String,
    kafka_brokers: String,
    programs: PathBuf,
    data: PathBuf,
}

/// A standby that follows its cluster, stopped when it is dropped; its data go with the cluster's.
#[derive(Debug)]
pub struct Standby {
    url: String,
    programs: PathBuf,
    data: PathBuf,
}

impl Cluster {
    /// Starts a cluster by `scripts/services`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start() -> Self {
        Self::start_with(POSTGRES)
    }

    /// The same with a Kafka.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_with_kafka() -> Self {
        Self::start_with(BOTH)
    }

    fn start_with(what: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("daybook-cluster-").tempdir().expect("a folder");
        // The database's own user must be able to pass.
        run(Command::new("chmod").arg("711").arg(home.path()));
        services("start", what, home.path());
        let settings = std::fs::read_to_string(home.path().join("services.env"));
        let settings = settings.expect("scripts/services writes what it started");
        let found = |name: &str| {
            let line = format!("export {name}=");
            settings.lines().find_map(|text| text.strip_prefix(&line))
        };
        let setting = |name: &str| {
            let value = found(name).unwrap_or_else(|| panic!("{name} is not in {settings}"));
            value.trim_matches('\'').to_owned()
        };
        Self {
            url: setting("DATABASE_URL"),
            kafka_brokers: found("KAFKA_BROKERS").unwrap_or("").trim_matches('\'').to_owned(),
            programs: setting("DAYBOOK_POSTGRES_BIN").into(),
            data: Path::new(&setting("DAYBOOK_POSTGRES_DIR")).join("data"),
            home,
        }
    }

    /// Connection string of its database, as a superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Brokers of its Kafka; empty without one.
    pub fn kafka_brokers(&self) -> &str {
        &self.kafka_brokers
    }

    /// Kills its Kafka with SIGKILL.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_kafka(&self) {
        let kill = "kill -9 \"$(cat \"$1/kafka/pid\")\"";
        run(Command::new("sh").args(["-c", kill, "sh"]).arg(self.home.path()));
    }

    /// Starts its Kafka again, with everything that it had.
    ///
    /// # Panics
    /// When it does not start within a while.
    pub fn start_kafka_again(&self) {
        services("start", KAFKA, self.home.path());
    }

    /// Kills its server with SIGKILL, in the middle of whatever it does.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&self) {
        let kill = "kill -9 \"$(head -n 1 \"$1/postmaster.pid\")\"";
        run(as_owner("sh").args(["-c", kill, "sh"]).arg(&self.data));
    }

    /// Starts it again, once what the killed server left behind has ended.
    ///
    /// # Panics
    /// When it does not start within a while.
    pub fn start_again(&self) {
        let program = self.programs.join("pg_ctl");
        let log = self.data.with_extension("log");
        // The processes of the killed server notice, and end; until then it can't be started.
        let start = "for n in $(seq 100); do \"$1\" -D \"$2\" -l \"$3\" -o \"-p $4\" -w start && exit 0; \
                     sleep 0.2; done; exit 1";
        let (_user, address) = self.url.rsplit_once('@').expect("a user");
        let (address, _database) = address.split_once('/').expect("a database");
        let (_host, port) = address.rsplit_once(':').expect("a port");
        let mut command = as_owner("sh");
        command.args(["-c", start, "sh"]).arg(program).arg(&self.data).arg(log).arg(port);
        run(&mut command);
    }

    /// Makes and starts a standby. The cluster is stopped for a moment: the standby begins as a copy
    /// of its files.
    ///
    /// # Panics
    /// When it can't be made or started.
    pub fn standby(&self) -> Standby {
        services("stop", POSTGRES, self.home.path());
        let data = self.data.with_file_name("standby");
        let port = free_port();
        run(as_owner("cp").arg("-a").arg(&self.data).arg(&data));
        let primary = self.url.replace('\'', "");
        let settings = format!(
            "primary_conninfo = '{primary}'\nport = {port}\nlisten_addresses = '127.0.0.1'\n"
        );
        run(as_owner("sh")
            .args([
                "-c",
                "touch \"$1/standby.signal\" && printf '%s' \"$2\" >>\"$1/postgresql.auto.conf\"",
                "sh",
            ])
            .arg(&data)
            .arg(&settings));
        services("start", POSTGRES, self.home.path());
        let (server, _database) = self.url.rsplit_once('@').expect("a user");
        let (_address, database) = self.url.rsplit_once('/').expect("a database");
        let standby = Standby {
            url: format!("{server}@127.0.0.1:{port}/{database}"),
            programs: self.programs.clone(),
            data,
        };
        standby.start();
        standby
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        services("remove", BOTH, self.home.path());
    }
}

impl Standby {
    /// Connection string of its database, as a superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self) {
        let log = self.data.with_extension("log");
        let port = "-w -t 60 start";
        self.control(&format!("-l '{}' {port}", log.display()));
    }

    /// Stops it at once, as a crash would.
    pub fn stop(&self) {
        self.control("-m immediate stop");
    }

    /// Makes it a primary, on a timeline of its own.
    pub fn promote(&self) {
        self.control("-w promote");
    }

    fn control(&self, arguments: &str) {
        let program = self.programs.join("pg_ctl");
        run(as_owner("sh").arg("-c").arg(format!(
            "'{}' -D '{}' {arguments}",
            program.display(),
            self.data.display()
        )));
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // It may be stopped already.
        let program = self.programs.join("pg_ctl");
        let mut stop = as_owner("sh");
        stop.arg("-c").arg(format!(
            "'{}' -D '{}' -m immediate stop",
            program.display(),
            self.data.display()
        ));
        drop(stop.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// A program run as the user that owns PostgreSQL's data: never root.
fn as_owner(program: &str) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt as _;
        me.uid() == 0
    });
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", program]).current_dir("/");
    command
}

/// Which of its services `scripts/services` is to touch.
const POSTGRES: &[&str] = &["--without", "kafka"];
const KAFKA: &[&str] = &["--without", "postgres"];
const BOTH: &[&str] = &[];

fn services(command: &str, which: &[&str], home: &Path) {
    let mut command_line = Command::new(repository().join("scripts/services"));
    let command = command_line.arg(command).args(which).arg("--home").arg(home);
    for (name, _) in std::env::vars() {
        if name == "DATABASE_URL" || name == "KAFKA_BROKERS" {
            command.env_remove(name);
        }
    }
    run(command);
}

/// Runs a program to its end.
fn run(command: &mut Command) {
    // A server that stays must not hold the test's output open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    assert!(status.success(), "{command:?} failed: {status}");
}

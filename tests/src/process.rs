//! A running `daybook` process: its port, its log, its ends.

use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::{Child, Command};

use crate::{Client, until};

/// Longest start of a process, on a slow and busy machine.
const START: Duration = Duration::from_mins(1);
/// Longest drain after SIGTERM.
const STOP: Duration = Duration::from_mins(1);
/// Lines of the log that a failed test shows.
const LOG_LINES: usize = 40;

/// A `daybook` process in one role. Killed when dropped; a test that panics shows its log's end.
#[derive(Debug)]
pub struct Process {
    role: String,
    child: Child,
    log: PathBuf,
    /// Of its HTTP interface, and of what is for operations.
    urls: Option<[String; 2]>,
}

impl Process {
    /// Starts the command with output to `log`. With `urls`, it is ready when `/readyz` says so.
    pub(crate) async fn start(
        role: &str,
        mut command: Command,
        log: PathBuf,
        urls: Option<[String; 2]>,
    ) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("log can be made");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be copied"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the program under test can be started");
        let mut process = Self { role: role.to_owned(), child, log, urls };
        process.ready().await;
        process
    }

    async fn ready(&mut self) {
        let Some([url, _]) = self.urls.clone() else { return };
        let http = reqwest::Client::new();
        let (child, role) = (&mut self.child, &self.role);
        until(&format!("daybook {role} to be ready"), START, || {
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "daybook {role} ended at its start: {ended:?}");
            let request = http.get(format!("{url}/readyz")).send();
            async move { request.await.ok()?.status().is_success().then_some(()) }
        })
        .await;
    }

    /// Address of its HTTP interface.
    ///
    /// # Panics
    /// When its role has none.
    pub fn url(&self) -> &str {
        &self.urls.as_ref().expect("this role serves HTTP")[0]
    }

    /// A client of what it has for operations: metrics, and readiness in detail.
    ///
    /// # Panics
    /// When its role has none.
    pub fn operations(&self) -> Client {
        Client::new(&self.urls.as_ref().expect("this role serves HTTP")[1], "")
    }

    /// A client of this process with an API key.
    pub fn client(&self, key: &str) -> Client {
        Client::new(self.url(), key)
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended and been waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// SIGSTOP: it stays where it is, in the middle of whatever it does.
    pub async fn pause(&self) {
        self.signal("-STOP").await;
    }

    /// SIGCONT: it goes on.
    pub async fn resume(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.expect("kill can be run").success(), "process {pid} can't be signalled");
    }

    /// The most memory that it has had so far, bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a process can be looked at");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok());
        kib.expect("a number") * 1024
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM").await;
        tokio::time::timeout(STOP, self.child.wait())
            .await
            .unwrap_or_else(|_late| panic!("daybook {} did not stop within {STOP:?}", self.role))
            .expect("a child can be waited for")
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("--- end of the log of daybook {}\n{end}\n---", self.role);
        }
    }
}

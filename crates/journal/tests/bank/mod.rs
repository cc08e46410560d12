//! A tiny bank to test the journal with, and a database of its own for each test.

#![allow(clippy::unwrap_used, reason = "a kit for tests: a failure here fails the test")]
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use daybook_journal::{
    CorruptEvent, Decision, Encoded, EventFilter, IdempotencyKey, Loaded, MacKeys, Meta, Model,
    NotActivated, Outcome, Reader, Refusal, StoredEvent, Submission, SubmitError, Tenant, Verdict,
    Writer, WriterConfig, WriterTask,
};
use serde_json::json;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest wait for what must come.
const SOON: Duration = Duration::from_secs(30);

/// The model; counts the events it decodes.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    pub(crate) decoded: AtomicUsize,
    /// Makes another fold of it: its snapshots are not the others'.
    pub(crate) revision: u8,
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    account: String,
    events: Vec<Event>,
    /// Where the money goes to.
    to: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Moved(i64),
    Noted(String),
    /// Encodes to something that PostgreSQL refuses.
    Poison,
    /// Encodes to something that the rules for `data` refuse.
    Unstorable,
}

impl Command {
    fn with(account: &str, events: Vec<Event>) -> Self {
        Self { account: account.to_owned(), events, to: None }
    }
    pub(crate) fn transfer(from: &str, to: &str, amount: i64) -> Self {
        Self { to: Some(to.to_owned()), ..Self::withdraw(from, amount) }
    }
    pub(crate) fn deposit(account: &str, amount: i64) -> Self {
        Self::with(account, vec![Event::Moved(amount)])
    }
    pub(crate) fn withdraw(account: &str, amount: i64) -> Self {
        Self::deposit(account, -amount)
    }
    pub(crate) fn deposits(account: &str, count: usize) -> Self {
        Self::with(account, vec![Event::Moved(1); count])
    }
    pub(crate) fn note(account: &str, text: &str) -> Self {
        Self::with(account, vec![Event::Noted(text.to_owned())])
    }
    pub(crate) fn poison(account: &str) -> Self {
        Self::with(account, vec![Event::Poison])
    }
    pub(crate) fn unstorable(account: &str) -> Self {
        Self::with(account, vec![Event::Unstorable])
    }
}

impl Model for Bank {
    type Command = Command;
    type Event = Event;
    type State = i64;

    fn reads(&self, command: &Command, _loaded: &Loaded<i64>) -> Vec<String> {
        let both = std::iter::once(&command.account).chain(&command.to);
        both.map(|account| format!("account-{account}")).collect()
    }

    fn decide(
        &self,
        command: &Command,
        loaded: &Loaded<i64>,
        _now: DateTime<Utc>,
    ) -> Result<Decision<Event>, Refusal> {
        let stream = format!("account-{}", command.account);
        let balance = loaded.get(&stream).copied().unwrap_or(0);
        let moved: i64 =
            command.events.iter().map(|e| if let Event::Moved(by) = e { *by } else { 0 }).sum();
        if balance + moved < 0 {
            return Err(Refusal {
                code: "overdrawn".to_owned(),
                detail: format!("the balance is {balance}"),
                values: json!({ "balance": balance }),
            });
        }
        let mut events: Vec<_> =
            command.events.iter().map(|e| (stream.clone(), e.clone())).collect();
        if let Some(to) = &command.to {
            events.push((format!("account-{to}"), Event::Moved(-moved)));
        }
        let result = json!({ "balance": balance + moved });
        Ok(Decision { events, jobs: Vec::new(), result, open: false })
    }

    fn evolve(
        &self,
        _stream: &str,
        state: Option<i64>,
        event: &Event,
    ) -> Result<i64, CorruptEvent> {
        let balance = state.unwrap_or(0);
        Ok(if let Event::Moved(by) = event { balance + by } else { balance })
    }

    fn encode(&self, event: &Event) -> Result<Encoded, NotActivated> {
        let (kind, schema_version, data) = match event {
            Event::Moved(by) => ("Moved", 1, json!({ "by": by })),
            Event::Noted(text) => ("Noted", 1, json!({ "text": text })),
            Event::Poison => ("Poison", 0, json!({})),
            Event::Unstorable => ("Unstorable", 1, json!({ "rate": 0.5 })),
        };
        Ok(Encoded { kind, schema_version, data })
    }

    fn snapshots(&self) -> Option<[u8; 32]> {
        Some([self.revision; 32])
    }

    fn freeze(&self, state: &i64) -> Option<Vec<u8>> {
        Some(state.to_string().into_bytes())
    }

    fn thaw(&self, _stream: &str, frozen: &[u8]) -> Option<i64> {
        std::str::from_utf8(frozen).ok()?.parse().ok()
    }

    fn decode(&self, kind: &str, _version: i16, data: &str) -> Result<Event, CorruptEvent> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let data: serde_json::Value =
            serde_json::from_str(data).map_err(|e| CorruptEvent(e.to_string()))?;
        match kind {
            "Moved" => Ok(Event::Moved(data["by"].as_i64().unwrap_or(0))),
            "Noted" => Ok(Event::Noted(data["text"].as_str().unwrap_or("").to_owned())),
            other => Err(CorruptEvent(format!("unknown type {other}"))),
        }
    }
}

pub(crate) fn keys() -> MacKeys {
    MacKeys::new(BTreeMap::from([(1, vec![7; 32])])).unwrap()
}

pub(crate) fn submission(key: &str, command: Command) -> Submission<Command> {
    Submission {
        command,
        key: IdempotencyKey {
            principal: "test".to_owned(),
            key: key.to_owned(),
            fingerprint: [1; 32],
            keep: Some(Duration::from_mins(1)),
            remember_refusals: true,
        },
        meta: Meta {
            actor: "test".to_owned(),
            command_id: Uuid::now_v7(),
            command: "Move".to_owned(),
            key: key.to_owned(),
            correlation: Uuid::now_v7(),
            causation: None,
            traceparent: None,
        },
        occurred_at: None,
        if_match: None,
        deadline: Duration::from_secs(20),
    }
}

/// A database of its own; [`Database::drop`] removes it.
pub(crate) struct Database {
    name: String,
    admin: tokio_postgres::Config,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").unwrap_or_else(|_| {
            panic!(
                "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL"
            )
        });
        let admin: tokio_postgres::Config = url.parse().unwrap();
        let database = Self { name: format!("journal_{}", Uuid::new_v4().simple()), admin };
        connect(&database.admin)
            .await
            .batch_execute(&format!("create database {}", database.name))
            .await
            .unwrap();
        let mut client = database.client().await;
        daybook_journal::migrate(&mut client).await.unwrap();
        database.reader().add_tenant("main", 1).await.unwrap();
        database
    }

    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        connect(&self.config()).await
    }

    pub(crate) fn reader(&self) -> Reader {
        let manager = deadpool_postgres::Manager::new(self.config(), NoTls);
        Reader::new(deadpool_postgres::Pool::builder(manager).max_size(2).build().unwrap())
    }

    fn tenant() -> Tenant {
        Tenant { id: 1, name: "main".to_owned(), partition: 0 }
    }

    /// A running writer, as a process of its own would have.
    pub(crate) fn writer(&self) -> Writer<Bank> {
        let (writer, task) = self.idle_writer(WriterConfig::default());
        tokio::spawn(task.run(CancellationToken::new()));
        writer
    }

    /// A running writer of a bank of one's own.
    pub(crate) fn writer_of(&self, bank: Arc<Bank>, settings: WriterConfig) -> Writer<Bank> {
        let (writer, task) = Writer::new(self.config(), Self::tenant(), bank, keys(), settings);
        tokio::spawn(task.run(CancellationToken::new()));
        writer
    }

    /// A running writer of another tenant.
    pub(crate) fn writer_for(&self, tenant: Tenant) -> Writer<Bank> {
        let (settings, bank) = (WriterConfig::default(), Arc::default());
        let (writer, task) = Writer::new(self.config(), tenant, bank, keys(), settings);
        tokio::spawn(task.run(CancellationToken::new()));
        writer
    }

    /// A writer whose task the test runs when it wants to.
    pub(crate) fn idle_writer(&self, settings: WriterConfig) -> (Writer<Bank>, WriterTask<Bank>) {
        let bank = Arc::new(Bank::default());
        Writer::new(self.config(), Self::tenant(), bank, keys(), settings)
    }

    /// A copy of it, as a restored dump would be.
    pub(crate) async fn copy(&self) -> Self {
        let copy = Self { name: format!("{}_copy", self.name), admin: self.admin.clone() };
        let create = format!("create database {} template {}", copy.name, self.name);
        let admin = connect(&self.admin).await;
        // Not while somebody is connected to the original: pools take a moment to be gone.
        until("the original to be left alone", async || admin.batch_execute(&create).await.ok())
            .await;
        copy
    }

    pub(crate) async fn drop(self) {
        connect(&self.admin)
            .await
            .batch_execute(&format!("drop database {} with (force)", self.name))
            .await
            .unwrap();
    }
}

async fn connect(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {SOON:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Holds a tenant's lock, so that nobody appends, until the client goes or commits.
pub(crate) async fn hold_lock(database: &Database, tenant: i32) -> tokio_postgres::Client {
    let client = database.client().await;
    client.batch_execute(&format!("begin; select journal.lock({tenant})")).await.unwrap();
    client
}

/// Waits until so many of the writers' connections wait for a lock.
pub(crate) async fn until_waiting(database: &Database, connections: i64) {
    let client = database.client().await;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'daybook writer'
          and wait_event_type = 'Lock' and wait_event = 'advisory'";
    until("writers to wait for a lock", async || {
        let row = client.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) == connections).then_some(())
    })
    .await;
}

/// Every event of the tenant is in place: positions and versions without a gap, times that never
/// decrease, MACs that match.
pub(crate) async fn check_history(database: &Database) -> Vec<StoredEvent> {
    let events = database.reader().events(1, 0, 1_000_000, &EventFilter::default()).await.unwrap();
    let mut versions: BTreeMap<&str, i32> = BTreeMap::new();
    let mut recorded = None;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.position, i64::try_from(index).unwrap() + 1, "positions have a gap");
        let version = versions.entry(&event.stream).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "versions of {} have a gap", event.stream);
        assert!(recorded <= Some(event.recorded_at), "recorded_at decreased");
        recorded = Some(event.recorded_at);
        assert!(keys().verify("main", event), "mac of {}", event.position);
    }
    events
}

pub(crate) fn accepted(outcome: &Result<Outcome, SubmitError>) -> bool {
    matches!(outcome.as_ref().map(|o| &o.verdict), Ok(Verdict::Accepted(_)))
}

/// Whether the model said no: any other error is none of its.
pub(crate) fn refused(outcome: &Result<Outcome, SubmitError>) -> bool {
    matches!(outcome.as_ref().map(|o| &o.verdict), Ok(Verdict::Refused(_)))
}

//! A bank: a transfer moves money between two accounts in one command, and nobody overdraws.
//! `DATABASE_URL=postgres://… cargo run -p daybook-journal --example bank`; twice, and it remembers.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeMap, error::Error, sync::Arc};

use chrono::{DateTime, Utc};
use daybook_journal::{
    CorruptEvent, Decision, Encoded, IdempotencyKey, Loaded, MacKeys, Model, NotActivated, Reader,
    Refusal, StreamRange, Submission, Writer, WriterConfig,
};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Bank;

#[derive(Debug, Clone, Copy)]
enum Command {
    Open(&'static str),
    Deposit(&'static str, i64),
    Withdraw(&'static str, i64),
    Transfer(&'static str, &'static str, i64),
}

/// Pennies that came (more than 0), went (less), or neither: the account was opened.
struct Moved(i64);

type Decided = Result<Decision<Moved>, Refusal>;

impl Model for Bank {
    type Command = Command;
    type Event = Moved;
    type State = i64; // the balance

    fn reads(&self, command: &Command, _: &Loaded<i64>) -> Vec<String> {
        match *command {
            Command::Open(a) | Command::Deposit(a, _) | Command::Withdraw(a, _) => vec![a.into()],
            Command::Transfer(from, to, _) => vec![from.into(), to.into()],
        }
    }

    fn decide(&self, command: &Command, loaded: &Loaded<i64>, _: DateTime<Utc>) -> Decided {
        let refused = |code, account: &str| Refusal::new(code, account, Value::Null);
        let balance = |a: &str| loaded.get(a).copied().ok_or_else(|| refused("no-such-account", a));
        let moves = match *command {
            Command::Open(account) if balance(account).is_err() => vec![(account, 0)],
            Command::Open(account) => return Err(refused("open-already", account)),
            Command::Deposit(account, amount) => vec![(account, amount)],
            Command::Withdraw(account, amount) => vec![(account, -amount)],
            Command::Transfer(from, to, amount) => vec![(from, -amount), (to, amount)],
        };
        for (account, by) in moves.iter().filter(|(_, by)| *by != 0) {
            if balance(account)? + by < 0 {
                return Err(refused("overdrawn", account));
            }
        }
        Ok(Decision::new(moves.into_iter().map(|(a, by)| (a.to_owned(), Moved(by))).collect()))
    }

    fn evolve(&self, _: &str, balance: Option<i64>, moved: &Moved) -> Result<i64, CorruptEvent> {
        Ok(balance.unwrap_or(0) + moved.0)
    }

    fn encode(&self, moved: &Moved) -> Result<Encoded, NotActivated> {
        Ok(Encoded { kind: "Moved", schema_version: 1, data: json!({ "by": moved.0 }) })
    }

    fn decode(&self, _kind: &str, _version: i16, data: &str) -> Result<Moved, CorruptEvent> {
        let data: Value = serde_json::from_str(data).map_err(|e| CorruptEvent(e.to_string()))?;
        data["by"].as_i64().map(Moved).ok_or_else(|| CorruptEvent("no amount".into()))
    }
}

/// What ann and bob have in the end.
pub(crate) async fn run(config: tokio_postgres::Config) -> Result<Vec<i64>, Box<dyn Error>> {
    let manager = deadpool_postgres::Manager::new(config.clone(), tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(2).build()?;
    daybook_journal::migrate(&mut **pool.get().await?).await?;
    let reader = Reader::new(pool);
    let tenant = reader.add_tenant("bank", 1).await?;
    let keys = MacKeys::new(BTreeMap::from([(1, vec![7; 32])])).ok_or("no key")?;
    let (writer, task) =
        Writer::new(config, tenant.clone(), Arc::new(Bank), keys, WriterConfig::default());
    let stop = CancellationToken::new();
    let writing = tokio::spawn(task.run(stop.clone()));
    for command in [
        Command::Open("ann"),
        Command::Open("bob"),
        Command::Deposit("ann", 100),
        Command::Transfer("ann", "bob", 30),
        Command::Transfer("ann", "bob", 71),
        Command::Withdraw("bob", 10),
    ] {
        // The key makes it take effect once; a real fingerprint is a keyed hash of the command.
        let key = IdempotencyKey::new("example", &format!("{command:?}"), [0; 32]);
        let outcome = writer.submit(Submission::new("bank", command, key)).await?;
        println!("{command:?}: {outcome:?}");
    }
    let mut balances = Vec::new();
    for account in ["ann", "bob"] {
        let events = reader.read_stream(tenant.id, account, StreamRange::default());
        let moved = events.map_err(Box::<dyn Error>::from).and_then(async |event| {
            Ok(Bank.decode(&event.kind, event.schema_version, &event.data)?.0)
        });
        balances.push(moved.try_fold(0, async |sum, by| Ok(sum + by)).await?);
    }
    println!("ann and bob have {balances:?}");
    stop.cancel();
    writing.await?;
    Ok(balances)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_unset| "set DATABASE_URL=postgres://…")?;
    run(url.parse()?).await.map(|_balances| ())
}

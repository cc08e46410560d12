//! Queries as of a position while the journal, in another database, stalls.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use daybook_journal::Reader;
use daybook_projection::{Answer, AsOfLimits, Queries, QueryError, ReadPositions, install};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::{Client, Config};

use crate::{
    as_of::{SCOPE, ask, at, named, queries_over},
    kit::{
        Database, LAYOUT, Layout, append, connect,
        folder::{Folder, put},
        pool, until,
    },
};

pub(crate) const EVENTS: i64 = 5_000;

/// A journal of 10 MB, and in another database sums by key.
async fn apart() -> Database {
    LAYOUT.scope(Layout::Separate, summed()).await
}

/// The same where the layout says, with a query that tells the time it has.
pub(crate) async fn summed() -> Database {
    let folder = Folder::new();
    folder
        .write(
            "projection.toml",
            "title = 'Sums'\nevents = ['Put']\nstreams = ['s-{id}']\n[[query]]\nname = 'sums'\n\
             title = 'Sums'\npath = '/v1/operator/sums'\nroles = ['operator']\nanswer = 'list'\n\
             order = ['id']\nparameters.id = { type = 'text', title = 'one' }\n[[query]]\n\
             name = 'time'\ntitle = 'Time'\npath = '/v1/operator/time'\nroles = ['operator']\n\
             answer = 'list'\norder = ['id']\nparameters.id = { type = 'text', title = 'one' }",
        )
        .write(
            "queries/sums.sql",
            "select id, n from read.sums where tenant = :tenant and (:id is null or id = :id)",
        )
        .write(
            "queries/time.sql",
            "select id, extract(epoch from current_setting('statement_timeout')::interval)::float8
                 as seconds
             from read.sums where tenant = :tenant and (:id is null or id = :id)",
        );
    let database = Database::new().await;
    install(&mut database.client().await, &folder.load()).await.unwrap();
    let mut events: Vec<_> = (0..EVENTS).map(|n| put(&format!("{}", n % 10), 1)).collect();
    for event in &mut events {
        event.data["text"] = "x".repeat(2_000).into();
    }
    append(&database.journal, 1, &events).await;
    database
}

/// Copies out of the journal that PostgreSQL is busy with.
pub(crate) async fn copying(journal: &Client) -> i64 {
    journal
        .query_one(
            "select count(*) from pg_stat_activity where datname = current_database()
             and state <> 'idle' and query like 'copy (select%'",
            &[],
        )
        .await
        .unwrap()
        .get(0)
}

/// The same once there is a place to fold in.
async fn once_there_is_room(
    mut asked: impl AsyncFnMut() -> Result<Answer, QueryError>,
) -> Result<Answer, QueryError> {
    let mut patience = 1_500;
    loop {
        match asked().await {
            Err(QueryError::Busy { .. }) if patience > 0 => patience -= 1,
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_does_not_begin_to_answer_ends_the_query_at_its_deadline() {
    let database = apart().await;
    let limits = AsOfLimits { folds: 1, deadline: Duration::from_millis(300) };
    let queries = queries_over(&database, limits, database.journal_elsewhere()).await;
    let mut locking = connect(&database.journal_config).await;
    let lock = locking.transaction().await.unwrap();
    lock.batch_execute("lock table journal.events in access exclusive mode").await.unwrap();
    let of_one = [("id", "7")];
    let head = at(EVENTS);
    let keyed = ask(&queries, "sums", &of_one, &head);
    let folded = async {
        // more often than there are places to fold in and connections
        for _ in 0..6 {
            let refused = once_there_is_room(async || ask(&queries, "sums", &[], &at(3)).await);
            let refused = refused.await;
            let Err(QueryError::FoldTooLong { deadline }) = refused else { panic!("{refused:?}") };
            assert_eq!(deadline, limits.deadline);
        }
    };
    let (keyed, ()) = tokio::join!(keyed, folded);
    assert!(matches!(keyed, Err(QueryError::TooSlow)), "{keyed:?}");
    // the lock is still held
    until("the journal's side is cancelled", || async { copying(&database.journal).await == 0 })
        .await;

    lock.commit().await.unwrap();
    let limits = AsOfLimits { folds: 1, ..AsOfLimits::default() };
    drop(queries);
    let queries = queries_over(&database, limits, database.journal_elsewhere()).await;
    ask(&queries, "sums", &[], &at(EVENTS)).await.unwrap();
    let one = ask(&queries, "sums", &of_one, &at(EVENTS)).await.unwrap();
    assert_eq!(one.json, r#"[{"id":"7","n":500}]"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_the_copy_in_the_journal() {
    let database = apart().await;
    let limits = AsOfLimits { folds: 1, deadline: Duration::from_mins(1) };
    let queries = queries_over(&database, limits, database.journal_elsewhere()).await;
    let mut locking = connect(&database.journal_config).await;
    let lock = locking.transaction().await.unwrap();
    lock.batch_execute("lock table journal.events in access exclusive mode").await.unwrap();
    for given in [vec![], vec![("id", "7")]] {
        let waiting = {
            let queries = queries.clone();
            tokio::spawn(
                async move { ask(&queries, "sums", &given, &at(EVENTS)).await.map(|_| ()) },
            )
        };
        until("it is copied", || async { copying(&database.journal).await == 1 }).await;
        waiting.abort();
        until("nothing is copied", || async { copying(&database.journal).await == 0 }).await;
    }
    lock.commit().await.unwrap();
    once_there_is_room(async || ask(&queries, "sums", &[], &at(EVENTS)).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_stalls_in_the_middle_of_a_copy_ends_the_query_at_its_deadline() {
    let database = apart().await;
    let network = Network::before(&database.journal_config).await;
    let reader = Reader::new(pool(&network.config));
    let limits = AsOfLimits { folds: 1, deadline: Duration::from_secs(2) };
    let queries = queries_over(&database, limits, Some(reader)).await;
    ask(&queries, "sums", &[], &at(3)).await.unwrap();

    network.let_pass(1_000_000);
    let asked = tokio::spawn({
        let queries = queries.clone();
        async move { ask(&queries, "sums", &[], &at(EVENTS)).await }
    });
    until("the copy stands still", || async { network.left() < 100_000 }).await;
    assert_eq!(copying(&database.journal).await, 1, "it is in the middle");
    let refused = asked.await.unwrap();
    assert!(matches!(refused, Err(QueryError::FoldTooLong { .. })), "{refused:?}");
    // its place is free while the network still stands still, and also a connection that can't be
    // had comes to its end
    let again = once_there_is_room(async || ask(&queries, "sums", &[], &at(EVENTS)).await).await;
    assert!(matches!(again, Err(QueryError::FoldTooLong { .. })), "{again:?}");

    network.let_pass(usize::MAX);
    until("nothing is copied", || async { copying(&database.journal).await == 0 }).await;
    once_there_is_room(async || ask(&queries, "sums", &[], &at(3)).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_can_not_be_read_leaves_every_connection_usable() {
    let database = apart().await;
    let limits = AsOfLimits { folds: 1, ..AsOfLimits::default() };
    let queries = queries_over(&database, limits, database.journal_elsewhere()).await;
    let rename = "alter table journal.events rename to";
    database.journal.batch_execute(&format!("{rename} away")).await.unwrap();
    for _ in 0..6 {
        for given in [vec![], vec![("id", "7")]] {
            let refused = ask(&queries, "sums", &given, &at(EVENTS)).await;
            assert!(matches!(refused, Err(QueryError::Journal(_))), "{refused:?}");
        }
    }
    let open = "select count(*) from pg_stat_activity where datname = current_database()
        and state like 'idle in transaction%'";
    let left: i64 = database.client().await.query_one(open, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "transactions left open");
    database.journal.batch_execute("alter table journal.away rename to events").await.unwrap();
    for _ in 0..6 {
        ask(&queries, "sums", &[("id", "7")], &at(EVENTS)).await.unwrap();
    }
    ask(&queries, "sums", &[], &at(EVENTS)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_of_a_plain_query_takes_copied_events() {
    let database = apart().await;
    let pool = database.pool();
    pool.resize(1);
    let (positions, _task) = ReadPositions::new(database.config.clone());
    let limits = AsOfLimits::default();
    let journal = database.journal_elsewhere();
    let (queries, _task) = Queries::with_limits(pool, positions, limits, journal);
    queries.reload().await.unwrap();
    let (sums, none) = (named(&queries, "sums"), HashMap::new());
    for given in [vec![], vec![("id", "7")]] {
        // no projector runs
        let plain = queries.run(&sums, 1, SCOPE, &none, None, Duration::ZERO).await.unwrap();
        assert_eq!(plain.json, "[]");
        let then = ask(&queries, "sums", &given, &at(EVENTS)).await.unwrap();
        assert!(then.json.contains(r#"{"id":"7","n":500}"#), "{}", then.json);
    }
}

/// What lies between a database and its clients; holds back what the database sends.
struct Network {
    /// The database, through it.
    config: Config,
    /// Bytes that may still pass.
    left: watch::Sender<usize>,
}

impl Network {
    async fn before(database: &Config) -> Self {
        let host = match &database.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(_) => panic!("the tests' server listens on TCP"),
        };
        let server = (host, database.get_ports()[0]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let left = watch::Sender::new(usize::MAX);
        let passing = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server.clone()).await.unwrap();
                tokio::spawn(pass(client, server, passing.clone()));
            }
        });
        let mut config = Config::new();
        config.host("127.0.0.1").port(address.port());
        config.dbname(database.get_dbname().unwrap()).user(database.get_user().unwrap());
        if let Some(password) = database.get_password() {
            config.password(password);
        }
        Self { config, left }
    }

    fn let_pass(&self, bytes: usize) {
        self.left.send_replace(bytes);
    }

    fn left(&self) -> usize {
        *self.left.borrow()
    }
}

async fn pass(client: TcpStream, server: TcpStream, left: watch::Sender<usize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async { tokio::io::copy(&mut from_client, &mut to_server).await.ok() };
    let answered = async {
        let mut changed = left.subscribe();
        let mut piece = vec![0; 64 << 10];
        while let Ok(size @ 1..) = from_server.read(&mut piece).await {
            let take = |left: &mut usize| {
                let fits = *left >= size;
                if fits {
                    *left -= size;
                }
                fits
            };
            while !left.send_if_modified(take) {
                changed.changed().await.ok()?;
            }
            to_client.write_all(&piece[..size]).await.ok()?;
        }
        Some(())
    };
    tokio::select! {
        _ = asked => {}
        _ = answered => {}
    }
}

//! API keys against a real PostgreSQL. `./scripts/test` starts one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use daybook_identity::{ApiKeys, IdentityError, Role, migrate};
use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;
use uuid::Uuid;

/// A database of this test's own, dropped at its end.
struct Database {
    name: String,
    pool: Pool,
    admin: tokio_postgres::Client,
}

impl Database {
    async fn new() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").expect(
            "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL",
        );
        let mut config: tokio_postgres::Config = url.parse().unwrap();
        let (admin, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let name = format!("identity_{}", Uuid::new_v4().simple());
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        config.dbname(&name);
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(4).build().unwrap();
        let mut client = pool.get().await.unwrap();
        migrate(&mut client).await.unwrap();
        migrate(&mut client).await.expect("migrating again changes nothing");
        drop(client);
        Self { name, pool, admin }
    }

    async fn drop(self) {
        self.pool.close();
        self.admin
            .batch_execute(&format!("drop database {} with (force)", self.name))
            .await
            .unwrap();
    }
}

/// Asks until the answer is the wanted one; fails after `limit`.
async fn eventually(keys: &ApiKeys, secret: &str, usable: bool, limit: Duration) {
    let start = Instant::now();
    while keys.authenticate(secret).await.unwrap().is_some() != usable {
        assert!(start.elapsed() < limit, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_names_its_principal_and_any_other_text_nobody() {
    let database = Database::new().await;
    let keys = ApiKeys::new(database.pool.clone());
    let customer = Uuid::new_v4();
    let key = keys.create(3, Role::Customer, Some(customer), "web shop").await.unwrap();

    let principal = keys.authenticate(&key.secret).await.unwrap().unwrap();
    assert_eq!(principal.tenant, 3);
    assert_eq!(principal.id, format!("owner:{}", key.owner));
    assert_eq!(principal.role, Role::Customer);
    assert_eq!(principal.subject, Some(customer));

    // The same id with another secret, and an id that does not exist.
    let last = if key.secret.ends_with('A') { "B" } else { "A" };
    let forged = format!("{}{last}", &key.secret[..key.secret.len() - 1]);
    assert_eq!(keys.authenticate(&forged).await.unwrap(), None);
    let unknown = key.secret.replacen(&key.id, "zzzzzzzz", 1);
    assert_eq!(keys.authenticate(&unknown).await.unwrap(), None);
    assert_eq!(keys.authenticate("x").await.unwrap(), None);

    // The text is stored nowhere.
    let client = database.pool.get().await.unwrap();
    let stored: String = client
        .query_one("select string_agg(to_jsonb(k)::text, '') from identity.api_keys k", &[])
        .await
        .unwrap()
        .get(0);
    assert!(!stored.contains(&key.secret[13..]));
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn customers_and_partners_are_bound_to_an_id_and_nobody_else_is() {
    let database = Database::new().await;
    let keys = ApiKeys::new(database.pool.clone());
    for role in Role::ALL {
        let wrong = if role.is_bound() { None } else { Some(Uuid::new_v4()) };
        let refused = keys.create(1, role, wrong, "").await.unwrap_err();
        assert!(matches!(refused, IdentityError::Subject(r) if r == role), "{refused}");
        let right = role.is_bound().then(Uuid::new_v4);
        keys.create(1, role, right, "").await.unwrap();
    }
    assert!(matches!(
        keys.create(1, Role::Admin, None, &"x".repeat(201)).await,
        Err(IdentityError::Label(201))
    ));
    assert_eq!(keys.list(1).await.unwrap().len(), Role::ALL.len());
    assert_eq!(keys.list(2).await.unwrap(), Vec::new());
    database.drop().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_here_at_once_and_elsewhere_within_a_second() {
    let database = Database::new().await;
    let here = ApiKeys::new(database.pool.clone());
    let elsewhere = ApiKeys::new(database.pool.clone());
    let key = here.create(1, Role::Operator, None, "desk").await.unwrap();
    assert!(here.authenticate(&key.secret).await.unwrap().is_some());
    assert!(elsewhere.authenticate(&key.secret).await.unwrap().is_some());

    assert!(here.revoke(&key.id).await.unwrap());
    assert_eq!(here.authenticate(&key.secret).await.unwrap(), None);
    eventually(&elsewhere, &key.secret, false, Duration::from_secs(3)).await;

    let revoked_at = here.list(1).await.unwrap()[0].revoked_at;
    assert!(revoked_at.is_some());
    assert!(here.revoke(&key.id).await.unwrap());
    assert_eq!(here.list(1).await.unwrap()[0].revoked_at, revoked_at, "the first time stays");
    assert!(!here.revoke("00000000").await.unwrap());
    database.drop().await;
}

#[tokio::test]
async fn rotation_keeps_the_owner_and_ends_the_old_key_after_the_overlap() {
    let database = Database::new().await;
    let keys = ApiKeys::new(database.pool.clone());
    let partner = Uuid::new_v4();
    let old = keys.create(1, Role::Partner, Some(partner), "warehouse").await.unwrap();
    let new = keys.rotate(&old.id, Duration::from_hours(1)).await.unwrap().unwrap();
    assert_ne!(old.secret, new.secret);
    assert_eq!(
        keys.authenticate(&old.secret).await.unwrap(),
        keys.authenticate(&new.secret).await.unwrap(),
        "one principal"
    );
    let third = keys.rotate(&old.id, Duration::ZERO).await.unwrap().unwrap();
    eventually(&keys, &old.secret, false, Duration::from_secs(3)).await;
    assert!(keys.authenticate(&third.secret).await.unwrap().is_some());
    assert!(keys.rotate(&old.id, Duration::ZERO).await.unwrap().is_none(), "it has ended");
    assert!(keys.rotate("00000000", Duration::ZERO).await.unwrap().is_none());
    assert_eq!(keys.list(1).await.unwrap().len(), 3);
    database.drop().await;
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_but_not_with_every_request() {
    let database = Database::new().await;
    let keys = ApiKeys::new(database.pool.clone());
    let key = keys.create(1, Role::Analyst, None, "reports").await.unwrap();
    assert_eq!(keys.list(1).await.unwrap()[0].last_used_at, None);
    keys.authenticate(&key.secret).await.unwrap();
    let noted = keys.list(1).await.unwrap()[0].last_used_at;
    assert!(noted.is_some());
    // A process without a cache asks the database again, and leaves the note as it is.
    ApiKeys::new(database.pool.clone()).authenticate(&key.secret).await.unwrap();
    assert_eq!(keys.list(1).await.unwrap()[0].last_used_at, noted);
    database.drop().await;
}

#[tokio::test]
async fn many_requests_with_one_key_at_once_all_get_its_principal() {
    let database = Database::new().await;
    let keys = ApiKeys::new(database.pool.clone());
    let key = keys.create(1, Role::Operator, None, "busy").await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (keys, secret) = (keys.clone(), key.secret.clone());
        asked.spawn(async move { keys.authenticate(&secret).await });
    }
    while let Some(answer) = asked.join_next().await {
        assert!(answer.unwrap().unwrap().is_some());
    }
    database.drop().await;
}

//! A database of its own for each test, and processes that write to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use daybook_commands::{
    Authority, Command, Request, SealToken, Shop, ShopModel, ShopSettings, schemas,
};
use daybook_journal::{
    Activations, MacKeys, Outcome, SubmitError, Tenant, Verdict, Writer, WriterConfig,
};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A migrated database with the shop's upcasters; [`Database::drop`] removes it.
pub(crate) struct Database {
    name: String,
    admin: Config,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").unwrap_or_else(|_| {
            panic!(
                "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL"
            )
        });
        let admin: Config = url.parse().unwrap();
        let database = Self { name: format!("evolution_{}", Uuid::new_v4().simple()), admin };
        connect(&database.admin)
            .await
            .batch_execute(&format!("create database {}", database.name))
            .await
            .unwrap();
        let mut client = database.client().await;
        daybook_journal::migrate(&mut client).await.unwrap();
        schemas::upcasters().install(&client).await.unwrap();
        client
            .batch_execute("insert into journal.tenants (name, partition) values ('main', 0)")
            .await
            .unwrap();
        database
    }

    fn config(&self) -> Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    pub(crate) async fn drop(self) {
        connect(&self.admin)
            .await
            .batch_execute(&format!("drop database {} with (force)", self.name))
            .await
            .unwrap();
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

struct NoTokens;

impl SealToken for NoTokens {
    fn seal(&self, _payment_id: Uuid, _token: &str) -> Vec<u8> {
        Vec::new()
    }
}

/// What one process has of the shop.
pub(crate) struct Shopfront(Shop);

impl Shopfront {
    pub(crate) fn open(database: &Database, activations: Activations) -> Self {
        let (writer, task) = Writer::new(
            database.config(),
            Tenant { id: 1, name: "main".to_owned(), partition: 0 },
            Arc::new(ShopModel::new(ShopSettings::default()).writing(activations)),
            MacKeys::new(BTreeMap::from([(1, vec![1; 32])])).unwrap(),
            WriterConfig::default(),
        );
        tokio::spawn(task.run(CancellationToken::new()));
        Self(Shop::new(HashMap::from([(1, writer)]), Arc::new(NoTokens), vec![2; 32]))
    }

    pub(crate) async fn stock(&self) {
        let tea = json!({ "sku": "TEA", "name": "Tea", "price": 300, "currency": "EUR",
                          "tracked": true });
        self.accepted("AddProduct", &tea).await;
        self.accepted("ReceiveStock", &json!({ "sku": "TEA", "quantity": 100 })).await;
    }

    /// An order of 6.00 EUR, and what its sending costs.
    pub(crate) fn order(id: Uuid, shipping: Option<i64>) -> Value {
        let lines = json!([{ "sku": "TEA", "quantity": 2 }]);
        let mut order = json!({ "order_id": id, "currency": "EUR", "lines": lines });
        if let Some(shipping) = shipping {
            order["shipping"] = shipping.into();
        }
        order
    }

    pub(crate) async fn pay(&self, order: Uuid, amount: i64) -> Outcome {
        let body = json!({ "order_id": order, "amount": amount, "currency": "EUR",
                           "method": "bank transfer", "reference": "r" });
        self.send("RecordPayment", &body).await.unwrap()
    }

    pub(crate) async fn accepted(&self, name: &str, body: &Value) {
        let outcome = self.send(name, body).await.unwrap();
        assert!(matches!(outcome.verdict, Verdict::Accepted(_)), "{name}: {outcome:?}");
    }

    pub(crate) async fn send(&self, name: &str, body: &Value) -> Result<Outcome, SubmitError> {
        self.send_as(name, body, Authority::Operator, &Uuid::now_v7().to_string()).await
    }

    pub(crate) async fn send_as(
        &self,
        name: &str,
        body: &Value,
        authority: Authority,
        key: &str,
    ) -> Result<Outcome, SubmitError> {
        let request = Request {
            command: Command::parse(name, body.to_string().as_bytes()).unwrap(),
            authority,
            principal: "owner:test".to_owned(),
            key: key.to_owned(),
            correlation: Uuid::now_v7(),
            causation: None,
            traceparent: None,
            occurred_at: None,
            if_match: None,
            deadline: Duration::from_secs(20),
            keep: None,
        };
        self.0.execute(1, request).await
    }
}

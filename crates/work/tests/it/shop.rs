//! A shop with a journal, and orders to pay.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use daybook_commands::{Authority, Command, Request, Shop, ShopModel, ShopSettings};
use daybook_identity::Sealer;
use daybook_journal::{Accepted, EventFilter, MacKeys, Reader, Verdict, Writer, WriterConfig};
use daybook_work::{
    Gateway, JobRow, JobState, RetryPolicy, SandboxGateway, TokenSeal, Worker, WorkerDeps,
    WorkerSettings,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::kit::{Database, until};

/// A shop on a test's database, with a product of 10.00 EUR that never runs out.
pub(crate) struct Stand {
    pub(crate) database: Database,
    pub(crate) shop: Shop,
    pub(crate) sandbox: SandboxGateway,
    pub(crate) reader: Reader,
    customer: Uuid,
}

/// A worker that the test can stop or kill.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    /// As SIGTERM: drains.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// As kill -9: nothing is given back.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Quick retries, no polling to speak of: what happens, happens by wake-up and timer.
pub(crate) fn settings() -> WorkerSettings {
    WorkerSettings {
        poll_ms: 60_000,
        retry: RetryPolicy { first_ms: 10, ceiling_ms: 40, max_attempts: 20 },
        ..WorkerSettings::default()
    }
}

impl Stand {
    pub(crate) async fn open(database: Database) -> Self {
        Self::with(database, ShopSettings::default()).await
    }

    pub(crate) async fn with(database: Database, settings: ShopSettings) -> Self {
        let keys = MacKeys::new(BTreeMap::from([(1, vec![1; 32])])).unwrap();
        let (writer, task) = Writer::new(
            database.config.clone(),
            database.tenant.clone(),
            Arc::new(ShopModel::new(settings)),
            keys,
            WriterConfig::default(),
        );
        tokio::spawn(task.run(CancellationToken::new()));
        let writers = HashMap::from([(database.tenant.id, writer)]);
        let shop = Shop::new(writers, Arc::new(seal()), vec![2; 32]);
        let sandbox = SandboxGateway::new(database.pool.clone());
        let reader = Reader::new(database.pool.clone());
        let stand = Self { database, shop, sandbox, reader, customer: Uuid::now_v7() };
        let product = json!({ "sku": "TEA", "name": "Tea", "price": 1_000, "currency": "EUR", "tracked": true });
        stand.operator("AddProduct", &product).await;
        stand.operator("ReceiveStock", &json!({ "sku": "TEA", "quantity": 1_000 })).await;
        stand
    }

    pub(crate) async fn operator(&self, name: &str, body: &Value) -> Accepted {
        self.send(name, body, Authority::Operator, "owner:operator").await
    }

    async fn customer(&self, name: &str, body: &Value) -> Accepted {
        self.send(name, body, Authority::Customer(self.customer), "owner:customer").await
    }

    async fn send(&self, name: &str, body: &Value, authority: Authority, who: &str) -> Accepted {
        let command = Command::parse(name, body.to_string().as_bytes()).unwrap();
        let request = Request {
            command,
            authority,
            principal: who.to_owned(),
            key: Uuid::now_v7().to_string(),
            correlation: Uuid::now_v7(),
            causation: None,
            traceparent: None,
            occurred_at: None,
            if_match: None,
            deadline: Duration::from_secs(20),
            keep: None,
        };
        match self.shop.execute(self.database.tenant.id, request).await.unwrap().verdict {
            Verdict::Accepted(accepted) => accepted,
            Verdict::Refused(refusal) => panic!("{name} was refused: {refusal:?}"),
        }
    }

    /// A new order of `quantity` times 10.00 EUR.
    pub(crate) async fn order(&self, quantity: i64) -> Uuid {
        let lines = json!([{ "sku": "TEA", "quantity": quantity }]);
        let placed =
            self.customer("PlaceOrder", &json!({ "currency": "EUR", "lines": lines })).await;
        id(&placed.result, "order_id")
    }

    /// Pays all of an order of `quantity` with this token; the payment's id.
    pub(crate) async fn pay(&self, order: Uuid, quantity: i64, token: &str) -> Uuid {
        let amount = quantity * 1_000;
        let body = json!({
            "order_id": order, "amount": amount, "currency": "EUR", "gateway_token": token,
        });
        let asked = self.customer("ChargePayment", &body).await;
        assert!(asked.open);
        id(&asked.result, "payment_id")
    }

    /// An order of one, paid with this token; the payment's id.
    pub(crate) async fn buy(&self, token: &str) -> Uuid {
        let order = self.order(1).await;
        self.pay(order, 1, token).await
    }

    pub(crate) fn sandbox(&self) -> Arc<dyn Gateway> {
        Arc::new(self.sandbox.clone())
    }

    pub(crate) fn worker(&self, gateway: Arc<dyn Gateway>, settings: WorkerSettings) -> Running {
        let shutdown = CancellationToken::new();
        let deps = WorkerDeps {
            pool: self.database.pool.clone(),
            listen: self.database.config.clone(),
            shop: self.shop.clone(),
            gateway,
            seal: seal(),
            settings,
        };
        Running { task: tokio::spawn(Worker::run(deps, shutdown.clone())), shutdown }
    }

    /// Types and data of a stream's events so far.
    pub(crate) async fn events(&self, stream: &str) -> Vec<(String, Value)> {
        let events = self.reader.stream(self.database.tenant.id, stream, 1, 1_000).await.unwrap();
        events
            .into_iter()
            .map(|event| (event.kind, serde_json::from_str(&event.data).unwrap()))
            .collect()
    }

    /// Types of a payment's events so far.
    pub(crate) async fn payment(&self, payment: Uuid) -> Vec<String> {
        let events = self.events(&format!("payment-{payment}")).await;
        events.into_iter().map(|(kind, _)| kind).collect()
    }

    /// Waits until a payment is no longer merely requested; the types of its events.
    pub(crate) async fn settled(&self, payment: Uuid) -> Vec<String> {
        until("the payment is settled", async || {
            let kinds = self.payment(payment).await;
            (kinds.len() > 1).then_some(kinds)
        })
        .await
    }

    /// The only job of a payment.
    pub(crate) async fn job_of(&self, payment: Uuid) -> JobRow {
        let sql = "select id from journal.jobs
            where payload ->> 'payment_id' = $1 and kind = 'charge_payment'";
        let client = self.database.pool.get().await.unwrap();
        let id = client.query_one(sql, &[&payment.to_string()]).await.unwrap().get(0);
        self.database.store().show(id).await.unwrap().unwrap()
    }

    /// Waits until the payment's job is in this state.
    pub(crate) async fn job_is(&self, payment: Uuid, state: JobState) -> JobRow {
        until("the job's state", async || {
            let job = self.job_of(payment).await;
            (job.state == state).then_some(job)
        })
        .await
    }

    /// Captured payments and what was given back of each, by the journal.
    pub(crate) async fn captured(&self) -> BTreeMap<Uuid, (i64, i64)> {
        let filter = EventFilter { stream_prefix: Some("payment-".into()), ..Default::default() };
        let events =
            self.reader.events(self.database.tenant.id, 0, 100_000, &filter).await.unwrap();
        let mut books = BTreeMap::new();
        for event in events {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            let (payment, amount) = (id(&data, "payment_id"), data["amount"].as_i64());
            match event.kind.as_str() {
                "PaymentCaptured" => {
                    let before = books.insert(payment, (amount.unwrap(), 0));
                    assert_eq!(before, None, "captured twice");
                }
                "PaymentRefunded" => books.get_mut(&payment).unwrap().1 += amount.unwrap(),
                _ => {}
            }
        }
        books
    }

    /// The same by the sandbox's own books. Fails where a payment was charged twice.
    pub(crate) async fn ledger(&self) -> BTreeMap<Uuid, (i64, i64)> {
        let mut books = BTreeMap::new();
        for entry in self.sandbox.ledger().await.unwrap() {
            let before = books.insert(entry.payment_id, (entry.amount, entry.refunded));
            assert_eq!(before, None, "charged twice: {entry:?}");
        }
        books
    }
}

fn seal() -> TokenSeal {
    TokenSeal::new(Sealer::new([3; 32]))
}

pub(crate) fn id(object: &Value, field: &str) -> Uuid {
    object[field].as_str().unwrap_or_else(|| panic!("{object} has no {field}")).parse().unwrap()
}

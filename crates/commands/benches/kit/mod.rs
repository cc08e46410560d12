//! What the shop's measurements share: a shop on one writer, and its commands.

#![allow(dead_code, reason = "each measurement uses its part")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use daybook_commands::{
    Authority, Command, Request, SealToken, Shop, ShopModel, ShopSettings, schemas,
};
use daybook_journal::{Outcome, SubmitError, Verdict, Writer, WriterConfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[path = "../../../journal/benches/kit/mod.rs"]
mod journal;

pub(crate) use journal::*;

/// No card is charged here.
struct NoTokens;

impl SealToken for NoTokens {
    fn seal(&self, _payment_id: Uuid, _token: &str) -> Vec<u8> {
        Vec::new()
    }
}

/// A shop with a writer of its own.
pub(crate) struct Running {
    pub(crate) shop: Shop,
    stop: CancellationToken,
    writer: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(database: &Database) -> Self {
        let model = Arc::new(ShopModel::new(ShopSettings::default()));
        let config = WriterConfig::default();
        let (writer, task) = Writer::new(database.config(), tenant(), model, keys(), config);
        let stop = CancellationToken::new();
        let running = tokio::spawn(task.run(stop.clone()));
        let writers = HashMap::from([(tenant().id, writer)]);
        let shop = Shop::new(writers, Arc::new(NoTokens), vec![7; 32]);
        Self { shop, stop, writer: running }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.writer.await.expect("the writer ends");
    }
}

/// A database that a shop can use.
pub(crate) async fn shop_database(server: &Server) -> Database {
    let database = server.database().await;
    let client = database.client().await;
    schemas::upcasters().install(&client).await.expect("installs the upcasters");
    database
}

/// Sends an operator's command under a key of its own.
pub(crate) async fn send(shop: &Shop, name: &str, body: &Value) -> Result<Outcome, SubmitError> {
    let command = Command::parse(name, body.to_string().as_bytes()).expect("a valid command");
    let request = Request {
        command,
        authority: Authority::Operator,
        principal: "key:0190c5a0-2222-7000-8000-000000000001".to_owned(),
        key: Uuid::new_v4().to_string(),
        correlation: Uuid::now_v7(),
        causation: None,
        traceparent: None,
        occurred_at: None,
        if_match: None,
        deadline: Duration::from_secs(30),
        keep: Some(Duration::from_hours(720)),
    };
    shop.execute(tenant().id, request).await
}

/// Puts a product with stock on sale.
pub(crate) async fn stock_up(shop: &Shop, sku: &str, quantity: i64) {
    let product = json!({ "sku": sku, "name": "Enamel mug", "price": 1250, "currency": "GBP" });
    let added = send(shop, "AddProduct", &product).await.expect("an outcome");
    assert!(matches!(added.verdict, Verdict::Accepted(_)), "{added:?}");
    let received = json!({ "sku": sku, "quantity": quantity });
    let received = send(shop, "ReceiveStock", &received).await.expect("an outcome");
    assert!(matches!(received.verdict, Verdict::Accepted(_)), "{received:?}");
}

/// Orders one unit; whether the order was accepted.
pub(crate) async fn order(shop: &Shop, sku: &str) -> bool {
    let order = json!({ "currency": "GBP", "lines": [{ "sku": sku, "quantity": 1 }] });
    let outcome = send(shop, "PlaceOrder", &order).await.expect("an outcome");
    matches!(outcome.verdict, Verdict::Accepted(_))
}

/// Events of a stock that nobody had to command: its history is long from the start.
pub(crate) async fn long_stock(database: &Database, sku: &str, events: i64) {
    let fill = "insert into journal.events (position, occurred_at, recorded_at, tenant, version,
                                            schema_version, stream, type, mac, data, meta)
        select n, now(), now(), 1, n, 1, 'stock-' || $1::text, 'StockReceived',
               decode('01' || repeat('00', 32), 'hex'),
               jsonb_build_object('sku', $1::text, 'quantity', 1),
               '{\"key\": \"filled\", \"actor\": \"bench\", \"command\": \"ReceiveStock\",
                 \"command_id\": \"0190c5a0-1111-7000-8000-000000000001\",
                 \"correlation\": \"0190c5a0-1111-7000-8000-000000000001\"}'::jsonb
        from generate_series(1, $2::bigint) n";
    let client = database.client().await;
    client.execute(fill, &[&sku, &events]).await.expect("fills the journal");
    settle(&client).await;
}

/// What was written to prepare a run is not the run's to pay.
pub(crate) async fn settle(client: &tokio_postgres::Client) {
    for statement in ["vacuum analyze journal.events", "checkpoint"] {
        client.batch_execute(statement).await.expect("may vacuum");
    }
}

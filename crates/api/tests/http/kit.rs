//! A whole API on a database and port of its own.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use daybook_api::{ApiDeps, Limits, ServeError, serve};
use daybook_commands::{Authority, Command, Request, SealToken, Shop, ShopModel, ShopSettings};
use daybook_identity::{ApiKeys, NewKey, Role, TokenSealer};
use daybook_journal::{
    Accepted, EventFilter, Heads, MacKeys, Reader, StoredEvent, Tenant, Verdict, Writer,
    WriterConfig,
};
use daybook_projection::{
    AsOfLimits, Catalogue, Projector, ProjectorSettings, Queries, ReadPositions,
};
use deadpool_postgres::{Manager, Pool};
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The API, running.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    operations: SocketAddr,
    pub(crate) shop: Shop,
    pub(crate) reader: Reader,
    pub(crate) tenant: Tenant,
    pub(crate) keys: ApiKeys,
    pub(crate) operator: String,
    pub(crate) customer: String,
    tokens: TokenSealer,
    incarnation: Uuid,
    http: reqwest::Client,
    serving: JoinHandle<Result<(), ServeError>>,
    stop_serving: CancellationToken,
    stop_rest: CancellationToken,
    config: tokio_postgres::Config,
    database: String,
    admin: tokio_postgres::Client,
    pool: Pool,
    _metrics: metrics::LocalRecorderGuard<'static>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The problem, which must be of this status and code.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{code}"), "{self:?}");
        problem
    }

    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }
}

/// A stream of server-sent events.
pub(crate) struct Live {
    response: reqwest::Response,
    text: String,
    /// The newest time to come back after, milliseconds.
    pub(crate) retry: Option<u32>,
}

/// An event that carries data.
#[derive(Debug)]
pub(crate) struct LiveEvent {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    data: String,
}

impl LiveEvent {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Live {
    /// Opens the stream, which must be there.
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
        Self { response, text: String::new(), retry: None }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// The next event; `None` once the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<LiveEvent> {
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let mut event = LiveEvent { id: None, name: "message".into(), data: String::new() };
                for line in block.lines() {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("id", id) => event.id = Some(id.to_owned()),
                        ("event", name) => name.clone_into(&mut event.name),
                        ("data", data) => event.data.push_str(data),
                        ("retry", ms) => self.retry = Some(ms.parse().unwrap()),
                        (":", _) => {}
                        other => panic!("{other:?}"),
                    }
                }
                if !event.data.is_empty() {
                    return Some(event);
                }
            }
            // Signs of life are no event.
            let piece = tokio::time::timeout_at(end, self.response.chunk()).await;
            let piece = piece.expect("an event comes or the stream ends").unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

struct OpenSeal;

impl SealToken for OpenSeal {
    fn seal(&self, _payment_id: Uuid, token: &str) -> Vec<u8> {
        token.as_bytes().to_vec()
    }
}

/// The repository's own projections, and one of these tests'.
fn projections() -> Catalogue {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let together = tempfile::tempdir().unwrap();
    for folder in ["../../projections", "tests/projections"] {
        for entry in std::fs::read_dir(here.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                let link = together.path().join(entry.file_name());
                std::os::unix::fs::symlink(entry.path(), link).unwrap();
            }
        }
    }
    Catalogue::load(together.path()).unwrap()
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        // longer than a test waits for a fold to be cancelled
        let as_of = AsOfLimits { deadline: Duration::from_mins(2), ..AsOfLimits::default() };
        Self::start_with_all(limits, as_of).await
    }

    pub(crate) async fn start_with_all(limits: Limits, as_of: AsOfLimits) -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").expect(
            "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL",
        );
        // A failed test shows what the server logged.
        tracing_subscriber::fmt().with_test_writer().try_init().ok();
        let mut config: tokio_postgres::Config = url.parse().unwrap();
        let (admin, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let database = format!("api_{}", Uuid::new_v4().simple());
        admin.batch_execute(&format!("create database {database}")).await.unwrap();
        config.dbname(&database);
        let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(8).build().unwrap();
        let mut client = pool.get().await.unwrap();
        daybook_journal::migrate(&mut client).await.unwrap();
        daybook_commands::schemas::upcasters().install(&**client).await.unwrap();
        daybook_identity::migrate(&mut client).await.unwrap();
        daybook_projection::migrate(&mut client).await.unwrap();
        let catalogue = projections();
        daybook_projection::install(&mut client, &catalogue).await.unwrap();
        drop(client);

        // Everything of a test runs on its thread, so its metrics are its own.
        let recorder = &*Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let recording = metrics::set_default_local_recorder(recorder);
        let stop_rest = CancellationToken::new();
        let reader = Reader::new(pool.clone());
        let tenant = reader.add_tenant("main", 1).await.unwrap();
        let (writer, task) = Writer::new(
            config.clone(),
            tenant.clone(),
            Arc::new(ShopModel::new(ShopSettings::default())),
            MacKeys::new([(1, vec![7; 32])].into()).unwrap(),
            WriterConfig::default(),
        );
        tokio::spawn(task.run(stop_rest.clone()));
        let (heads, task) = Heads::new(config.clone(), reader.clone());
        tokio::spawn(task.run(stop_rest.clone()));
        let shop = Shop::new(HashMap::from([(tenant.id, writer)]), Arc::new(OpenSeal), vec![1; 32]);

        let (positions, task) = ReadPositions::new(config.clone());
        tokio::spawn(task.run(stop_rest.clone()));
        // As in the program: what a query sets for its connection is nobody else's business.
        let query_pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(8).build();
        let (queries, task) = Queries::with_limits(query_pool.unwrap(), positions, as_of, None);
        queries.reload().await.unwrap();
        tokio::spawn(task.run(stop_rest.clone()));

        let keys = ApiKeys::new(pool.clone());
        let customer_id = Uuid::new_v4();
        let operator = keys.create(tenant.id, Role::Operator, None, "o").await.unwrap().secret;
        let customer = keys.create(tenant.id, Role::Customer, Some(customer_id), "c").await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let operating = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let operations = operating.local_addr().unwrap();
        let stop_serving = CancellationToken::new();
        let tokens = TokenSealer::new([7; 32]);
        let incarnation = reader.incarnation().await.unwrap();
        let deps = ApiDeps {
            shop: shop.clone(),
            reader: reader.clone(),
            heads,
            keys: keys.clone(),
            tokens: tokens.clone(),
            queries,
            metrics: recorder.handle(),
            pool: pool.clone(),
            checks: Vec::new(),
            limits,
        };
        let serving = tokio::spawn(serve(deps, listener, operating, stop_serving.clone()));
        Self {
            address,
            operations,
            shop,
            reader,
            tenant,
            keys,
            operator,
            customer: customer.unwrap().secret,
            tokens,
            incarnation,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            serving,
            stop_serving,
            stop_rest,
            config,
            database,
            admin,
            pool,
            _metrics: recording,
        }
    }

    /// Lets the read models follow the journal, without Kafka.
    pub(crate) fn project(&self) {
        let settings = ProjectorSettings {
            heal_after: Duration::from_millis(50),
            ..ProjectorSettings::default()
        };
        let projector = Projector::new(self.config.clone(), self.reader.clone(), settings);
        let stop = self.stop_rest.clone();
        tokio::spawn(async move {
            let (_nobody_sends, batches) = mpsc::channel(1);
            projector.run_on(batches, stop).await;
        });
    }

    /// Begins to end the server; the answer says how it went.
    pub(crate) async fn shut_down(&mut self) -> Result<(), ServeError> {
        self.stop_serving.cancel();
        (&mut self.serving).await.unwrap()
    }

    pub(crate) fn begin_shutdown(&self) {
        self.stop_serving.cancel();
    }

    /// Ends everything and drops the database.
    pub(crate) async fn stop(self) {
        self.stop_serving.cancel();
        self.stop_rest.cancel();
        self.pool.close();
        self.admin
            .batch_execute(&format!("drop database {} with (force)", self.database))
            .await
            .unwrap();
    }

    /// Changes the tests' own projection, as `projections add` would from another process.
    pub(crate) async fn change_offers(&self, toml: impl FnOnce(String) -> String) {
        let folder = tempfile::tempdir().unwrap();
        let offers = folder.path().join("offers");
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projections/offers");
        std::fs::create_dir(&offers).unwrap();
        for file in ["table.sql", "key.sql", "apply.sql", "queries"] {
            std::os::unix::fs::symlink(own.join(file), offers.join(file)).unwrap();
        }
        let changed = toml(std::fs::read_to_string(own.join("projection.toml")).unwrap());
        std::fs::write(offers.join("projection.toml"), changed).unwrap();
        let catalogue = Catalogue::load(folder.path()).unwrap();
        let mut client = self.pool.get().await.unwrap();
        daybook_projection::install(&mut client, &catalogue).await.unwrap();
    }

    /// Changes the database behind the program's back.
    pub(crate) async fn sql(&self, sql: &str) {
        self.pool.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// A connection to its database.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let (client, connection) = self.config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn key(&self, role: Role) -> NewKey {
        let subject = role.is_bound().then(Uuid::new_v4);
        self.keys.create(self.tenant.id, role, subject, "test").await.unwrap()
    }

    pub(crate) fn request(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth(key)
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        send(self.request(Method::GET, path, key)).await
    }

    /// Asks the listener for operations.
    pub(crate) async fn operations(&self, path: &str) -> Answer {
        send(self.http.get(format!("http://{}{path}", self.operations))).await
    }

    /// A well-formed command of the operator's, not yet sent.
    pub(crate) fn command(&self, name: &str, key: &str, body: &Value) -> RequestBuilder {
        self.command_of(&self.operator, name, key, body)
    }

    pub(crate) fn command_of(
        &self,
        sender: &str,
        name: &str,
        key: &str,
        body: &Value,
    ) -> RequestBuilder {
        self.request(Method::POST, &format!("/v1/commands/{name}"), sender)
            .header("idempotency-key", key)
            .json(body)
    }

    pub(crate) async fn head(&self) -> i64 {
        self.reader.head(self.tenant.id).await.unwrap()
    }

    /// A position as those see it whom this path is for.
    pub(crate) fn shown(&self, path: &str, position: i64) -> String {
        self.shown_of(self.incarnation, path, position)
    }

    /// The same where the journal's history is another.
    pub(crate) fn shown_of(&self, incarnation: Uuid, path: &str, position: i64) -> String {
        if path.starts_with("/v1/operator/") {
            return position.to_string();
        }
        let plain = [&position.to_be_bytes()[..], incarnation.as_bytes()].concat();
        self.tokens.seal(format!(":position {}", self.tenant.id).as_bytes(), &plain)
    }

    /// The position that a customer or partner was shown.
    pub(crate) fn opened(&self, token: &str) -> i64 {
        let context = format!(":position {}", self.tenant.id);
        let plain = self.tokens.open(context.as_bytes(), token).expect("a sealed position");
        assert_eq!(&plain[8..], self.incarnation.as_bytes());
        i64::from_be_bytes(plain[..8].try_into().unwrap())
    }

    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        self.reader.events(self.tenant.id, 0, 10_000, &EventFilter::default()).await.unwrap()
    }

    /// A product that costs 250 GBP pence, with some in stock.
    pub(crate) async fn product(&self, sku: &str, units: i64) {
        // A key holds no space, a code may.
        let name = sku.replace(' ', "_");
        let product = json!({"sku": sku, "name": sku, "price": 250, "currency": "GBP"});
        send(self.command("AddProduct", &format!("add-{name}"), &product)).await.ok();
        let stock = json!({"sku": sku, "quantity": units});
        send(self.command("ReceiveStock", &format!("stock-{name}"), &stock)).await.ok();
    }

    /// An order of the customer's for one unit; its id.
    pub(crate) async fn order(&self, sku: &str, key: &str) -> String {
        let order = json!({"currency": "GBP", "lines": [{"sku": sku, "quantity": 1}]});
        let placed = send(self.command_of(&self.customer, "PlaceOrder", key, &order)).await.ok();
        placed["result"]["order_id"].as_str().unwrap().to_owned()
    }

    /// What the gateway's answer becomes: the backend's own command.
    pub(crate) async fn captured(&self, payment_id: &str) -> Accepted {
        self.captured_amount(payment_id, 250).await
    }

    pub(crate) async fn captured_amount(&self, payment_id: &str, amount: i64) -> Accepted {
        let captured = json!({"gateway_payment_id": "gw_1", "amount": amount, "currency": "GBP"});
        self.payment_ended(payment_id, &json!({"captured": captured})).await
    }

    pub(crate) async fn payment_ended(&self, payment_id: &str, outcome: &Value) -> Accepted {
        let body = json!({"payment_id": payment_id, "outcome": outcome});
        let command = Command::RecordPaymentOutcome(serde_json::from_value(body).unwrap());
        let request = Request {
            command,
            authority: Authority::Backend,
            principal: "backend".to_owned(),
            key: format!("job:{payment_id}"),
            correlation: Uuid::now_v7(),
            causation: None,
            traceparent: None,
            occurred_at: None,
            if_match: None,
            deadline: Duration::from_secs(5),
            keep: None,
        };
        match self.shop.execute(self.tenant.id, request).await.unwrap().verdict {
            Verdict::Accepted(accepted) => accepted,
            Verdict::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    // A stream has no end: reading it whole would wait for ever.
    let is_stream = headers.get("content-type").is_some_and(|t| t == "text/event-stream");
    assert!(!is_stream, "a stream was opened: {status}");
    Answer { status, headers, text: response.text().await.unwrap() }
}

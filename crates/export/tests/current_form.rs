//! Parquet files and analysts' views against a real PostgreSQL: the same events, in the current form,
//! with the types that the schemas say.

#![allow(clippy::unwrap_used, reason = "a failure in a helper fails the test")]

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    Array, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, cast::AsArray,
};
use daybook_export::{
    ExportError, ExportProgress, ExportSettings, Format, Manifest, Plan, Schemas, export,
    install_views,
};
use daybook_journal::{Reader, Upcaster, Upcasters};
use deadpool_postgres::{Manager, Pool};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// A migrated database of its own; [`Database::drop`] removes it.
struct Database {
    name: String,
    admin: Config,
}

impl Database {
    async fn create() -> Self {
        let url = std::env::var("DAYBOOK_TEST_DATABASE_URL").unwrap_or_else(|_| {
            panic!(
                "DAYBOOK_TEST_DATABASE_URL is not set: run ./scripts/test, which starts PostgreSQL"
            )
        });
        let admin: Config = url.parse().unwrap();
        let database = Self { name: format!("export_{}", Uuid::new_v4().simple()), admin };
        let create = format!("create database {}", database.name);
        connect(&database.admin).await.batch_execute(&create).await.unwrap();
        let mut client = database.client().await;
        daybook_journal::migrate(&mut client).await.unwrap();
        upcasters().install(&client).await.unwrap();
        database.reader().add_tenant("main", 1).await.unwrap();
        database
    }

    fn config(&self) -> Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    fn reader(&self) -> Reader {
        let manager = Manager::new(self.config(), NoTls);
        Reader::new(Pool::builder(manager).max_size(2).build().unwrap())
    }

    async fn drop(self) {
        let drop = format!("drop database {} with (force)", self.name);
        connect(&self.admin).await.batch_execute(&drop).await.unwrap();
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// In version 1, ThingSold had no discount.
fn upcasters() -> Upcasters {
    let sql = "data || '{\"discount\": 0}'";
    Upcasters::new(vec![Upcaster { kind: "ThingSold", from: 1, sql }]).unwrap()
}

fn schemas() -> Schemas {
    let integer = json!({ "type": "integer" });
    let sold = json!({ "description": "A thing was sold.", "properties": {
        "id": { "type": "string", "format": "uuid" },
        "customer": { "type": ["string", "null"], "description": "Who bought it." },
        "at": { "type": ["string", "null"], "format": "date-time" },
        "paid": { "type": "boolean" },
        "total": integer,
        "discount": integer,
        "lines": { "type": "array", "items": { "type": "object", "properties": {
            "sku": { "type": "string" }, "quantity": integer } } },
        "tags": { "type": "array", "items": { "type": "string" } },
    } });
    let lost = json!({ "properties": { "id": { "type": "string", "format": "uuid" } } });
    Schemas::new([("ThingSold".to_owned(), 2, sold), ("ThingLost".to_owned(), 1, lost)]).unwrap()
}

const ID: &str = "b0000000-0000-7000-8000-000000000001";

/// Writes an event as it is stored, at the next position of tenant 1.
async fn store(client: &Client, kind: &str, version: i16, data: &serde_json::Value) {
    let meta = json!({ "actor": "key:1", "command": "Sell", "command_id": ID,
                       "correlation": ID, "key": "k", "traceparent": "00-a-b-01" });
    client
        .execute(
            "insert into journal.events (tenant, position, stream, version, type, schema_version,
                data, meta, occurred_at, recorded_at, mac)
             select 1, n, 's', n, $1, $2, $3::text::jsonb, $4::text::jsonb, '2026-01-02 03:04:05Z',
                '2026-01-02 03:04:05.000006Z', decode(repeat('00', 33), 'hex')
             from (select count(*) + 1 from journal.events) as next (n)",
            &[&kind, &version, &data.to_string(), &meta.to_string()],
        )
        .await
        .unwrap();
}

struct Silent;

impl ExportProgress for Silent {
    fn planned(&self, _plan: &Plan, _next: i64) {}
    fn reached(&self, _position: i64) {}
}

async fn export_parquet(database: &Database, dir: &Path) -> Result<Manifest, ExportError> {
    let reader = database.reader();
    let settings = ExportSettings {
        format: Format::Parquet,
        tenant: reader.tenant("main").await.unwrap().unwrap(),
        from: 1,
        until: None,
        dir: dir.to_owned(),
        file_events: 1_000,
        schemas: Arc::new(schemas()),
        upcasters: upcasters(),
    };
    export(&reader, &settings, Arc::new(Silent)).await
}

fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap();
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    batch
}

fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> &'a T {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let found = column.data_type().clone();
    column.as_any().downcast_ref().unwrap_or_else(|| panic!("{name} is {found}"))
}

/// Two sales in two versions and a loss.
async fn some_events(client: &Client) {
    let old = json!({ "id": ID, "customer": null, "at": null, "paid": false, "total": 1999,
                      "lines": [], "tags": ["a", "b"] });
    let new = json!({ "id": ID, "customer": "C \"1\"", "at": "2026-01-02T04:04:05.5+01:00",
                      "paid": true, "total": 9_007_199_254_740_991_i64, "discount": 5,
                      "lines": [{ "sku": "A", "quantity": 2 }, { "sku": "B", "quantity": -1 }],
                      "tags": [] });
    store(client, "ThingSold", 1, &old).await;
    store(client, "ThingLost", 1, &json!({ "id": ID })).await;
    store(client, "ThingSold", 2, &new).await;
}

#[tokio::test]
async fn parquet_holds_every_event_of_a_type_in_its_current_form() {
    let database = Database::create().await;
    some_events(&database.client().await).await;
    let dir = tempfile::tempdir().unwrap();
    let manifest = export_parquet(&database, &dir.path().join("out")).await.unwrap();
    let paths: Vec<(&str, u64, i64, i64)> = manifest
        .files
        .iter()
        .map(|file| (&*file.path, file.events, file.from, file.until))
        .collect();
    let (lost, sold) =
        ("ThingLost/events-000000000001.parquet", "ThingSold/events-000000000001.parquet");
    assert_eq!(paths, [(lost, 1, 2, 2), (sold, 2, 1, 3)]);

    let rows = read(&dir.path().join("out").join(sold));
    assert_eq!(column::<Int64Array>(&rows, "position").values(), &[1, 3]);
    assert_eq!(column::<Int64Array>(&rows, "schema_version").values(), &[2, 2]);
    assert_eq!(column::<Int64Array>(&rows, "stored_version").values(), &[1, 2]);
    assert_eq!(column::<StringArray>(&rows, "tenant").value(1), "main");
    assert_eq!(column::<StringArray>(&rows, "actor").value(0), "key:1");
    assert!(column::<StringArray>(&rows, "causation").is_null(0));
    let recorded = column::<TimestampMicrosecondArray>(&rows, "recorded_at");
    assert_eq!((recorded.value(0), recorded.timezone()), (1_767_323_045_000_006, Some("UTC")));
    assert_eq!(column::<Int64Array>(&rows, "total").values(), &[1_999, 9_007_199_254_740_991]);
    assert_eq!(column::<Int64Array>(&rows, "discount").values(), &[0, 5], "lifted");
    assert_eq!(column::<StringArray>(&rows, "id").value(0), ID);
    let customers = column::<StringArray>(&rows, "customer");
    assert!(customers.is_null(0));
    assert_eq!(customers.value(1), "C \"1\"");
    let paid = column::<BooleanArray>(&rows, "paid");
    assert_eq!((paid.value(0), paid.value(1)), (false, true));
    let at = column::<TimestampMicrosecondArray>(&rows, "at");
    assert!(at.is_null(0));
    assert_eq!(at.value(1), 1_767_323_045_500_000);
    assert_eq!(column::<StringArray>(&rows, "tags").value(0), "[\"a\", \"b\"]");
    let lines = column::<ListArray>(&rows, "lines");
    assert_eq!((lines.value_length(0), lines.value_length(1)), (0, 2));
    let of_second = lines.value(1);
    let of_second: &StructArray = of_second.as_struct();
    let quantities: &Int64Array = of_second.column_by_name("quantity").unwrap().as_primitive();
    assert_eq!(quantities.values(), &[2, -1]);
    database.drop().await;
}

#[tokio::test]
async fn what_the_schemas_do_not_say_is_refused_by_position() {
    let lines = json!({ "id": ID, "customer": null, "at": null, "paid": true, "total": 1,
                        "discount": 0, "lines": [], "tags": [] });
    let with = |member: &str, value: serde_json::Value| {
        let mut data = lines.clone();
        data[member] = value;
        data
    };
    for (kind, version, data, why) in [
        ("ThingFound", 1, json!({}), "type ThingFound is not known here"),
        ("ThingSold", 3, lines.clone(), "ThingSold/3 can't be read here, only version 2"),
        ("ThingSold", 2, with("more", json!(1)), "member more is not in the schema"),
        ("ThingSold", 2, with("total", json!("1")), "expected an integer"),
        ("ThingSold", 2, with("customer", json!(1)), "expected a text"),
        ("ThingSold", 2, with("paid", json!("yes")), "expected true or false"),
        ("ThingSold", 2, with("at", json!("yesterday")), "time \"yesterday\""),
        ("ThingSold", 2, with("lines", json!([1])), "expected an object"),
    ] {
        let database = Database::create().await;
        let client = database.client().await;
        store(&client, "ThingLost", 1, &json!({ "id": ID })).await;
        store(&client, kind, version, &data).await;
        let dir = tempfile::tempdir().unwrap();
        let error = export_parquet(&database, dir.path()).await.unwrap_err().to_string();
        assert!(error.starts_with("position 2: ") && error.contains(why), "{error}");
        assert!(!dir.path().join("manifest.json").exists());
        database.drop().await;
    }
}

/// Columns of a view with their types.
async fn view(client: &Client, name: &str) -> Vec<String> {
    let sql = "select column_name || ' ' || data_type from information_schema.columns
               where table_schema = 'analyst' and table_name = $1 order by ordinal_position";
    client.query(sql, &[&name]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_view_of_each_type_has_its_events_and_rows_with_types() {
    let database = Database::create().await;
    let mut client = database.client().await;
    assert_eq!(install_views(&mut client, &schemas()).await.unwrap(), 3);
    some_events(&client).await;
    assert_eq!(
        view(&client, "event_thing_sold").await[15..],
        [
            "at timestamp with time zone",
            "customer text",
            "discount bigint",
            "id uuid",
            "lines jsonb",
            "paid boolean",
            "tags jsonb",
            "total bigint",
        ]
    );
    let sql = "select tenant || ' ' || sum(position) || ' ' || sum(total - discount) || ' '
                      || min(stored_version) || min(schema_version) || ' ' || count(at)
               from analyst.event_thing_sold group by tenant";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "main 4 9007199254742985 12 1");
    let sql = "select string_agg(position || sku || quantity || id, ' ' order by sku)
               from analyst.event_thing_sold_lines";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), format!("3A2{ID} 3B-1{ID}"));
    let sql = "select obj_description('analyst.event_thing_sold'::regclass),
                      col_description('analyst.event_thing_sold'::regclass, attnum)
               from pg_attribute
               where attrelid = 'analyst.event_thing_sold'::regclass and attname = 'customer'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(
        row.get::<_, String>(0).starts_with("A thing was sold. Each ThingSold, in its current")
    );
    assert_eq!(row.get::<_, String>(1), "Who bought it.");

    // What is the same is left alone; what has another column is made anew.
    assert_eq!(install_views(&mut client, &schemas()).await.unwrap(), 0);
    let more = json!({ "properties": { "id": { "type": "string", "format": "uuid" },
                                       "reason": { "type": "string" } } });
    let more = Schemas::new([("ThingLost".to_owned(), 2, more)]).unwrap();
    assert_eq!(install_views(&mut client, &more).await.unwrap(), 1);
    assert_eq!(view(&client, "event_thing_lost").await[15..], ["id uuid", "reason text"]);
    database.drop().await;
}

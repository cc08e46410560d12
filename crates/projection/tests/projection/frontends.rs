//! What the frontends get: each its own shape of the same rows.

use std::collections::BTreeMap;

use crate::{
    kit::{NewEvent, Running, append, caught_up, history::History, journal},
    queries::Served,
};
use daybook_projection::{AnswerShape, PrincipalScope};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

const ORDER: Uuid = Uuid::from_u128(0x0a);
const PAYMENT: Uuid = Uuid::from_u128(0x0b);
const REFUND: Uuid = Uuid::from_u128(0x0c);
/// A screen's worth of an order.
const MOBILE_BYTES: usize = 1_024;

/// Everybody at once: each query looks at its own part.
fn scope() -> PrincipalScope {
    PrincipalScope { customer_id: Some(Uuid::from_u128(1)), partner_id: Some(Uuid::from_u128(9)) }
}

/// Events of one order, a minute apart. What all of them say need not be given.
fn of_one_order(events: &[(&'static str, Value)]) -> Vec<NewEvent> {
    let minute = |n: usize| format!("2026-11-22T12:{n:02}:00Z").parse().unwrap();
    let full = |(n, (kind, more)): (usize, &(&'static str, Value))| {
        let stream = if kind.starts_with("Payment") {
            format!("payment-{PAYMENT}")
        } else {
            format!("order-{ORDER}")
        };
        let mut data = json!({
            "order_id": ORDER, "payment_id": PAYMENT, "customer_id": Uuid::from_u128(1),
            "country": "France", "currency": "GBP", "amount": 1_530
        });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        NewEvent { stream, kind, data, occurred_at: minute(n) }
    };
    events.iter().enumerate().map(full).collect()
}

fn placed(lines: usize, name: &str) -> (&'static str, Value) {
    let lines: Vec<Value> = (1..=lines)
        .map(|line| {
            json!({"line": line, "sku": format!("85123{line}"), "name": format!("{name} {line}"),
                "quantity": 6, "unit_price": 255, "amount": 1_530, "tracked": true})
        })
        .collect();
    let total = lines.len() * 1_530;
    let placed = json!({"lines": lines, "shipping": 0, "tax": 0, "total": total,
        "partner_id": Uuid::from_u128(9), "reference": "536365", "expires_at": null});
    ("OrderPlaced", placed)
}

async fn one(served: &Served, query: &str) -> Value {
    let id = ORDER.to_string();
    let answer = served.ask(query, scope(), &[("order_id", &id)]).await.unwrap();
    serde_json::from_str(&answer.json).unwrap()
}

#[tokio::test]
async fn the_website_tells_an_orders_history_in_words() {
    let shipped = |complete: bool, line: usize| {
        json!({"shipment": 1 + usize::from(complete), "complete": complete,
            "lines": [{"line": line, "sku": "x", "quantity": 6}]})
    };
    let served = Served::of(&of_one_order(&[
        placed(2, "cup"),
        ("OrderPaymentOpened", json!({"amount": 3_060})),
        ("OrderPaymentClosed", json!({"amount": 3_060, "reason": "card_declined: Anna's card"})),
        ("OrderPaymentOpened", json!({"amount": 3_060})),
        ("OrderPaymentCaptured", json!({"amount": 3_060})),
        ("OrderPaid", json!({"total": 3_060})),
        ("OrderShipped", shipped(false, 1)),
        ("OrderShipped", shipped(true, 2)),
        ("OrderDelivered", json!({})),
        (
            "OrderItemsReturned",
            json!({"credit": 255, "lines": [{"line": 2, "sku": "x", "quantity": 1, "credit": 255}]}),
        ),
        ("OrderRefundOpened", json!({"refund_id": REFUND, "amount": 255})),
        ("OrderRefundFailed", json!({"refund_id": REFUND, "amount": 255, "reason": "closed"})),
        ("OrderRefundOpened", json!({"refund_id": REFUND, "amount": 255})),
        ("OrderRefundSettled", json!({"refund_id": REFUND, "amount": 255})),
        ("OrderCredited", json!({"credit": 5, "reason": "Anna was cross"})),
    ]))
    .await;
    let order = one(&served, "web_order").await;
    let entries = order["history"].as_array().unwrap();
    let words: Vec<_> = entries
        .iter()
        .map(|e| (e["kind"].as_str().unwrap(), e["text"].as_str().unwrap()))
        .collect();
    assert_eq!(
        words,
        [
            ("placed", "Order placed: GBP 30.60."),
            ("payment_opened", "Payment of GBP 30.60 started."),
            ("payment_failed", "Payment of GBP 30.60 did not go through."),
            ("payment_opened", "Payment of GBP 30.60 started."),
            ("payment_captured", "Payment of GBP 30.60 received."),
            ("paid", "Order paid."),
            ("shipped", "Part of the order sent."),
            ("shipped", "Rest of the order sent."),
            ("delivered", "Order delivered."),
            ("returned", "Goods returned: GBP 2.55 credited."),
            ("refund_opened", "Refund of GBP 2.55 started."),
            ("refund_failed", "Refund of GBP 2.55 failed: the shop looks after it."),
            ("refund_opened", "Refund of GBP 2.55 started."),
            ("refunded", "Refund of GBP 2.55 made."),
            ("credited", "GBP 0.05 credited as goodwill."),
        ]
    );
    assert!(!order["history"].to_string().contains("Anna"), "nobody's own words are repeated");
    assert_eq!(entries[8]["at"], "2026-11-22T12:08:00+00:00");
    assert_eq!(one(&served, "operator_order").await["history"], order["history"]);
    let line = &order["lines"][1];
    assert_eq!([&line["shipped"], &line["returned"], &line["cancelled"]], [6, 1, 0]);
    assert_eq!(order["shipments"].as_array().unwrap().len(), 2);
    assert_eq!(order["refunds"][0]["status"], "settled");
}

#[tokio::test]
async fn money_is_written_with_its_currencys_decimals() {
    for (currency, text) in [("EUR", "EUR 15.30"), ("JPY", "JPY 1530"), ("KWD", "KWD 1.530")] {
        let mut events = of_one_order(&[placed(1, "cup")]);
        events[0].data["currency"] = json!(currency);
        let served = Served::of(&events).await;
        let order = one(&served, "web_order").await;
        assert_eq!(order["history"][0]["text"], format!("Order placed: {text}."));
    }
}

#[tokio::test]
async fn an_order_fits_a_small_screen_and_a_small_answer() {
    let ascii = "WHITE \"HANGING\" HEART T-LIGHT HOLDER, LARGE, BOXED";
    let wide = "白色挂心茶灯架大号盒装礼品套装系列豪华版本限量";
    for (lines, shown, name, short) in [
        (1, 1, ascii, "WHITE \"HANGING\" HEART T-LIGH"),
        (5, 5, ascii, "WHITE \"HANGING\" HEART T-LIGH"),
        (6, 5, wide, "白色挂心茶灯架大号盒装礼品套"),
        (400, 5, "\u{1f381}\u{1f381}\u{1f381}", "\u{1f381}\u{1f381}\u{1f381} 1"),
    ] {
        let mut events = vec![placed(lines, name)];
        events.extend((0..40).map(|_| ("OrderPaymentOpened", json!({}))));
        let served = Served::of(&of_one_order(&events)).await;
        let id = ORDER.to_string();
        let detail = served.ask("mobile_order", scope(), &[("order_id", &id)]).await.unwrap();
        assert!(detail.json.len() <= MOBILE_BYTES, "{} bytes: {}", detail.json.len(), detail.json);
        let order: Value = serde_json::from_str(&detail.json).unwrap();
        assert_eq!(order["lines"].as_array().unwrap().len(), shown);
        assert_eq!(order["more_lines"], lines - shown);
        assert_eq!(order["last"]["text"], "Payment of GBP 15.30 started.");
        assert_eq!(order["more_history"], 40);

        let list = served.ask("mobile_orders", scope(), &[]).await.unwrap();
        assert!(list.json.len() <= MOBILE_BYTES / 2, "{}", list.json);
        let items: Value = serde_json::from_str(&list.json).unwrap();
        assert_eq!(items[0]["title"], short);
        assert_eq!(order["lines"][0]["name"], short);
        assert_eq!(items[0]["more_lines"], lines - 1);
    }
}

/// A random history in which every third order is the partner's.
fn with_partner(seed: u64, length: usize) -> Vec<NewEvent> {
    let mut events = History::of_length(seed, length).events;
    let placed = events.iter_mut().filter(|event| event.kind == "OrderPlaced");
    for event in placed.step_by(3) {
        event.data["partner_id"] = json!(Uuid::from_u128(9));
    }
    events
}

/// All pages of a list.
async fn pages(served: &Served, query: &str, limit: &str, more: &[(&str, &str)]) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut params = more.to_vec();
        params.push(("limit", limit));
        if let Some(cursor) = &cursor {
            params.push(("cursor", cursor));
        }
        let answer = served.ask(query, scope(), &params).await.unwrap();
        seen.extend(serde_json::from_str::<Vec<Value>>(&answer.json).unwrap());
        cursor = answer.next;
        if cursor.is_none() {
            return seen;
        }
    }
}

#[tokio::test]
async fn every_list_holds_each_row_once_however_it_is_paged() {
    let mut events = with_partner(21, 900);
    events.extend(of_one_order(&[
        ("PaymentRequested", json!({})),
        ("PaymentUnresolved", json!({"reason": "odd"})),
        placed(1, "cup"),
        ("OrderShipped", json!({"shipment": 1, "complete": true, "lines": []})),
    ]));
    events.push(events[events.len() - 2].clone());
    let expiring = events.last_mut().unwrap();
    expiring.stream = "order-2".into();
    expiring.data["order_id"] = json!(Uuid::from_u128(2));
    expiring.data["expires_at"] = json!("2026-11-22T12:15:00.000000Z");
    let served = Served::of(&events).await;
    let mut lists = 0;
    for query in served.queries.declared().queries.iter().filter(|q| q.answer == AnswerShape::List)
    {
        let one = Uuid::from_u128(1).to_string();
        let given = |name: &str| if name == "currency" { "GBP" } else { one.as_str() };
        let required: Vec<_> = query
            .parameters
            .iter()
            .filter(|p| p.required)
            .map(|p| (p.name.as_str(), given(&p.name)))
            .collect();
        let whole = pages(&served, &query.name, "500", &required).await;
        assert!(!whole.is_empty(), "{}: the test has no row for it", query.name);
        assert_eq!(pages(&served, &query.name, "2", &required).await, whole, "{}", query.name);
        lists += 1;
    }
    assert!(lists >= 19, "{lists}");
}

#[tokio::test]
async fn a_partner_gets_flat_rows_with_the_same_names_everywhere() {
    let served = Served::of(&with_partner(22, 600)).await;
    let names = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let orders = pages(&served, "partner_orders", "500", &[]).await;
    let changes = pages(&served, "partner_order_changes", "500", &[]).await;
    assert!(orders.len() > 10 && changes.len() == orders.len());
    let mut lines_of_all = 0;
    for order in &orders {
        let id = order["order_id"].as_str().unwrap();
        let answer = served.ask("partner_order", scope(), &[("order_id", id)]).await.unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&answer.json).unwrap(), order);
        assert!(changes.contains(order));
        let lines = pages(&served, "partner_order_lines", "500", &[("order_id", id)]).await;
        let sum: i64 = lines.iter().map(|line| line["amount"].as_i64().unwrap()).sum();
        assert_eq!(order["total"], sum);
        assert_eq!(order["change"], lines[0]["change"]);
        lines_of_all += lines.len();
        for row in lines.iter().chain([order]) {
            let flat = row.as_object().unwrap().values();
            assert!(flat.clone().all(|v| !v.is_object() && !v.is_array()), "{row}");
        }
    }
    assert_eq!(pages(&served, "partner_order_lines", "7", &[]).await.len(), lines_of_all);
    // What programs elsewhere rely on: add names, but never change or remove one.
    assert_eq!(
        names(&orders[0]),
        [
            "change",
            "closed_at",
            "country",
            "credited",
            "currency",
            "customer_id",
            "delivered_at",
            "due",
            "expires_at",
            "order_id",
            "paid",
            "paid_at",
            "placed_at",
            "reference",
            "refunded",
            "shipped_at",
            "shipping",
            "status",
            "tax",
            "total",
            "units",
            "updated_at",
            "version"
        ]
    );
    let line = &pages(&served, "partner_order_lines", "1", &[]).await[0];
    assert_eq!(
        names(line),
        [
            "amount",
            "cancelled",
            "change",
            "currency",
            "line",
            "name",
            "order_id",
            "quantity",
            "returned",
            "shipped",
            "sku",
            "unit_price"
        ]
    );
}

/// What a partner's program has copied of one list so far.
#[derive(Default)]
struct Copied {
    rows: BTreeMap<String, Value>,
    after: i64,
    cursor: Option<String>,
}

impl Copied {
    /// One request, as the manual tells partners to send it.
    async fn poll(&mut self, served: &Served, query: &str, key: &[&str]) {
        let after = self.after.to_string();
        let mut params = vec![("after", after.as_str()), ("limit", "3")];
        if let Some(cursor) = &self.cursor {
            params.push(("cursor", cursor));
        }
        let answer = served.ask(query, scope(), &params).await.unwrap();
        for row in serde_json::from_str::<Vec<Value>>(&answer.json).unwrap() {
            let seen = row["change"].as_i64().unwrap();
            assert!(seen > self.after);
            let name = key.iter().map(|part| row[part].to_string()).collect::<Vec<_>>().join("/");
            self.rows.insert(name, row);
        }
        self.cursor = answer.next;
        if self.cursor.is_none() {
            let changes = self.rows.values().map(|row| row["change"].as_i64().unwrap());
            self.after = changes.max().unwrap_or(0);
        }
    }
}

#[tokio::test]
async fn a_partner_who_asks_for_changes_misses_none_while_everything_changes() {
    let events = with_partner(23, 900);
    let served = Served::of(&events[..100]).await;
    let running = Running::start(&served.database).await;
    let mut rng = StdRng::seed_from_u64(23);
    let (mut orders, mut lines) = (Copied::default(), Copied::default());
    let mut at = 100;
    while at < events.len() {
        let to = (at + rng.random_range(1..40)).min(events.len());
        append(&served.database.journal, 1, &events[at..to]).await;
        running.send(journal(&served.database, 1).await[at..to].to_vec()).await;
        caught_up(&served.database, &[]).await;
        at = to;
        // pages and changes in turns, so that rows change under a half-read list
        for _ in 0..rng.random_range(0..4) {
            orders.poll(&served, "partner_order_changes", &["order_id"]).await;
            lines.poll(&served, "partner_order_lines", &["order_id", "line"]).await;
        }
    }
    running.stop().await;
    let head = pages(&served, "partner_order_changes", "500", &[]).await;
    let last = head.last().unwrap()["change"].as_i64().unwrap();
    while orders.after < last || orders.cursor.is_some() {
        orders.poll(&served, "partner_order_changes", &["order_id"]).await;
    }
    while lines.after < last || lines.cursor.is_some() {
        lines.poll(&served, "partner_order_lines", &["order_id", "line"]).await;
    }
    let mut copied: Vec<Value> = orders.rows.into_values().collect();
    copied.sort_by_key(|row| row["change"].as_i64());
    assert_eq!(copied, head);
    let mut copied: Vec<Value> = lines.rows.into_values().collect();
    copied.sort_by_key(|row| (row["change"].as_i64(), row["line"].as_i64()));
    assert_eq!(copied, pages(&served, "partner_order_lines", "500", &[]).await);
}

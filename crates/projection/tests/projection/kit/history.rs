//! Random histories of a small shop, and what they come to by plain arithmetic.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::NewEvent;

pub(crate) struct History {
    rng: StdRng,
    now: DateTime<Utc>,
    pub(crate) events: Vec<NewEvent>,
    orders: Vec<Order>,
}

struct Order {
    id: Uuid,
    customer: Option<Uuid>,
    country: Option<&'static str>,
    lines: Vec<Value>,
    total: i64,
    phase: u8,
    payment: Uuid,
    shipments: i64,
}

const SKUS: [&str; 7] = ["A", "a", "B-1", "C'quote", "Ünï", "POST", "D"];
const COUNTRIES: [Option<&str>; 4] = [Some("United Kingdom"), Some("France"), Some("EIRE"), None];

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut history = Self {
            rng: StdRng::seed_from_u64(seed),
            now: "2010-12-01T22:00:00.000001Z".parse().unwrap(),
            events: Vec::new(),
            orders: Vec::new(),
        };
        for sku in SKUS {
            let tracked = sku != "POST";
            history.push(format!("product-{sku}"), "ProductAdded", json!({"sku": sku,
                "name": format!("Thing {sku}"), "price": 250, "currency": "GBP", "tracked": tracked}));
            if tracked {
                history.push(
                    format!("stock-{sku}"),
                    "StockReceived",
                    json!({"sku": sku, "quantity": 1000}),
                );
            }
        }
        history
    }

    /// A history of about this many events.
    pub(crate) fn of_length(seed: u64, length: usize) -> Self {
        let mut history = Self::new(seed);
        while history.events.len() < length {
            history.step();
        }
        history
    }

    /// The same with every other order as it was written before OrderPlaced said shipping and tax.
    pub(crate) fn with_old_orders(mut self) -> Self {
        let placed = self.events.iter_mut().filter(|event| event.kind == "OrderPlaced");
        for event in placed.step_by(2) {
            for later in ["shipping", "tax"] {
                let removed = event.data.as_object_mut().unwrap().remove(later);
                assert_eq!(removed, Some(json!(0)), "an old order has no {later}");
            }
        }
        self
    }

    fn push(&mut self, stream: String, kind: &'static str, data: Value) {
        self.events.push(NewEvent { stream, kind, data, occurred_at: self.now });
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_u128(self.rng.random())
    }

    pub(crate) fn step(&mut self) {
        self.now += Duration::microseconds(self.rng.random_range(0..7_200_000_000));
        let open: Vec<usize> =
            (0..self.orders.len()).filter(|i| self.orders[*i].phase < 4).collect();
        if open.is_empty() || self.rng.random_bool(0.3) {
            self.place();
        } else if self.rng.random_bool(0.05) {
            let sku = SKUS[self.rng.random_range(0..5)];
            let quantity = self.rng.random_range(-5..=5);
            self.push(
                format!("stock-{sku}"),
                "StockAdjusted",
                json!({"sku": sku, "quantity": quantity, "reason": "counted"}),
            );
        } else {
            let which = open[self.rng.random_range(0..open.len())];
            self.go_on(which);
        }
    }

    fn place(&mut self) {
        let (id, payment) = (self.id(), self.id());
        // few customers, so that lists have something to page through
        let customer =
            self.rng.random_bool(0.8).then(|| Uuid::from_u128(self.rng.random_range(1..=3)));
        let country = COUNTRIES[self.rng.random_range(0..COUNTRIES.len())];
        let count = self.rng.random_range(1..=12);
        let lines: Vec<Value> = (1..=count).map(|line| {
            let sku = SKUS[self.rng.random_range(0..SKUS.len())];
            let (quantity, price) = (self.rng.random_range(1..=9), self.rng.random_range(0..=999));
            json!({"line": line, "sku": sku, "name": format!("Thing {sku}"), "quantity": quantity,
                "unit_price": price, "amount": quantity * price, "tracked": sku != "POST"})
        }).collect();
        let total = lines.iter().map(|l| l["amount"].as_i64().unwrap()).sum();
        let stream = format!("order-{id}");
        self.push(
            stream,
            "OrderPlaced",
            json!({"order_id": id, "customer_id": customer,
            "partner_id": null, "reference": format!("R{}", self.orders.len()), "country": country,
            "currency": "GBP", "lines": lines, "shipping": 0, "tax": 0, "total": total,
            "expires_at": null}),
        );
        self.stock("StockReserved", id, &lines);
        self.orders.push(Order {
            id,
            customer,
            country,
            lines,
            total,
            phase: 0,
            payment,
            shipments: 0,
        });
    }

    fn stock(&mut self, kind: &'static str, order: Uuid, lines: &[Value]) {
        let mut sums = BTreeMap::new();
        for line in lines.iter().filter(|l| l["sku"] != "POST") {
            *sums.entry(line["sku"].as_str().unwrap().to_owned()).or_insert(0) +=
                line["quantity"].as_i64().unwrap();
        }
        for (sku, quantity) in sums {
            self.push(
                format!("stock-{sku}"),
                kind,
                json!({"sku": sku, "order_id": order, "quantity": quantity}),
            );
        }
    }

    fn go_on(&mut self, which: usize) {
        let order = &self.orders[which];
        let (id, customer, country, total, payment, shipments, lines) = (
            order.id,
            order.customer,
            order.country,
            order.total,
            order.payment,
            order.shipments,
            order.lines.clone(),
        );
        let stream = format!("order-{id}");
        let phase = match order.phase {
            0 if self.rng.random_bool(0.2) => {
                let kind =
                    if self.rng.random_bool(0.5) { "OrderCancelled" } else { "OrderExpired" };
                let gone: Vec<_> = lines
                    .iter()
                    .map(|l| {
                        json!({"line": l["line"], "sku": l["sku"],
                    "quantity": l["quantity"], "amount": l["amount"]})
                    })
                    .collect();
                let mut data = json!({"order_id": id, "customer_id": customer, "country": country,
                    "currency": "GBP", "lines": gone, "credit": total});
                if kind == "OrderCancelled" {
                    data["reason"] = json!("changed my mind");
                }
                self.push(stream, kind, data);
                self.stock("StockReleased", id, &lines);
                9
            }
            0 => {
                let requested = json!({"payment_id": payment, "order_id": id, "customer_id": customer,
                    "amount": total, "currency": "GBP", "gateway": "sandbox",
                    "deadline": "2012-01-01T00:00:00.000000Z"});
                let money = json!({"order_id": id, "payment_id": payment, "amount": total, "currency": "GBP"});
                self.push(format!("payment-{payment}"), "PaymentRequested", requested.clone());
                self.push(stream.clone(), "OrderPaymentOpened", money.clone());
                let mut captured = requested;
                captured.as_object_mut().unwrap().remove("deadline");
                captured["gateway_payment_id"] = json!("gw");
                self.push(format!("payment-{payment}"), "PaymentCaptured", captured);
                self.push(stream.clone(), "OrderPaymentCaptured", money);
                self.push(
                    stream,
                    "OrderPaid",
                    json!({"order_id": id, "customer_id": customer,
                    "country": country, "total": total, "currency": "GBP"}),
                );
                1
            }
            1 => {
                let all = lines.len() == 1 || shipments > 0 || self.rng.random_bool(0.5);
                let part: Vec<Value> = if shipments > 0 {
                    lines[1..].to_vec()
                } else if all {
                    lines.clone()
                } else {
                    lines[..1].to_vec()
                };
                let named: Vec<_> = part
                    .iter()
                    .map(|l| {
                        json!({"line": l["line"], "sku": l["sku"],
                    "quantity": l["quantity"]})
                    })
                    .collect();
                self.push(
                    stream,
                    "OrderShipped",
                    json!({"order_id": id, "customer_id": customer,
                    "shipment": shipments + 1, "lines": named, "complete": all}),
                );
                self.stock("StockShipped", id, &part);
                self.orders[which].shipments += 1;
                if all { 2 } else { 1 }
            }
            2 => {
                self.push(
                    stream,
                    "OrderDelivered",
                    json!({"order_id": id, "customer_id": customer}),
                );
                3
            }
            _ => {
                let (line, refund) = (lines[0].clone(), self.id());
                let credit = line["unit_price"].as_i64().unwrap();
                let back =
                    json!([{"line": 1, "sku": line["sku"], "quantity": 1, "credit": credit}]);
                self.push(
                    stream.clone(),
                    "OrderItemsReturned",
                    json!({"order_id": id,
                    "customer_id": customer, "country": country, "currency": "GBP",
                    "lines": back, "credit": credit}),
                );
                let one = json!({"sku": line["sku"], "quantity": 1});
                self.stock("StockReturned", id, &[one]);
                let money = json!({"order_id": id, "payment_id": payment, "refund_id": refund,
                    "amount": credit, "currency": "GBP"});
                let mut settled = money.clone();
                settled["settled_elsewhere"] = json!(true);
                self.push(format!("payment-{payment}"), "PaymentRefunded", settled);
                self.push(stream.clone(), "OrderRefundSettled", money);
                if self.rng.random_bool(0.3) {
                    self.push(
                        stream,
                        "OrderCredited",
                        json!({"order_id": id, "customer_id": customer,
                        "country": country, "currency": "GBP", "payment_id": payment, "credit": 5,
                        "reason": "sorry"}),
                    );
                }
                4
            }
        };
        self.orders[which].phase = phase;
    }
}

/// Stock by sku: on hand, reserved, shipped.
pub(crate) fn stock(events: &[NewEvent]) -> BTreeMap<String, (i64, i64, i64)> {
    let mut stock: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for event in events.iter().filter(|e| e.stream.starts_with("stock-")) {
        let row = stock.entry(event.data["sku"].as_str().unwrap().to_owned()).or_default();
        let quantity = event.data["quantity"].as_i64().unwrap();
        match event.kind {
            "StockReceived" | "StockAdjusted" | "StockReturned" => row.0 += quantity,
            "StockReserved" => row.1 += quantity,
            "StockReleased" => row.1 -= quantity,
            "StockShipped" => *row = (row.0 - quantity, row.1 - quantity, row.2 + quantity),
            other => panic!("{other}"),
        }
    }
    stock
}

/// Sales by some key of event and line: orders, units, sales, returned, cancelled.
pub(crate) fn sales(
    events: &[NewEvent],
    key: impl Fn(&NewEvent, &Value) -> String,
) -> BTreeMap<String, [i64; 4]> {
    let mut sales: BTreeMap<String, [i64; 4]> = BTreeMap::new();
    for event in events {
        let (place, money) = match event.kind {
            "OrderPlaced" => (1, "amount"),
            "OrderItemsReturned" => (2, "credit"),
            "OrderCancelled" | "OrderExpired" => (3, "amount"),
            _ => continue,
        };
        for line in event.data["lines"].as_array().unwrap() {
            let row = sales.entry(key(event, line)).or_default();
            if place == 1 {
                row[0] += line["quantity"].as_i64().unwrap();
            }
            row[place] += line[money].as_i64().unwrap();
        }
    }
    sales
}

//! What each read model must hold, worked out anew from all events by sums, firsts and lasts: no
//! rows are carried from event to event, and nothing is shared with the folders.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::histories::Event;

/// The rows that a shipped projection must hold, in no order.
pub(crate) fn rows(projection: &str, events: &[Event]) -> Vec<Value> {
    match projection {
        "orders" => by(events, "Order", "order_id").iter().map(|own| order(own)).collect(),
        "payments" => by(events, "Payment", "payment_id").iter().map(|own| payment(own)).collect(),
        "stock" => stock(events),
        "customers" => customers(events),
        "attention" => super::attention::rows(events),
        "sales_by_day" => sales(events, "day", |e| e.at.date_naive().to_string()),
        "sales_by_country" => {
            sales(events, "country", |e| e.data["country"].as_str().unwrap_or("").to_owned())
        }
        "sales_by_product" => sales_by_product(events),
        other => panic!("{other} has no plain fold: say here what its rows must be"),
    }
}

/// An event and its position.
pub(crate) type At<'a> = (i64, &'a Event);

/// Events of types that begin so, by what they are about.
pub(crate) fn by<'a>(events: &'a [Event], prefix: &str, id: &str) -> Vec<Vec<At<'a>>> {
    let mut groups: BTreeMap<&str, Vec<At<'a>>> = BTreeMap::new();
    for (position, event) in (1..).zip(events) {
        if event.kind.starts_with(prefix) {
            groups.entry(event.data[id].as_str().unwrap()).or_default().push((position, event));
        }
    }
    groups.into_values().collect()
}

pub(crate) fn time(at: DateTime<Utc>) -> Value {
    json!(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Sum of a field over the events of these types.
pub(crate) fn sum(own: &[At<'_>], kinds: &[&str], field: &str) -> i64 {
    let of_kind = own.iter().filter(|(_, event)| kinds.contains(&event.kind));
    of_kind.map(|(_, event)| event.data[field].as_i64().unwrap_or(0)).sum()
}

pub(crate) fn has(own: &[At<'_>], kind: &str) -> bool {
    own.iter().any(|(_, event)| event.kind == kind)
}

/// The last event of these types.
pub(crate) fn last<'a>(own: &[At<'a>], kinds: &[&str]) -> Option<&'a Event> {
    own.iter().rev().map(|(_, event)| *event).find(|event| kinds.contains(&event.kind))
}

fn last_at(own: &[At<'_>], kinds: &[&str]) -> Value {
    last(own, kinds).map_or(Value::Null, |event| time(event.at))
}

/// The last event of these types for each id, as an object.
fn lasts(own: &[At<'_>], kinds: &[&str], id: &str, say: impl Fn(&Event) -> Value) -> Value {
    let of_kind = own.iter().filter(|(_, event)| kinds.contains(&event.kind));
    let pairs = of_kind.map(|(_, event)| (event.data[id].as_str().unwrap().to_owned(), say(event)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn with(mut object: Value, name: &str, value: &Value) -> Value {
    object[name] = value.clone();
    object
}

fn units(event: &Event) -> i64 {
    let lines = event.data["lines"].as_array();
    lines.map_or(0, |lines| lines.iter().map(|l| l["quantity"].as_i64().unwrap()).sum())
}

fn order(own: &[At<'_>]) -> Value {
    let placed = own[0].1;
    assert_eq!(placed.kind, "OrderPlaced");
    let (position, newest) = own[own.len() - 1];
    let sent: Vec<_> = own.iter().filter(|(_, event)| event.kind == "OrderShipped").collect();
    let all_sent = sent.iter().any(|(_, event)| event.data["complete"] == true);
    let status = if has(own, "OrderDelivered") {
        "delivered"
    } else if all_sent {
        "shipped"
    } else if !sent.is_empty() {
        "partly_shipped"
    } else if has(own, "OrderCancelled") {
        "cancelled"
    } else if has(own, "OrderExpired") {
        "expired"
    } else if has(own, "OrderPaid") {
        "paid"
    } else {
        "placed"
    };
    let credit_kinds = ["OrderCancelled", "OrderExpired", "OrderItemsReturned", "OrderCredited"];
    let ends = ["OrderCancelled", "OrderExpired"];
    let credits = own.iter().filter(|(_, event)| credit_kinds.contains(&event.kind));
    let credits = credits.map(|(_, event)| {
        let credit = json!({"at": time(event.at), "credit": event.data["credit"]});
        let lines = |credit| with(credit, "lines", &event.data["lines"]);
        let reason = |credit| with(credit, "reason", &event.data["reason"]);
        let (kind, credit) = match event.kind {
            "OrderCancelled" => ("cancelled", reason(lines(credit))),
            "OrderExpired" => ("expired", with(lines(credit), "reason", &Value::Null)),
            "OrderItemsReturned" => ("returned", lines(credit)),
            _ => ("goodwill", reason(credit)),
        };
        with(credit, "kind", &json!(kind))
    });
    let history = own.iter().map(|(_, event)| {
        let data = &event.data;
        let said = ["credit", "complete", "amount", "total"].iter().find_map(|name| data.get(name));
        json!([time(event.at), event.kind, said])
    });
    json!({
        "order_id": placed.data["order_id"],
        "customer_id": placed.data["customer_id"],
        "partner_id": placed.data["partner_id"],
        "reference": placed.data["reference"],
        "country": placed.data["country"],
        "currency": placed.data["currency"],
        "status": status,
        "version": newest.version,
        "position": position,
        "shipping": sum(own, &["OrderPlaced"], "shipping"),
        "tax": sum(own, &["OrderPlaced"], "tax"),
        "total": placed.data["total"],
        "credited": sum(own, &credit_kinds, "credit"),
        "paid": sum(own, &["OrderPaymentCaptured"], "amount"),
        "refunded": sum(own, &["OrderRefundSettled"], "amount"),
        "units": units(placed),
        "placed_at": time(placed.at),
        "expires_at": deadline(own),
        "paid_at": last_at(own, &["OrderPaid"]),
        "shipped_at": sent.first().map_or(Value::Null, |(_, event)| time(event.at)),
        "delivered_at": last_at(own, &["OrderDelivered"]),
        "closed_at": last_at(own, &ends),
        "close_reason": last(own, &ends).map_or(&Value::Null, |event| &event.data["reason"]),
        "updated_at": time(newest.at),
        "lines": placed.data["lines"],
        "payments": lasts(
            own,
            &["OrderPaymentOpened", "OrderPaymentCaptured", "OrderPaymentClosed"],
            "payment_id",
            |event| {
                let money = |status: &str| {
                    json!({"amount": event.data["amount"], "status": status, "at": time(event.at)})
                };
                match event.kind {
                    "OrderPaymentOpened" => money("open"),
                    "OrderPaymentCaptured" => money("captured"),
                    _ => with(money("closed"), "reason", &event.data["reason"]),
                }
            },
        ),
        "refunds": lasts(
            own,
            &["OrderRefundOpened", "OrderRefundSettled", "OrderRefundFailed"],
            "refund_id",
            |event| {
                let money = |status: &str| {
                    json!({"payment_id": event.data["payment_id"], "amount": event.data["amount"],
                        "status": status, "at": time(event.at)})
                };
                match event.kind {
                    "OrderRefundOpened" => money("open"),
                    "OrderRefundSettled" => money("settled"),
                    _ => with(money("failed"), "reason", &event.data["reason"]),
                }
            },
        ),
        "shipments": sent.iter().map(|(_, event)| {
            json!({"shipment": event.data["shipment"], "shipped_at": time(event.at),
                "lines": event.data["lines"]})
        }).collect::<Vec<_>>(),
        "credits": credits.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    })
}

/// The deadline of an unpaid order: what the last event that can move it says.
pub(crate) fn deadline(own: &[At<'_>]) -> Value {
    let moves = [
        "OrderPlaced",
        "OrderPaymentOpened",
        "OrderPaymentCaptured",
        "OrderPaymentClosed",
        "OrderPaid",
        "OrderShipped",
        "OrderCancelled",
        "OrderExpired",
    ];
    last(own, &moves).and_then(|event| event.data.get("expires_at")).cloned().unwrap_or_default()
}

fn payment(own: &[At<'_>]) -> Value {
    let first = own[0].1;
    let recorded = last(own, &["PaymentRecorded"]);
    let declined = last(own, &["PaymentDeclined"]);
    let doubted = last(own, &["PaymentUnresolved"]);
    let (status, reason) = if has(own, "PaymentCaptured") || recorded.is_some() {
        ("captured", None)
    } else if declined.is_some() {
        ("declined", declined)
    } else if doubted.is_some() {
        ("unresolved", doubted)
    } else {
        ("open", None)
    };
    let attention =
        last(own, &["PaymentCaptured", "PaymentDeclined", "PaymentUnresolved", "PaymentDisputed"])
            .and_then(|event| match event.kind {
                "PaymentUnresolved" => event.data["reason"].as_str().map(str::to_owned),
                "PaymentDisputed" => {
                    let said = |name: &str| event.data[name].as_str().unwrap().to_owned();
                    Some(format!("disputed: {} ({})", said("status"), said("reason")))
                }
                _ => None,
            });
    let field = |event: Option<&Event>, name: &str| {
        event.map_or(Value::Null, |event| event.data[name].clone())
    };
    json!({
        "payment_id": first.data["payment_id"],
        "order_id": first.data["order_id"],
        "customer_id": first.data["customer_id"],
        "status": status,
        "amount": first.data["amount"],
        "currency": first.data["currency"],
        "refunded": sum(own, &["PaymentRefunded"], "amount"),
        "method": recorded.map_or(json!("gateway"), |event| event.data["method"].clone()),
        "gateway": first.data["gateway"],
        "gateway_payment_id":
            field(last(own, &["PaymentIdentified", "PaymentCaptured"]), "gateway_payment_id"),
        "reference": field(recorded, "reference"),
        "reason": field(reason, "reason"),
        "attention": attention,
        "requested_at": time(first.at),
        "deadline": field(last(own, &["PaymentRequested"]), "deadline"),
        "settled_at": last_at(own, &["PaymentCaptured", "PaymentDeclined", "PaymentRecorded"]),
        "refunds": lasts(
            own,
            &["PaymentRefundRequested", "PaymentRefunded", "PaymentRefundFailed"],
            "refund_id",
            |event| {
                let (status, more) = match event.kind {
                    "PaymentRefundRequested" => ("open", "reason"),
                    "PaymentRefunded" => ("settled", "settled_elsewhere"),
                    _ => ("failed", "reason"),
                };
                let refund = json!({"amount": event.data["amount"], "status": status,
                    "at": time(event.at)});
                with(refund, more, &event.data[more])
            },
        ),
        "disputes": lasts(own, &["PaymentDisputed"], "dispute_id", |event| {
            json!({"amount": event.data["disputed"], "currency": event.data["disputed_currency"],
                "status": event.data["status"], "reason": event.data["reason"],
                "at": time(event.at)})
        }),
    })
}

fn stock(events: &[Event]) -> Vec<Value> {
    let added = events.iter().filter(|event| event.kind == "ProductAdded");
    let tracked = added.filter(|event| event.data["tracked"] == true);
    tracked
        .map(|product| {
            let sku = &product.data["sku"];
            let own = events.iter().filter(|event| {
                event.data["sku"] == *sku
                    && (event.kind.starts_with("Stock")
                        || matches!(event.kind, "ProductAdded" | "ProductDiscontinued"))
            });
            let own: Vec<At<'_>> = own.map(|event| (0, event)).collect();
            let units = |kind: &str| sum(&own, &[kind], "quantity");
            let gone = units("StockShipped");
            json!({
                "sku": sku,
                "name": product.data["name"],
                "discontinued": has(&own, "ProductDiscontinued"),
                "on_hand": units("StockReceived") + units("StockAdjusted") + units("StockReturned")
                    - gone,
                "reserved": units("StockReserved") - units("StockReleased") - gone,
                "received": units("StockReceived"),
                "adjusted": units("StockAdjusted"),
                "shipped": gone,
                "returned": units("StockReturned"),
                "updated_at": time(own[own.len() - 1].1.at),
            })
        })
        .collect()
}

/// Sums over everything of one key and currency.
fn sales(events: &[Event], name: &str, key: impl Fn(&Event) -> String) -> Vec<Value> {
    let called_off = ["OrderCancelled", "OrderExpired"];
    let mut groups: BTreeMap<(String, String), Vec<At<'_>>> = BTreeMap::new();
    for event in events {
        let counts = matches!(event.kind, "OrderPlaced" | "OrderItemsReturned" | "OrderCredited")
            || called_off.contains(&event.kind);
        if counts {
            let currency = event.data["currency"].as_str().unwrap().to_owned();
            groups.entry((key(event), currency)).or_default().push((0, event));
        }
    }
    let row = |((key, currency), own): ((String, String), Vec<At<'_>>)| {
        let units = |kinds: &[&str]| -> i64 {
            let of_kind = own.iter().filter(|(_, event)| kinds.contains(&event.kind));
            of_kind.map(|(_, event)| units(event)).sum()
        };
        json!({
            name: key,
            "currency": currency,
            "orders": own.iter().filter(|(_, event)| event.kind == "OrderPlaced").count(),
            "units": units(&["OrderPlaced"]),
            "sales": sum(&own, &["OrderPlaced"], "total"),
            "returned_units": units(&["OrderItemsReturned"]),
            "returned": sum(&own, &["OrderItemsReturned"], "credit"),
            "cancelled_units": units(&called_off),
            "cancelled": sum(&own, &called_off, "credit"),
            "goodwill": sum(&own, &["OrderCredited"], "credit"),
        })
    };
    groups.into_iter().map(row).collect()
}

fn sales_by_product(events: &[Event]) -> Vec<Value> {
    let kinds = ["OrderPlaced", "OrderItemsReturned", "OrderCancelled", "OrderExpired"];
    let mut groups: BTreeMap<(&str, &str), Vec<(&Event, &Value)>> = BTreeMap::new();
    for event in events.iter().filter(|event| kinds.contains(&event.kind)) {
        for line in event.data["lines"].as_array().unwrap() {
            let key = (line["sku"].as_str().unwrap(), event.data["currency"].as_str().unwrap());
            groups.entry(key).or_default().push((event, line));
        }
    }
    let row = |((sku, currency), own): ((&str, &str), Vec<(&Event, &Value)>)| {
        let sum = |kinds: &[&str], field: &str| -> i64 {
            let of_kind = own.iter().filter(|(event, _)| kinds.contains(&event.kind));
            of_kind.map(|(_, line)| line[field].as_i64().unwrap()).sum()
        };
        let called_off = ["OrderCancelled", "OrderExpired"];
        let placed = own.iter().filter(|(event, _)| event.kind == "OrderPlaced");
        let orders: BTreeSet<_> = placed.map(|(event, _)| event.stream.as_str()).collect();
        json!({
            "sku": sku,
            "currency": currency,
            "orders": orders.len(),
            "units": sum(&["OrderPlaced"], "quantity"),
            "sales": sum(&["OrderPlaced"], "amount"),
            "returned_units": sum(&["OrderItemsReturned"], "quantity"),
            "returned": sum(&["OrderItemsReturned"], "credit"),
            "cancelled_units": sum(&called_off, "quantity"),
            "cancelled": sum(&called_off, "amount"),
        })
    };
    groups.into_iter().map(row).collect()
}

fn customers(events: &[Event]) -> Vec<Value> {
    let kinds = [
        "OrderPlaced",
        "OrderItemsReturned",
        "OrderCancelled",
        "OrderExpired",
        "OrderCredited",
        "PaymentCaptured",
        "PaymentRecorded",
        "PaymentRefunded",
    ];
    let mut groups: BTreeMap<(&str, &str), Vec<At<'_>>> = BTreeMap::new();
    for event in events.iter().filter(|event| kinds.contains(&event.kind)) {
        if let Some(customer) = event.data["customer_id"].as_str() {
            let key = (customer, event.data["currency"].as_str().unwrap());
            groups.entry(key).or_default().push((0, event));
        }
    }
    let row = |((customer, currency), own): ((&str, &str), Vec<At<'_>>)| {
        let placed: Vec<_> =
            own.iter().filter(|(_, e)| e.kind == "OrderPlaced").map(|(_, e)| e.at).collect();
        let called_off = ["OrderCancelled", "OrderExpired"];
        let closed = own.iter().filter(|(_, event)| called_off.contains(&event.kind));
        let sales = sum(&own, &["OrderPlaced"], "total");
        let returned = sum(&own, &["OrderItemsReturned"], "credit");
        let cancelled = sum(&own, &called_off, "credit");
        let goodwill = sum(&own, &["OrderCredited"], "credit");
        json!({
            "customer_id": customer,
            "currency": currency,
            "orders": placed.len(),
            "closed_orders": closed.count(),
            "sales": sales,
            "returned": returned,
            "cancelled": cancelled,
            "goodwill": goodwill,
            "value": sales - returned - cancelled - goodwill,
            "paid": sum(&own, &["PaymentCaptured", "PaymentRecorded"], "amount"),
            "refunded": sum(&own, &["PaymentRefunded"], "amount"),
            "first_order_at": placed.iter().min().map(|at| time(*at)),
            "last_order_at": placed.iter().max().map(|at| time(*at)),
        })
    };
    groups.into_iter().map(row).collect()
}

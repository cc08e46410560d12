//! What somebody waits for, worked out anew for every moment of an order.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    histories::Event,
    plain::{At, deadline, has, last, sum, time},
};

/// Of the order's events, those of payments that say something that may wait for a person.
const OF_PAYMENTS: [&str; 4] =
    ["PaymentCaptured", "PaymentDeclined", "PaymentUnresolved", "PaymentDisputed"];
/// Of the order's own, those that change nothing for anybody.
const NOTHING_NEW: [&str; 2] = ["OrderPaid", "OrderDelivered"];

pub(crate) fn rows(events: &[Event]) -> Vec<Value> {
    let mut groups: BTreeMap<&str, Vec<At<'_>>> = BTreeMap::new();
    for event in events {
        let own = event.kind.starts_with("Order") && !NOTHING_NEW.contains(&event.kind);
        if own || OF_PAYMENTS.contains(&event.kind) {
            groups.entry(event.data["order_id"].as_str().unwrap()).or_default().push((0, event));
        }
    }
    groups.into_iter().filter_map(|(id, own)| row(id, &own)).collect()
}

fn row(order_id: &str, own: &[At<'_>]) -> Option<Value> {
    let balances: Vec<i64> = (0..own.len()).map(|n| balance(&own[..=n])).collect();
    // since when something has held without a break; none, if it doesn't hold now
    let since = |holds: &dyn Fn(usize) -> bool| -> Value {
        let run = (0..own.len()).rev().take_while(|n| holds(*n)).last();
        run.map_or(Value::Null, |first| time(own[first].1.at))
    };
    let balance = balances[own.len() - 1];
    let refunding = sum(own, &["OrderRefundOpened"], "amount")
        - sum(own, &["OrderRefundSettled", "OrderRefundFailed"], "amount");
    let matters = matters(own, &balances);
    let payments: Map<String, Value> = ids(own, "payment_id")
        .into_iter()
        .filter_map(|id| Some((id.to_owned(), open(own, id)?["amount"].clone())))
        .collect();
    if balance == 0 && refunding == 0 && !to_ship(own) && payments.is_empty() && matters.is_empty()
    {
        return None;
    }
    let said = |name: &str| {
        own.iter().map(|(_, event)| &event.data[name]).find(|value| !value.is_null()).cloned()
    };
    Some(json!({
        "order_id": order_id,
        "customer_id": said("customer_id"),
        "currency": said("currency"),
        "balance": balance,
        "refunding": refunding,
        "to_ship": to_ship(own),
        "expires_at": deadline(own),
        "paid_since": since(&|n| to_ship(&own[..=n]) && balances[n] >= 0),
        "unpaid_since": since(&|n| !to_ship(&own[..=n]) && balances[n] < 0),
        "payments": payments,
        "since": matters.values().map(|matter| matter["since"].as_str()).min(),
        "matters": matters,
        "updated_at": time(own[own.len() - 1].1.at),
    }))
}

/// What is kept less what is due.
fn balance(own: &[At<'_>]) -> i64 {
    let credits = ["OrderCancelled", "OrderExpired", "OrderItemsReturned", "OrderCredited"];
    sum(own, &["OrderPaymentCaptured", "OrderRefundFailed"], "amount")
        - sum(own, &["OrderRefundOpened"], "amount")
        - sum(own, &["OrderPlaced"], "total")
        + sum(own, &credits, "credit")
}

fn to_ship(own: &[At<'_>]) -> bool {
    let all_sent = own.iter().any(|(_, event)| event.data["complete"] == true);
    has(own, "OrderPlaced") && !all_sent && !has(own, "OrderCancelled") && !has(own, "OrderExpired")
}

fn ids<'a>(own: &[At<'a>], name: &str) -> Vec<&'a str> {
    let mut ids: Vec<&str> = own.iter().filter_map(|(_, e)| e.data[name].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn about<'a>(own: &[At<'a>], name: &str, id: &str) -> Vec<At<'a>> {
    own.iter().filter(|(_, event)| event.data[name] == id).copied().collect()
}

/// The event that opened a payment which is under way.
fn open<'a>(own: &[At<'a>], payment: &str) -> Option<&'a Value> {
    let turns = ["OrderPaymentOpened", "OrderPaymentCaptured", "OrderPaymentClosed"];
    let turn = last(&about(own, "payment_id", payment), &turns)?;
    (turn.kind == "OrderPaymentOpened").then_some(&turn.data)
}

fn matters(own: &[At<'_>], balances: &[i64]) -> Map<String, Value> {
    let mut matters = Map::new();
    for id in ids(own, "payment_id") {
        let settles = |(_, event): &At<'_>| {
            event.data["payment_id"] == id
                && matches!(event.kind, "PaymentCaptured" | "PaymentDeclined")
        };
        let from = own.iter().rposition(settles).map_or(0, |at| at + 1);
        let doubts = |(_, event): &&At<'_>| {
            event.kind == "PaymentUnresolved" && event.data["payment_id"] == id
        };
        let Some((_, first)) = own[from..].iter().find(doubts) else { continue };
        let at = own.iter().rposition(|event| doubts(&event)).unwrap();
        let newest = own[at].1;
        let kind = if open(&own[..at], id).is_some() { "unresolved" } else { "contradiction" };
        matters.insert(
            id.to_owned(),
            json!({"kind": kind, "payment_id": id, "since": time(first.at),
                "amount": newest.data["amount"], "text": newest.data["reason"]}),
        );
    }
    for id in ids(own, "dispute_id") {
        let turns = about(own, "dispute_id", id);
        let ended = |(_, event): &At<'_>| {
            ["won", "prevented", "warning_closed"].iter().any(|end| event.data["status"] == *end)
        };
        let stands = &turns[turns.iter().rposition(ended).map_or(0, |at| at + 1)..];
        let (Some((_, first)), Some((_, newest))) = (stands.first(), stands.last()) else {
            continue;
        };
        let said = |name: &str| newest.data[name].as_str().unwrap();
        matters.insert(
            id.to_owned(),
            json!({"kind": "dispute", "payment_id": newest.data["payment_id"],
                "since": time(first.at), "amount": newest.data["disputed"],
                "text": format!("{} ({})", said("status"), said("reason"))}),
        );
    }
    for id in ids(own, "refund_id") {
        let failed = |(_, event): &At<'_>| {
            event.kind == "OrderRefundFailed" && event.data["refund_id"] == id
        };
        let Some(at) = own.iter().rposition(failed) else { continue };
        if balances[at..].iter().all(|balance| *balance > 0) {
            let event = own[at].1;
            matters.insert(
                id.to_owned(),
                json!({"kind": "refund_failed", "payment_id": event.data["payment_id"],
                    "since": time(event.at), "amount": event.data["amount"],
                    "text": event.data["reason"]}),
            );
        }
    }
    matters
}

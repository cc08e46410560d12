//! How an order goes.

mod cancel;
mod goods;
mod money;
mod properties;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::*;
use crate::{
    Amount, Money, PaymentId, Quantity, RefundId, RefundSeed, Sku,
    spec::{Given, given},
};

const SEED: RefundSeed = RefundSeed(Uuid::from_u128(0xfeed));

fn amount(minor: i64) -> Amount {
    Amount::new(minor).unwrap()
}

fn gbp(minor: i64) -> Money {
    amount(minor).of(Currency::from_code("GBP").unwrap())
}

fn eur(minor: i64) -> Money {
    amount(minor).of(Currency::from_code("EUR").unwrap())
}

fn quantity(units: i64) -> Quantity {
    Quantity::new(units).unwrap()
}

fn order() -> OrderId {
    OrderId(Uuid::from_u128(1))
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields it goes into")]
fn customer() -> Option<CustomerId> {
    Some(CustomerId(Uuid::from_u128(2)))
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields it goes into")]
fn country() -> Option<Text> {
    Some("France".into())
}

fn pay(n: u128) -> PaymentId {
    PaymentId(Uuid::from_u128(100 + n))
}

/// The id of a refund of payment `n` by the commands of these tests.
fn refund_of(n: u128) -> RefundId {
    SEED.id_for(pay(n))
}

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
}

/// 2 cups of 300 and 4 plates of 100: 1000 in all.
fn new_order() -> NewOrder {
    let line = |sku: &str, units, price| NewLine {
        sku: Sku::new(sku).unwrap(),
        name: sku.to_lowercase().into(),
        quantity: quantity(units),
        unit_price: amount(price),
        tracked: true,
    };
    NewOrder {
        order: order(),
        customer: customer(),
        partner: None,
        reference: None,
        country: country(),
        currency: gbp(0).currency,
        lines: vec![line("CUP", 2, 300), line("PLATE", 4, 100)],
        shipping: Amount::ZERO,
        tax: Amount::ZERO,
        expected_total: None,
        expires_at: Some(at(15)),
    }
}

fn placed_lines() -> Arc<[Line]> {
    let line = |line, sku: &str, units, price, amount_| Line {
        line,
        sku: Sku::new(sku).unwrap(),
        name: sku.to_lowercase().into(),
        quantity: quantity(units),
        unit_price: amount(price),
        amount: amount(amount_),
        tracked: true,
    };
    Arc::new([line(1, "CUP", 2, 300, 600), line(2, "PLATE", 4, 100, 400)])
}

fn placed() -> Event {
    Event::Placed(PlacedOrder {
        order: order(),
        customer: customer(),
        partner: None,
        reference: None,
        country: country(),
        currency: gbp(0).currency,
        lines: placed_lines(),
        shipping: Amount::ZERO,
        tax: Amount::ZERO,
        total: amount(1000),
        expires_at: Some(at(15)),
    })
}

fn opened(n: u128, minor: i64) -> Event {
    Event::PaymentOpened { order: order(), payment: pay(n), money: gbp(minor) }
}

fn captured(n: u128, minor: i64) -> Event {
    captured_until(n, minor, None)
}

fn captured_until(n: u128, minor: i64, expires_at: Option<DateTime<Utc>>) -> Event {
    let (payment, money) = (pay(n), gbp(minor));
    Event::PaymentCaptured { order: order(), payment, money, expires_at }
}

fn closed(n: u128, minor: i64, expires_at: Option<DateTime<Utc>>) -> Event {
    let (payment, money, reason) = (pay(n), gbp(minor), "declined".into());
    Event::PaymentClosed { order: order(), payment, money, reason, expires_at }
}

fn paid() -> Event {
    let (customer, country) = (customer(), country());
    Event::Paid { order: order(), customer, country, total: gbp(1000) }
}

fn shipped(shipment: u32, lines: &[(u32, i64)], complete: bool) -> Event {
    let lines = lines.iter().map(|(line, units)| ShippedLine {
        line: *line,
        sku: sku_of(*line),
        quantity: quantity(*units),
    });
    let (order, customer, lines) = (order(), customer(), lines.collect());
    Event::Shipped { order, customer, shipment, lines, complete }
}

fn all_shipped() -> Event {
    shipped(1, &[(1, 2), (2, 4)], true)
}

fn returned(lines: &[(u32, i64, i64)]) -> Event {
    let credit = amount(lines.iter().map(|(_, _, credit)| credit).sum());
    let lines = lines.iter().map(|(line, units, credit)| ReturnedLine {
        line: *line,
        sku: sku_of(*line),
        quantity: quantity(*units),
        credit: amount(*credit),
    });
    let (customer, country, currency) = (customer(), country(), gbp(0).currency);
    let lines = lines.collect();
    Event::ItemsReturned { order: order(), customer, country, currency, lines, credit }
}

fn cancelled_lines() -> Arc<[CancelledLine]> {
    let line = |line, units, minor| CancelledLine {
        line,
        sku: sku_of(line),
        quantity: quantity(units),
        amount: amount(minor),
    };
    Arc::new([line(1, 2, 600), line(2, 4, 400)])
}

fn cancelled(credit: i64) -> Event {
    Event::Cancelled {
        order: order(),
        customer: customer(),
        country: country(),
        currency: gbp(0).currency,
        reason: "changed my mind".into(),
        lines: cancelled_lines(),
        credit: amount(credit),
    }
}

fn expired() -> Event {
    Event::Expired {
        order: order(),
        customer: customer(),
        country: country(),
        currency: gbp(0).currency,
        lines: cancelled_lines(),
        credit: amount(1000),
    }
}

fn refund_opened(n: u128, minor: i64) -> Event {
    let (payment, refund, money) = (pay(n), refund_of(n), gbp(minor));
    Event::RefundOpened { order: order(), payment, refund, money }
}

fn refund_settled(n: u128, minor: i64) -> Event {
    let (payment, refund, money) = (pay(n), refund_of(n), gbp(minor));
    Event::RefundSettled { order: order(), payment, refund, money }
}

fn refund_failed(n: u128, minor: i64, reason: &str) -> Event {
    let (payment, refund, money) = (pay(n), refund_of(n), gbp(minor));
    Event::RefundFailed { order: order(), payment, refund, money, reason: reason.into() }
}

fn sku_of(line: u32) -> Sku {
    Sku::new(if line == 1 { "CUP" } else { "PLATE" }).unwrap()
}

fn open(n: u128, money: Money) -> Command {
    Command::OpenPayment { payment: pay(n), money }
}

fn record(n: u128, money: Money) -> Command {
    Command::RecordPayment { payment: pay(n), money, expires_at: at(60) }
}

fn capture(n: u128) -> Command {
    Command::RecordCapture { payment: pay(n), expires_at: at(60), seed: SEED }
}

fn close(n: u128) -> Command {
    Command::RecordClose { payment: pay(n), reason: "declined".into(), expires_at: at(60) }
}

fn ship(lines: Option<&[(u32, i64)]>) -> Command {
    let line = |(line, units): &(u32, i64)| ShipLine { line: *line, quantity: quantity(*units) };
    let lines = lines.map(|lines| lines.iter().map(line).collect());
    Command::Ship { lines, on_account: false }
}

fn take_back(lines: &[(u32, i64, Option<i64>)], by: RefundBy) -> Command {
    let lines = lines.iter().map(|(line, units, credit)| ReturnLine {
        line: *line,
        quantity: quantity(*units),
        credit: credit.map(amount),
    });
    Command::Return { lines: lines.collect(), by, seed: SEED }
}

fn cancel() -> Command {
    Command::Cancel { reason: "changed my mind".into(), seed: SEED }
}

fn expire(deadline: DateTime<Utc>) -> Command {
    Command::Expire { deadline, seed: SEED }
}

fn goodwill(n: u128, money: Money) -> Command {
    let (payment, by, reason) = (pay(n), RefundBy::Gateway, "sorry".into());
    Command::Refund(Goodwill { payment, money, by, reason, seed: SEED })
}

fn happened(history: &[Event]) -> Given<Order> {
    given(history)
}

/// Placed, and paid through a gateway by one payment of all.
fn paid_history() -> Vec<Event> {
    vec![placed(), opened(1, 1000), captured(1, 1000), paid()]
}

fn after(mut history: Vec<Event>, more: &[Event]) -> Given<Order> {
    history.extend_from_slice(more);
    happened(&history)
}

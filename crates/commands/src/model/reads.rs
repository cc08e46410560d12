//! Which streams a command needs, as far as what was read already lets one say.

use std::collections::BTreeSet;

use daybook_domain::{OrderId, PaymentId, Sku, order::Details};
use daybook_journal::Loaded;
use uuid::Uuid;

use super::{ShopCommand, ShopState, states::States};
use crate::{streams, wire::Command};

pub(super) fn reads(asked: &ShopCommand, loaded: &Loaded<ShopState>) -> Vec<String> {
    let states = States(loaded);
    match &asked.command {
        Command::AddProduct(c) => vec![streams::product(c.sku.domain())],
        Command::ChangePrice(c) => vec![streams::product(c.sku.domain())],
        Command::DiscontinueProduct(c) => vec![streams::product(c.sku.domain())],
        Command::ReceiveStock(c) => both(c.sku.domain()),
        Command::AdjustStock(c) => both(c.sku.domain()),
        Command::PlaceOrder(c) => {
            let order = OrderId(c.order_id.unwrap_or(asked.fresh));
            let skus: BTreeSet<&Sku> = c.lines.iter().map(|line| line.sku.domain()).collect();
            let mut streams = Vec::with_capacity(1 + 2 * skus.len());
            streams.push(streams::order(order));
            // Both at once, whether stock is kept or not: one round is quicker than two.
            streams.extend(skus.into_iter().flat_map(both));
            streams
        }
        Command::ChargePayment(c) => {
            let payment = PaymentId(c.payment_id.unwrap_or(asked.fresh));
            vec![streams::order(OrderId(c.order_id)), streams::payment(payment)]
        }
        Command::RecordPayment(c) => {
            let payment = PaymentId(c.payment_id.unwrap_or(asked.fresh));
            vec![streams::order(OrderId(c.order_id)), streams::payment(payment)]
        }
        Command::CancelOrder(c) => order_and(asked, states, c.order_id, all_of),
        Command::ExpireOrder(c) => order_and(asked, states, c.order_id, all_of),
        Command::ShipOrder(c) => order_and(asked, states, c.order_id, |order| match &c.lines {
            None => stock_of(order, order.lines().iter().map(|line| line.line)),
            Some(lines) => stock_of(order, lines.iter().map(|line| line.line)),
        }),
        Command::DeliverOrder(c) => vec![streams::order(OrderId(c.order_id))],
        Command::ReturnItems(c) => order_and(asked, states, c.order_id, |order| {
            let mut streams = stock_of(order, c.lines.iter().map(|line| line.line));
            streams.extend(payments(order));
            streams
        }),
        Command::RefundPayment(c) => payment_and_order(states, PaymentId(c.payment_id)),
        Command::ResolvePayment(c) => {
            let mut streams = payment_and_order(states, PaymentId(c.payment_id));
            // What the gateway took may be counted for another payment of the order already.
            if let Some(order) = states.order_of(PaymentId(c.payment_id)).details() {
                let parts = order.ledger().parts().iter();
                streams.extend(parts.map(|part| streams::payment(part.payment)));
            }
            streams
        }
        Command::RecordGatewayPayment(c) => vec![streams::payment(PaymentId(c.payment_id))],
        Command::RecordDispute(c) => vec![streams::payment(PaymentId(c.payment_id))],
        Command::RecordPaymentOutcome(c) => payment_and_order(states, PaymentId(c.payment_id)),
        Command::RecordRefundOutcome(c) => payment_and_order(states, PaymentId(c.payment_id)),
    }
}

fn both(sku: &Sku) -> Vec<String> {
    vec![streams::product(sku), streams::stock(sku)]
}

/// An order and, once it is known and known to be the asker's, what else is needed for it.
fn order_and(
    asked: &ShopCommand,
    states: States<'_>,
    order_id: Uuid,
    more: impl FnOnce(&Details) -> Vec<String>,
) -> Vec<String> {
    let order = OrderId(order_id);
    let mut streams = vec![streams::order(order)];
    if let Some(details) = states.order(order).details().filter(|d| asked.authority.owns(d)) {
        streams.extend(more(details));
    }
    streams
}

/// What the end of an order touches: all its stock, and the payments that money goes back from.
fn all_of(order: &Details) -> Vec<String> {
    let mut streams = stock_of(order, order.lines().iter().map(|line| line.line));
    streams.extend(payments(order));
    streams
}

/// Stock of those of the lines that stock is kept of.
fn stock_of(order: &Details, lines: impl Iterator<Item = u32>) -> Vec<String> {
    let lines = lines.filter_map(|number| order.line(number).map(|(line, _)| line));
    let tracked = lines.filter(|line| line.tracked).map(|line| &line.sku);
    tracked.collect::<BTreeSet<_>>().into_iter().map(streams::stock).collect()
}

/// Payments that money can go back from.
fn payments(order: &Details) -> impl Iterator<Item = String> {
    let parts = order.ledger().parts().iter().filter(|part| !part.left().is_zero());
    parts.map(|part| streams::payment(part.payment))
}

fn payment_and_order(states: States<'_>, payment: PaymentId) -> Vec<String> {
    let mut streams = vec![streams::payment(payment)];
    if let Some(facts) = states.payment(payment).facts() {
        streams.push(streams::order(facts.order));
    }
    streams
}

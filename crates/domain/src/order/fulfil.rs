//! The goods side: placing, sending, taking back, calling off.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{
    CancelledLine, Details, Event, Line, NewOrder, PlacedOrder, RefundBy, Refusal, ReturnLine,
    ReturnedLine, ShipLine, ShippedLine, pay,
};
use crate::{Amount, Quantity, RefundSeed, Text};

pub(super) fn place(new: &NewOrder) -> Result<Vec<Event>, Refusal> {
    if new.lines.is_empty() {
        return Err(Refusal::NoLines);
    }
    let mut total = Amount::ZERO;
    let mut lines = Vec::with_capacity(new.lines.len());
    for (number, asked) in (1..).zip(&new.lines) {
        let amount = asked.unit_price.checked_mul(asked.quantity).ok_or(Refusal::TooLarge)?;
        total = total.checked_add(amount).ok_or(Refusal::TooLarge)?;
        lines.push(Line {
            line: number,
            sku: asked.sku.clone(),
            name: asked.name.clone(),
            quantity: asked.quantity,
            unit_price: asked.unit_price,
            amount,
            tracked: asked.tracked,
        });
    }
    for charge in [new.shipping, new.tax] {
        total = total.checked_add(charge).ok_or(Refusal::TooLarge)?;
    }
    if let Some(expected) = new.expected_total.filter(|expected| *expected != total) {
        return Err(Refusal::TotalDiffers { expected, actual: total });
    }
    Ok(vec![Event::Placed(PlacedOrder {
        order: new.order,
        customer: new.customer,
        partner: new.partner,
        reference: new.reference.clone(),
        country: new.country.clone(),
        currency: new.currency,
        lines: lines.into(),
        shipping: new.shipping,
        tax: new.tax,
        total,
        // Nothing to pay, nothing to wait for.
        expires_at: new.expires_at.filter(|_| !total.is_zero()),
    })])
}

pub(super) fn ship(
    details: &Details,
    lines: Option<&[ShipLine]>,
    on_account: bool,
) -> Result<Vec<Event>, Refusal> {
    let left = |line: &Line, shipped: i64| line.quantity.get() - shipped;
    let mut going = Vec::new();
    match lines {
        None => {
            for (line, progress) in details.with_progress() {
                if let Some(quantity) = Quantity::new(left(line, progress.shipped)) {
                    going.push(ShippedLine { line: line.line, sku: line.sku.clone(), quantity });
                }
            }
        }
        Some([]) => return Err(Refusal::NoLines),
        Some(asked) => {
            let mut named = BTreeSet::new();
            for ShipLine { line: number, quantity } in asked {
                let (line, progress) =
                    details.line(*number).ok_or(Refusal::LineUnknown { line: *number })?;
                if !named.insert(*number) {
                    return Err(Refusal::LineRepeated { line: *number });
                }
                let shippable = left(line, progress.shipped);
                if quantity.get() > shippable {
                    return Err(Refusal::TooManyShipped { line: *number, shippable });
                }
                let (sku, quantity) = (line.sku.clone(), *quantity);
                going.push(ShippedLine { line: *number, sku, quantity });
            }
        }
    }
    let ledger = &details.ledger;
    if !on_account && !ledger.is_paid() {
        return Err(Refusal::NotPaid { due: ledger.due(), paid: ledger.kept() });
    }
    let left_before: i64 = details.with_progress().map(|(l, p)| left(l, p.shipped)).sum();
    let sent: i64 = going.iter().map(|line| line.quantity.get()).sum();
    Ok(vec![Event::Shipped {
        order: details.order,
        customer: details.customer,
        shipment: details.shipments + 1,
        lines: going.into(),
        complete: sent == left_before,
    }])
}

pub(super) fn take_back(
    details: &Details,
    asked: &[ReturnLine],
    by: RefundBy,
    seed: RefundSeed,
) -> Result<Vec<Event>, Refusal> {
    if asked.is_empty() {
        return Err(Refusal::NoLines);
    }
    let mut named = BTreeSet::new();
    let mut lines = Vec::with_capacity(asked.len());
    let mut limit = details.ledger.due();
    for ReturnLine { line: number, quantity, credit } in asked {
        let (line, progress) =
            details.line(*number).ok_or(Refusal::LineUnknown { line: *number })?;
        if !named.insert(*number) {
            return Err(Refusal::LineRepeated { line: *number });
        }
        let returnable = progress.shipped - progress.returned;
        if quantity.get() > returnable {
            return Err(Refusal::TooManyReturned { line: *number, returnable });
        }
        let credit = match credit {
            Some(credit) if *credit > limit => {
                return Err(Refusal::CreditTooHigh { credit: *credit, limit });
            }
            Some(credit) => *credit,
            // Goodwill may have left less than the price to be credited.
            None => {
                let price = line.unit_price.checked_mul(*quantity).ok_or(Refusal::TooLarge)?;
                price.min(limit)
            }
        };
        limit = limit.saturating_sub(credit);
        let (sku, quantity) = (line.sku.clone(), *quantity);
        lines.push(ReturnedLine { line: *number, sku, quantity, credit });
    }
    let credit = details.ledger.due().saturating_sub(limit);
    let mut after = details.ledger.clone();
    after.credit(credit).ok_or(Refusal::TooLarge)?;
    let mut events = vec![Event::ItemsReturned {
        order: details.order,
        customer: details.customer,
        country: details.country.clone(),
        currency: details.currency,
        lines: lines.into(),
        credit,
    }];
    events.extend(pay::give_back_excess(details, &after, by, seed)?);
    events.extend(pay::paid_by(details, &after));
    Ok(events)
}

pub(super) fn cancel(
    details: &Details,
    reason: &Text,
    seed: RefundSeed,
) -> Result<Vec<Event>, Refusal> {
    if details.ledger.has_open() {
        return Err(Refusal::PaymentOpen { open: details.ledger.open() });
    }
    let mut events = vec![Event::Cancelled {
        order: details.order,
        customer: details.customer,
        country: details.country.clone(),
        currency: details.currency,
        reason: reason.clone(),
        lines: unsent(details),
        credit: details.ledger.due(),
    }];
    events.extend(pay::give_back_all(details, seed));
    Ok(events)
}

pub(super) fn expire(
    details: &Details,
    deadline: DateTime<Utc>,
    seed: RefundSeed,
) -> Result<Vec<Event>, Refusal> {
    let ledger = &details.ledger;
    if details.expires_at != Some(deadline) {
        return Err(Refusal::DeadlineMoved { expires_at: details.expires_at });
    }
    if ledger.has_open() {
        return Err(Refusal::PaymentOpen { open: ledger.open() });
    }
    if ledger.is_paid() {
        return Err(Refusal::AlreadyPaid { due: ledger.due(), paid: ledger.kept() });
    }
    let mut events = vec![Event::Expired {
        order: details.order,
        customer: details.customer,
        country: details.country.clone(),
        currency: details.currency,
        lines: unsent(details),
        credit: ledger.due(),
    }];
    events.extend(pay::give_back_all(details, seed));
    Ok(events)
}

/// All lines: nothing of them was sent yet.
fn unsent(details: &Details) -> std::sync::Arc<[CancelledLine]> {
    let lines = details.lines.iter().map(|line| CancelledLine {
        line: line.line,
        sku: line.sku.clone(),
        quantity: line.quantity,
        amount: line.amount,
    });
    lines.collect()
}

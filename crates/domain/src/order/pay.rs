//! The money side: payments, what they make of the order, and what goes back.

use chrono::{DateTime, Utc};

use super::{Details, Event, Goodwill, Ledger, MAX_PAYMENTS, Part, PartPhase, RefundBy, Refusal};
use crate::{Amount, Money, PaymentId, RefundId, RefundSeed, Text};

/// What [`Event::RefundFailed`] says where no gateway can give money back.
pub(super) const OWED_BY_HAND: &str = "it was settled elsewhere: somebody has to give it back";

pub(super) fn open(
    details: &Details,
    payment: PaymentId,
    money: Money,
) -> Result<Vec<Event>, Refusal> {
    check_new(details, payment, money)?;
    Ok(vec![Event::PaymentOpened { order: details.order, payment, money }])
}

pub(super) fn record(
    details: &Details,
    payment: PaymentId,
    money: Money,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Vec<Event>, Refusal> {
    check_new(details, payment, money)?;
    let mut after = details.ledger.clone();
    after.capture(payment, money.amount).ok_or(Refusal::PaymentExists { payment })?;
    let expires_at = renewed(details, &after, expires_at);
    let captured = Event::PaymentCaptured { order: details.order, payment, money, expires_at };
    Ok([captured].into_iter().chain(paid_by(details, &after)).collect())
}

pub(super) fn capture(
    details: &Details,
    payment: PaymentId,
    seed: RefundSeed,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Vec<Event>, Refusal> {
    let part = details.ledger.part(payment).ok_or(Refusal::PaymentUnknown { payment })?;
    match part.phase {
        PartPhase::Captured { .. } => return Ok(vec![]),
        PartPhase::Open | PartPhase::Closed => {}
    }
    let mut after = details.ledger.clone();
    after.capture(payment, part.amount).ok_or(Refusal::PaymentUnknown { payment })?;
    let money = part.amount.of(details.currency);
    let expires_at = renewed(details, &after, expires_at);
    let mut events =
        vec![Event::PaymentCaptured { order: details.order, payment, money, expires_at }];
    events.extend(paid_by(details, &after));
    // It came late, or more is credited by now: what is not due goes back.
    let excess = after.excess().min(part.amount);
    if !excess.is_zero() {
        events.push(opened(details, payment, seed.id_for(payment), excess));
    }
    Ok(events)
}

pub(super) fn close(
    details: &Details,
    payment: PaymentId,
    reason: &Text,
    expires_at: Option<DateTime<Utc>>,
) -> Result<Vec<Event>, Refusal> {
    let part = details.ledger.part(payment).ok_or(Refusal::PaymentUnknown { payment })?;
    match part.phase {
        PartPhase::Closed | PartPhase::Captured { .. } => return Ok(vec![]),
        PartPhase::Open => {}
    }
    let mut after = details.ledger.clone();
    after.close(payment).ok_or(Refusal::PaymentUnknown { payment })?;
    Ok(vec![Event::PaymentClosed {
        order: details.order,
        payment,
        money: part.amount.of(details.currency),
        reason: reason.clone(),
        expires_at: renewed(details, &after, expires_at),
    }])
}

pub(super) fn refund(details: &Details, goodwill: &Goodwill) -> Result<Vec<Event>, Refusal> {
    let Goodwill { payment, money, by, reason, seed } = goodwill;
    check_currency(details, *money)?;
    let amount = money.amount;
    let part =
        details.ledger.part(*payment).ok_or(Refusal::PaymentUnknown { payment: *payment })?;
    let limit = part.left();
    if amount > limit {
        return Err(Refusal::RefundTooHigh { payment: *payment, amount, limit });
    }
    if *by == RefundBy::Gateway && !part.at_gateway() {
        return Err(Refusal::NotAtGateway { refund: amount, refundable: Amount::ZERO });
    }
    // What a failed refund has left above due was credited before.
    let credit = amount.saturating_sub(details.ledger.excess());
    let mut events = Vec::with_capacity(3);
    if !credit.is_zero() {
        events.push(Event::Credited {
            order: details.order,
            customer: details.customer,
            country: details.country.clone(),
            payment: *payment,
            credit: credit.of(details.currency),
            reason: reason.clone(),
        });
    }
    events.extend(sent_back(details, part, amount, *by, *seed));
    Ok(events)
}

pub(super) fn refund_done(
    details: &Details,
    payment: PaymentId,
    refund: RefundId,
    money: Money,
    after_failure: bool,
) -> Result<Vec<Event>, Refusal> {
    details.ledger.part(payment).ok_or(Refusal::PaymentUnknown { payment })?;
    let settled = settled(details, payment, refund, money.amount);
    if after_failure {
        return Ok(vec![opened(details, payment, refund, money.amount), settled]);
    }
    Ok(vec![settled])
}

pub(super) fn refund_failed(
    details: &Details,
    payment: PaymentId,
    refund: RefundId,
    money: Money,
    reason: &Text,
) -> Result<Vec<Event>, Refusal> {
    details.ledger.part(payment).ok_or(Refusal::PaymentUnknown { payment })?;
    let (order, reason) = (details.order, reason.clone());
    Ok(vec![Event::RefundFailed { order, payment, refund, money, reason }])
}

/// What is kept above due, once the ledger is `after`, goes back.
pub(super) fn give_back_excess(
    details: &Details,
    after: &Ledger,
    by: RefundBy,
    seed: RefundSeed,
) -> Result<Vec<Event>, Refusal> {
    let excess = after.excess();
    let (shares, rest) =
        after.allocate(excess, |part| by == RefundBy::Elsewhere || part.at_gateway());
    if !rest.is_zero() {
        let refundable = excess.saturating_sub(rest);
        return Err(Refusal::NotAtGateway { refund: excess, refundable });
    }
    let events = shares.iter().flat_map(|(part, share)| sent_back(details, part, *share, by, seed));
    Ok(events.collect())
}

/// Everything kept goes back. What no gateway can give back is owed.
pub(super) fn give_back_all(details: &Details, seed: RefundSeed) -> Vec<Event> {
    let (shares, _) = details.ledger.allocate(details.ledger.kept(), |_| true);
    let mut events = Vec::new();
    for (part, share) in shares {
        events.extend(sent_back(details, &part, share, RefundBy::Gateway, seed));
        if !part.at_gateway() {
            events.push(Event::RefundFailed {
                order: details.order,
                payment: part.payment,
                refund: seed.id_for(part.payment),
                money: share.of(details.currency),
                reason: OWED_BY_HAND.into(),
            });
        }
    }
    events
}

/// [`Event::Paid`], if it becomes so with `after`.
pub(super) fn paid_by(details: &Details, after: &Ledger) -> Option<Event> {
    let becomes = !details.ledger.is_paid() && after.is_paid() && !after.kept().is_zero();
    becomes.then(|| Event::Paid {
        order: details.order,
        customer: details.customer,
        country: details.country.clone(),
        total: after.total().of(details.currency),
    })
}

/// The deadline that begins now, if the order is one that expires and nothing is under way.
fn renewed(
    details: &Details,
    after: &Ledger,
    offered: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let waits = details.expires_at.is_some() && !after.is_paid() && !after.has_open();
    offered.filter(|_| waits)
}

fn sent_back(
    details: &Details,
    part: &Part,
    amount: Amount,
    by: RefundBy,
    seed: RefundSeed,
) -> impl Iterator<Item = Event> + use<> {
    let (payment, refund) = (part.payment, seed.id_for(part.payment));
    let settled = (by == RefundBy::Elsewhere).then(|| settled(details, payment, refund, amount));
    [opened(details, payment, refund, amount)].into_iter().chain(settled)
}

fn opened(details: &Details, payment: PaymentId, refund: RefundId, amount: Amount) -> Event {
    let money = amount.of(details.currency);
    Event::RefundOpened { order: details.order, payment, refund, money }
}

fn settled(details: &Details, payment: PaymentId, refund: RefundId, amount: Amount) -> Event {
    let money = amount.of(details.currency);
    Event::RefundSettled { order: details.order, payment, refund, money }
}

fn check_new(details: &Details, payment: PaymentId, money: Money) -> Result<(), Refusal> {
    check_currency(details, money)?;
    let ledger = &details.ledger;
    if ledger.part(payment).is_some() {
        return Err(Refusal::PaymentExists { payment });
    }
    if ledger.parts().len() >= MAX_PAYMENTS {
        return Err(Refusal::TooManyPayments { limit: MAX_PAYMENTS });
    }
    let (due, captured, open) = (ledger.due(), ledger.captured(), ledger.open());
    if captured.get() + open.get() + money.amount.get() > due.get() {
        return Err(Refusal::OverCharge { due, captured, open });
    }
    Ok(())
}

fn check_currency(details: &Details, money: Money) -> Result<(), Refusal> {
    let (expected, actual) = (details.currency, money.currency);
    if expected == actual { Ok(()) } else { Err(Refusal::CurrencyDiffers { expected, actual }) }
}

//! What an event makes of an order.

use std::sync::Arc;

use super::{Details, Event, Ledger, Order, PlacedOrder, Progress, ReturnedLine, ShippedLine};
use crate::Misfit;

pub(super) fn evolve(order: Order, event: &Event) -> Result<Order, Misfit> {
    use Event as E;
    use Order as O;
    let phase = order.phase();
    match (order, event) {
        (O::Unplaced, E::Placed(placed)) => Ok(O::Placed(begin(placed))),

        (O::Placed(details) | O::PartShipped(details), E::Shipped { lines, complete, .. }) => {
            let details = sent(details, lines).ok_or(broken(event))?;
            Ok(if *complete { O::Shipped(details) } else { O::PartShipped(details) })
        }
        (O::Shipped(details), E::Delivered { .. }) => Ok(O::Delivered(details)),
        (O::Placed(details), E::Cancelled { credit, .. }) => {
            Ok(O::Cancelled(booked(details, |ledger| ledger.credit(*credit), event)?))
        }
        (O::Placed(details), E::Expired { credit, .. }) => {
            Ok(O::Expired(booked(details, |ledger| ledger.credit(*credit), event)?))
        }

        // Money moves, and goods come back, without changing the phase. After the end money may
        // still come late, and goes back.
        (
            order @ (O::PartShipped(_) | O::Shipped(_) | O::Delivered(_)),
            E::ItemsReturned { .. },
        )
        | (
            order @ (O::Placed(_) | O::PartShipped(_) | O::Shipped(_) | O::Delivered(_)),
            E::PaymentOpened { .. } | E::PaymentClosed { .. } | E::Paid { .. } | E::Credited { .. },
        )
        | (
            order @ (O::Placed(_)
            | O::PartShipped(_)
            | O::Shipped(_)
            | O::Delivered(_)
            | O::Cancelled(_)
            | O::Expired(_)),
            E::PaymentCaptured { .. }
            | E::RefundOpened { .. }
            | E::RefundSettled { .. }
            | E::RefundFailed { .. },
        ) => order.in_phase(|details| moved(details, event)),

        (
            O::Unplaced
            | O::Placed(_)
            | O::PartShipped(_)
            | O::Shipped(_)
            | O::Delivered(_)
            | O::Cancelled(_)
            | O::Expired(_),
            E::Placed(_)
            | E::PaymentOpened { .. }
            | E::PaymentCaptured { .. }
            | E::PaymentClosed { .. }
            | E::Paid { .. }
            | E::Shipped { .. }
            | E::Delivered { .. }
            | E::Cancelled { .. }
            | E::Expired { .. }
            | E::ItemsReturned { .. }
            | E::Credited { .. }
            | E::RefundOpened { .. }
            | E::RefundSettled { .. }
            | E::RefundFailed { .. },
        ) => Err(Misfit::new(event.name(), phase)),
    }
}

impl Order {
    /// The same phase with other details. An order that was never placed stays so.
    fn in_phase(
        self,
        change: impl FnOnce(Details) -> Result<Details, Misfit>,
    ) -> Result<Self, Misfit> {
        Ok(match self {
            Self::Unplaced => Self::Unplaced,
            Self::Placed(details) => Self::Placed(change(details)?),
            Self::PartShipped(details) => Self::PartShipped(change(details)?),
            Self::Shipped(details) => Self::Shipped(change(details)?),
            Self::Delivered(details) => Self::Delivered(change(details)?),
            Self::Cancelled(details) => Self::Cancelled(change(details)?),
            Self::Expired(details) => Self::Expired(change(details)?),
        })
    }
}

fn begin(placed: &PlacedOrder) -> Details {
    Details {
        order: placed.order,
        customer: placed.customer,
        partner: placed.partner,
        country: placed.country.clone(),
        currency: placed.currency,
        lines: Arc::clone(&placed.lines),
        progress: Arc::new(vec![Progress::default(); placed.lines.len()]),
        shipments: 0,
        ledger: Ledger::new(placed.total),
        expires_at: placed.expires_at,
    }
}

/// Books what an event says about money and returned goods.
fn moved(details: Details, event: &Event) -> Result<Details, Misfit> {
    match event {
        Event::PaymentOpened { payment, money, .. } => {
            booked(details, |ledger| ledger.open_payment(*payment, money.amount), event)
        }
        Event::PaymentCaptured { payment, money, expires_at, .. } => {
            let details = booked(details, |ledger| ledger.capture(*payment, money.amount), event)?;
            Ok(Details { expires_at: expires_at.or(details.expires_at), ..details })
        }
        Event::PaymentClosed { payment, expires_at, .. } => {
            let details = booked(details, |ledger| ledger.close(*payment), event)?;
            Ok(Details { expires_at: expires_at.or(details.expires_at), ..details })
        }
        Event::Paid { .. } => Ok(details),
        Event::ItemsReturned { lines, credit, .. } => {
            let details = came_back(details, lines).ok_or(broken(event))?;
            booked(details, |ledger| ledger.credit(*credit), event)
        }
        Event::Credited { credit, .. } => {
            booked(details, |ledger| ledger.credit(credit.amount), event)
        }
        Event::RefundOpened { payment, money, .. } => {
            booked(details, |ledger| ledger.refund(*payment, money.amount.get(), 0), event)
        }
        Event::RefundSettled { payment, money, .. } => {
            let amount = money.amount.get();
            booked(details, |ledger| ledger.refund(*payment, -amount, amount), event)
        }
        Event::RefundFailed { payment, money, .. } => {
            booked(details, |ledger| ledger.refund(*payment, -money.amount.get(), 0), event)
        }
        Event::Placed(_)
        | Event::Shipped { .. }
        | Event::Delivered { .. }
        | Event::Cancelled { .. }
        | Event::Expired { .. } => Err(broken(event)),
    }
}

fn booked(
    mut details: Details,
    book: impl FnOnce(&mut Ledger) -> Option<()>,
    event: &Event,
) -> Result<Details, Misfit> {
    book(&mut details.ledger).ok_or(broken(event))?;
    Ok(details)
}

fn sent(mut details: Details, lines: &[ShippedLine]) -> Option<Details> {
    let progress = Arc::make_mut(&mut details.progress);
    for ShippedLine { line, quantity, .. } in lines {
        let index = index_of(*line)?;
        let (ordered, progress) = (details.lines.get(index)?.quantity, progress.get_mut(index)?);
        if quantity.get() > ordered.get() - progress.shipped {
            return None;
        }
        progress.shipped += quantity.get();
    }
    details.shipments += 1;
    Some(details)
}

fn came_back(mut details: Details, lines: &[ReturnedLine]) -> Option<Details> {
    let progress = Arc::make_mut(&mut details.progress);
    for ReturnedLine { line, quantity, .. } in lines {
        let progress = progress.get_mut(index_of(*line)?)?;
        if quantity.get() > progress.shipped - progress.returned {
            return None;
        }
        progress.returned += quantity.get();
    }
    Some(details)
}

fn index_of(line: u32) -> Option<usize> {
    usize::try_from(line.checked_sub(1)?).ok()
}

fn broken(event: &Event) -> Misfit {
    Misfit::new(event.name(), "what the order has left")
}

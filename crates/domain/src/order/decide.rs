//! Which rule answers a command in which phase.

use chrono::{DateTime, Utc};

use super::{Command, Event, Order, Refusal, fulfil, pay};

/// An order that lives: it can still be paid, and goods of it can move.
macro_rules! living {
    ($details:pat) => {
        Order::Placed($details)
            | Order::PartShipped($details)
            | Order::Shipped($details)
            | Order::Delivered($details)
    };
}

/// An order that came to nothing.
macro_rules! ended {
    ($details:pat) => {
        Order::Cancelled($details) | Order::Expired($details)
    };
}

/// An order in any phase but the first.
macro_rules! begun {
    ($details:pat) => {
        Order::Placed($details)
            | Order::PartShipped($details)
            | Order::Shipped($details)
            | Order::Delivered($details)
            | Order::Cancelled($details)
            | Order::Expired($details)
    };
}

pub(super) fn decide(order: &Order, command: &Command) -> Result<Vec<Event>, Refusal> {
    use Command as C;
    use Order as O;
    match (order, command) {
        (O::Unplaced, C::Place(new)) => fulfil::place(new),
        (begun!(_), C::Place(_)) => Err(Refusal::Exists),
        (
            O::Unplaced,
            C::OpenPayment { .. }
            | C::RecordPayment { .. }
            | C::RecordCapture { .. }
            | C::RecordClose { .. }
            | C::Ship { .. }
            | C::Deliver
            | C::Return { .. }
            | C::Refund(_)
            | C::Cancel { .. }
            | C::Expire { .. }
            | C::RecordRefundDone { .. }
            | C::RecordRefundFailure { .. },
        ) => Err(Refusal::Unknown),

        // Money comes in as long as the order lives.
        (living!(details), C::OpenPayment { payment, money }) => {
            pay::open(details, *payment, *money)
        }
        (living!(details), C::RecordPayment { payment, money, expires_at }) => {
            pay::record(details, *payment, *money, deadline_of(order, *expires_at))
        }

        // What the gateway says is taken down in every phase.
        (begun!(details), C::RecordCapture { payment, expires_at, seed }) => {
            pay::capture(details, *payment, *seed, deadline_of(order, *expires_at))
        }
        (begun!(details), C::RecordClose { payment, reason, expires_at }) => {
            pay::close(details, *payment, reason, deadline_of(order, *expires_at))
        }
        (begun!(details), C::RecordRefundDone { payment, refund, money, after_failure }) => {
            pay::refund_done(details, *payment, *refund, *money, *after_failure)
        }
        (begun!(details), C::RecordRefundFailure { payment, refund, money, reason }) => {
            pay::refund_failed(details, *payment, *refund, *money, reason)
        }

        // Also after the end: a refund that failed is made anew by this.
        (begun!(details), C::Refund(goodwill)) => pay::refund(details, goodwill),

        (O::Placed(details) | O::PartShipped(details), C::Ship { lines, on_account }) => {
            fulfil::ship(details, lines.as_deref(), *on_account)
        }
        (O::Shipped(_) | O::Delivered(_), C::Ship { .. }) => {
            Err(Refusal::NothingToShip { state: order.phase() })
        }
        (O::Shipped(details), C::Deliver) => {
            Ok(vec![Event::Delivered { order: details.order, customer: details.customer }])
        }
        (living!(details), C::Return { lines, by, seed }) => {
            fulfil::take_back(details, lines, *by, *seed)
        }
        (O::Placed(details), C::Cancel { reason, seed }) => fulfil::cancel(details, reason, *seed),
        (O::Placed(details), C::Expire { deadline, seed }) => {
            fulfil::expire(details, *deadline, *seed)
        }

        (O::Placed(_) | O::PartShipped(_) | O::Delivered(_), C::Deliver)
        | (
            O::PartShipped(_) | O::Shipped(_) | O::Delivered(_),
            C::Cancel { .. } | C::Expire { .. },
        )
        | (
            ended!(_),
            C::OpenPayment { .. }
            | C::RecordPayment { .. }
            | C::Ship { .. }
            | C::Deliver
            | C::Return { .. }
            | C::Cancel { .. }
            | C::Expire { .. },
        ) => Err(Refusal::WrongState { state: order.phase() }),
    }
}

/// A new deadline, where one can begin: an order that goods of were sent does not expire.
fn deadline_of(order: &Order, offered: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match order {
        Order::Placed(_) => Some(offered),
        Order::Unplaced
        | Order::PartShipped(_)
        | Order::Shipped(_)
        | Order::Delivered(_)
        | Order::Cancelled(_)
        | Order::Expired(_) => None,
    }
}

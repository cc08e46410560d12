//! What an event makes of a payment.

use super::{Charge, Event, Facts, Payment, RefundPhase, Refunds};
use crate::{Misfit, Money, RefundId};

pub(super) fn evolve(payment: Payment, event: &Event) -> Result<Payment, Misfit> {
    use Event as E;
    use Payment as P;
    let phase = payment.phase();
    match (payment, event) {
        (P::Unknown, E::Requested(charge)) => Ok(P::Open(charge.clone())),
        (P::Unknown, E::Recorded { facts, .. }) => {
            Ok(P::Recorded { facts: *facts, refunds: Refunds::default() })
        }
        (
            P::Open(charge) | P::Unresolved(charge) | P::Declined(charge),
            E::Captured { gateway_payment, .. },
        ) => Ok(P::Captured {
            charge,
            gateway_payment: gateway_payment.clone(),
            refunds: Refunds::default(),
        }),
        (P::Open(charge) | P::Unresolved(charge), E::Declined { .. }) => Ok(P::Declined(charge)),
        (P::Open(charge) | P::Unresolved(charge), E::Unresolved { .. }) => {
            Ok(P::Unresolved(charge))
        }
        // A doubt about what is settled is for a person; it settles nothing anew.
        (
            settled @ (P::Declined(_) | P::Captured { .. } | P::Recorded { .. }),
            E::Unresolved { .. },
        ) => Ok(settled),
        (
            taken @ (P::Captured { .. } | P::Recorded { .. }),
            E::RefundRequested { refund, money, .. },
        ) => refund_moved(taken, "PaymentRefundRequested", *refund, *money, RefundPhase::Open),
        (taken @ (P::Captured { .. } | P::Recorded { .. }), E::Refunded { refund, money, .. }) => {
            refund_moved(taken, "PaymentRefunded", *refund, *money, RefundPhase::Settled)
        }
        (
            taken @ (P::Captured { .. } | P::Recorded { .. }),
            E::RefundFailed { refund, money, .. },
        ) => refund_moved(taken, "PaymentRefundFailed", *refund, *money, RefundPhase::Failed),
        (
            P::Unknown
            | P::Open(_)
            | P::Unresolved(_)
            | P::Declined(_)
            | P::Captured { .. }
            | P::Recorded { .. },
            E::Requested(_)
            | E::Recorded { .. }
            | E::Captured { .. }
            | E::Declined { .. }
            | E::Unresolved { .. }
            | E::RefundRequested { .. }
            | E::Refunded { .. }
            | E::RefundFailed { .. },
        ) => Err(Misfit::new(name(event), phase)),
    }
}

fn refund_moved(
    taken: Payment,
    event: &'static str,
    refund: RefundId,
    money: Money,
    to: RefundPhase,
) -> Result<Payment, Misfit> {
    let moved = |facts: &Facts, refunds: Refunds| {
        refunds
            .with(facts.money.amount, refund, money.amount, to)
            .ok_or(Misfit::new(event, "refunded + refunding <= captured"))
    };
    match taken {
        Payment::Captured { charge, gateway_payment, refunds } => {
            let refunds = moved(&charge.facts, refunds)?;
            Ok(Payment::Captured { charge, gateway_payment, refunds })
        }
        Payment::Recorded { facts, refunds } => {
            let refunds = moved(&facts, refunds)?;
            Ok(Payment::Recorded { facts, refunds })
        }
        Payment::Unknown
        | Payment::Open(Charge { .. })
        | Payment::Unresolved(_)
        | Payment::Declined(_) => Err(Misfit::new(event, "not captured")),
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Requested(_) => "PaymentRequested",
        Event::Recorded { .. } => "PaymentRecorded",
        Event::Captured { .. } => "PaymentCaptured",
        Event::Declined { .. } => "PaymentDeclined",
        Event::Unresolved { .. } => "PaymentUnresolved",
        Event::RefundRequested { .. } => "PaymentRefundRequested",
        Event::Refunded { .. } => "PaymentRefunded",
        Event::RefundFailed { .. } => "PaymentRefundFailed",
    }
}

//! What an event makes of a payment.

use std::sync::Arc;

use super::{Attempt, Event, Facts, Payment, RefundPhase, Refunds};
use crate::{Misfit, Money, RefundId};

pub(super) fn evolve(payment: Payment, event: &Event) -> Result<Payment, Misfit> {
    use Event as E;
    use Payment as P;
    let phase = payment.phase();
    match (payment, event) {
        (P::Unknown, E::Requested(charge)) => {
            Ok(P::Open(Attempt { charge: charge.clone(), gateway_payment: None }))
        }
        (P::Unknown, E::Recorded { facts, .. }) => {
            Ok(P::Recorded { facts: *facts, refunds: Refunds::default() })
        }
        (P::Open(attempt), E::Identified { gateway_payment, .. }) => {
            Ok(P::Open(Attempt { gateway_payment: Some(gateway_payment.clone()), ..attempt }))
        }
        (P::Unresolved(attempt), E::Identified { gateway_payment, .. }) => {
            Ok(P::Unresolved(Attempt { gateway_payment: Some(gateway_payment.clone()), ..attempt }))
        }
        (P::Declined(attempt), E::Identified { gateway_payment, .. }) => {
            Ok(P::Declined(Attempt { gateway_payment: Some(gateway_payment.clone()), ..attempt }))
        }
        (
            P::Open(Attempt { charge, .. })
            | P::Unresolved(Attempt { charge, .. })
            | P::Declined(Attempt { charge, .. }),
            E::Captured { gateway_payment, .. },
        ) => Ok(P::Captured {
            charge,
            gateway_payment: gateway_payment.clone(),
            refunds: Refunds::default(),
            disputes: Arc::default(),
        }),
        (P::Open(attempt) | P::Unresolved(attempt), E::Declined { .. }) => Ok(P::Declined(attempt)),
        (P::Open(attempt) | P::Unresolved(attempt), E::Unresolved { .. }) => {
            Ok(P::Unresolved(attempt))
        }
        // A doubt about what is settled is for a person; it settles nothing anew.
        (
            settled @ (P::Declined(_) | P::Captured { .. } | P::Recorded { .. }),
            E::Unresolved { .. },
        ) => Ok(settled),
        (
            P::Captured { charge, gateway_payment, refunds, mut disputes },
            E::Disputed { dispute, .. },
        ) => {
            Arc::make_mut(&mut disputes).insert(dispute.id.clone(), dispute.status.clone());
            Ok(P::Captured { charge, gateway_payment, refunds, disputes })
        }
        (
            taken @ (P::Captured { .. } | P::Recorded { .. }),
            E::RefundRequested { refund, money, .. },
        ) => refund_moved(taken, event, *refund, *money, RefundPhase::Open),
        (taken @ (P::Captured { .. } | P::Recorded { .. }), E::Refunded { refund, money, .. }) => {
            refund_moved(taken, event, *refund, *money, RefundPhase::Settled)
        }
        (
            taken @ (P::Captured { .. } | P::Recorded { .. }),
            E::RefundFailed { refund, money, .. },
        ) => refund_moved(taken, event, *refund, *money, RefundPhase::Failed),
        (
            P::Unknown
            | P::Open(_)
            | P::Unresolved(_)
            | P::Declined(_)
            | P::Captured { .. }
            | P::Recorded { .. },
            E::Requested(_)
            | E::Recorded { .. }
            | E::Identified { .. }
            | E::Captured { .. }
            | E::Declined { .. }
            | E::Unresolved { .. }
            | E::Disputed { .. }
            | E::RefundRequested { .. }
            | E::Refunded { .. }
            | E::RefundFailed { .. },
        ) => Err(Misfit::new(event.name(), phase)),
    }
}

fn refund_moved(
    taken: Payment,
    event: &Event,
    refund: RefundId,
    money: Money,
    to: RefundPhase,
) -> Result<Payment, Misfit> {
    let moved = |facts: &Facts, refunds: Refunds| {
        refunds
            .with(facts.money.amount, refund, money.amount, to)
            .ok_or(Misfit::new(event.name(), "refunded + refunding <= captured"))
    };
    match taken {
        Payment::Captured { charge, gateway_payment, refunds, disputes } => {
            let refunds = moved(&charge.facts, refunds)?;
            Ok(Payment::Captured { charge, gateway_payment, refunds, disputes })
        }
        Payment::Recorded { facts, refunds } => {
            let refunds = moved(&facts, refunds)?;
            Ok(Payment::Recorded { facts, refunds })
        }
        Payment::Unknown | Payment::Open(_) | Payment::Unresolved(_) | Payment::Declined(_) => {
            Err(Misfit::new(event.name(), "not captured"))
        }
    }
}

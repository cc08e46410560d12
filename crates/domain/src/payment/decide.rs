//! What becomes of a command to a payment.

use super::{Charge, Command, Event, Facts, Payment, RefundPhase, Refunds, Refusal};
use crate::{Amount, Money, RefundId, Text};

pub(super) fn decide(payment: &Payment, command: &Command) -> Result<Vec<Event>, Refusal> {
    use Command as C;
    use Payment as P;
    match (payment, command) {
        (P::Unknown, C::Request(charge)) => Ok(vec![Event::Requested(charge.clone())]),
        (P::Unknown, C::Record { facts, country, method, reference }) => {
            Ok(vec![Event::Recorded {
                facts: *facts,
                country: country.clone(),
                method: method.clone(),
                reference: reference.clone(),
            }])
        }
        (
            P::Open(_)
            | P::Unresolved(_)
            | P::Declined(_)
            | P::Captured { .. }
            | P::Recorded { .. },
            C::Request(_) | C::Record { .. },
        ) => Err(Refusal::Exists),
        (
            P::Unknown,
            C::RecordCapture { .. }
            | C::RecordDecline(_)
            | C::RecordDoubt(_)
            | C::RequestRefund { .. }
            | C::RecordRefund { .. }
            | C::OweRefund { .. }
            | C::RecordRefundDone(_)
            | C::RecordRefundFailure { .. },
        ) => Err(Refusal::Unknown),

        // Money may still come after all: a late answer counts as well as an early one.
        (
            P::Open(charge) | P::Unresolved(charge) | P::Declined(charge),
            C::RecordCapture { gateway_payment, money },
        ) => Ok(vec![capture(charge, gateway_payment, *money)]),
        (
            P::Captured { charge, gateway_payment: known, .. },
            C::RecordCapture { gateway_payment, money },
        ) => {
            if known == gateway_payment && charge.facts.money == *money {
                return Ok(vec![]);
            }
            let reason = format!(
                "the gateway took {} as {gateway_payment} when it had taken {} as {known}",
                print(*money),
                print(charge.facts.money),
            );
            Ok(vec![unresolved(&charge.facts, reason)])
        }
        (P::Recorded { facts, .. }, C::RecordCapture { gateway_payment, money }) => {
            let reason = format!(
                "a gateway took {} as {gateway_payment} for a payment recorded as settled elsewhere",
                print(*money)
            );
            Ok(vec![unresolved(facts, reason)])
        }

        (P::Open(charge) | P::Unresolved(charge), C::RecordDecline(reason)) => {
            Ok(vec![Event::Declined { facts: charge.facts, reason: reason.clone() }])
        }
        (P::Declined(_), C::RecordDecline(_)) => Ok(vec![]),
        (P::Captured { charge: Charge { facts, .. }, .. }, C::RecordDecline(reason)) => {
            Ok(vec![unresolved(facts, format!("declined after it was captured: {reason}"))])
        }
        (P::Recorded { facts, .. }, C::RecordDecline(reason)) => {
            let reason = format!("declined, though recorded as settled elsewhere: {reason}");
            Ok(vec![unresolved(facts, reason)])
        }

        (
            P::Open(Charge { facts, .. })
            | P::Unresolved(Charge { facts, .. })
            | P::Declined(Charge { facts, .. })
            | P::Captured { charge: Charge { facts, .. }, .. }
            | P::Recorded { facts, .. },
            C::RecordDoubt(reason),
        ) => Ok(vec![Event::Unresolved { facts: *facts, reason: reason.clone() }]),

        (
            P::Open(_) | P::Unresolved(_) | P::Declined(_),
            C::RequestRefund { .. } | C::RecordRefund { .. } | C::OweRefund { .. },
        ) => Err(Refusal::NotCaptured { state: payment.phase() }),
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. },
            C::RequestRefund { refund, amount, reason },
        ) => {
            check_new(facts, refunds, *refund, *amount)?;
            Ok(vec![Event::RefundRequested {
                payment: facts.payment,
                order: facts.order,
                refund: *refund,
                money: amount.of(facts.money.currency),
                reason: reason.clone(),
            }])
        }
        (P::Recorded { .. }, C::RequestRefund { .. }) => Err(Refusal::NotAtGateway),
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::RecordRefund { refund, amount },
        ) => {
            check_new(facts, refunds, *refund, *amount)?;
            Ok(vec![refunded(facts, *refund, *amount, true)])
        }
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::OweRefund { refund, amount, reason },
        ) => {
            check_new(facts, refunds, *refund, *amount)?;
            Ok(vec![failed(facts, *refund, *amount, reason)])
        }

        (
            P::Open(_) | P::Unresolved(_) | P::Declined(_),
            C::RecordRefundDone(_) | C::RecordRefundFailure { .. },
        ) => Err(Refusal::RefundUnknown),
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::RecordRefundDone(refund),
        ) => match refunds.get(*refund) {
            None => Err(Refusal::RefundUnknown),
            Some((_, RefundPhase::Settled)) => Ok(vec![]),
            Some((amount, RefundPhase::Open)) => Ok(vec![refunded(facts, *refund, amount, false)]),
            // It was given up, and then it succeeded after all.
            Some((amount, RefundPhase::Failed)) => {
                if amount <= refunds.left_of(facts.money.amount) {
                    return Ok(vec![refunded(facts, *refund, amount, false)]);
                }
                let reason = format!(
                    "refund {refund} succeeded after it had failed; with it more is given back \
                     than was captured"
                );
                Ok(vec![unresolved(facts, reason)])
            }
        },
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::RecordRefundFailure { refund, reason },
        ) => match refunds.get(*refund) {
            None => Err(Refusal::RefundUnknown),
            Some((_, RefundPhase::Failed)) => Ok(vec![]),
            Some((amount, RefundPhase::Open)) => Ok(vec![failed(facts, *refund, amount, reason)]),
            Some((_, RefundPhase::Settled)) => {
                let reason = format!("refund {refund} failed after it had succeeded: {reason}");
                Ok(vec![unresolved(facts, reason)])
            }
        },
    }
}

fn capture(charge: &Charge, gateway_payment: &Text, money: Money) -> Event {
    let facts = charge.facts;
    if money == facts.money {
        let (gateway, gateway_payment) = (charge.gateway.clone(), gateway_payment.clone());
        return Event::Captured { facts, gateway, gateway_payment };
    }
    let reason = format!(
        "the gateway took {} as {gateway_payment} when {} were asked for",
        print(money),
        print(facts.money)
    );
    unresolved(&facts, reason)
}

fn check_new(
    facts: &Facts,
    refunds: &Refunds,
    refund: RefundId,
    amount: Amount,
) -> Result<(), Refusal> {
    if refunds.get(refund).is_some() {
        return Err(Refusal::RefundExists);
    }
    let limit = refunds.left_of(facts.money.amount);
    if amount > limit { Err(Refusal::RefundTooHigh { amount, limit }) } else { Ok(()) }
}

fn unresolved(facts: &Facts, reason: String) -> Event {
    Event::Unresolved { facts: *facts, reason: reason.into() }
}

fn refunded(facts: &Facts, refund: RefundId, amount: Amount, settled_elsewhere: bool) -> Event {
    Event::Refunded {
        payment: facts.payment,
        order: facts.order,
        customer: facts.customer,
        refund,
        money: amount.of(facts.money.currency),
        settled_elsewhere,
    }
}

fn failed(facts: &Facts, refund: RefundId, amount: Amount, reason: &Text) -> Event {
    Event::RefundFailed {
        payment: facts.payment,
        order: facts.order,
        refund,
        money: amount.of(facts.money.currency),
        reason: reason.clone(),
    }
}

fn print(money: Money) -> String {
    format!("{} minor units of {}", money.amount.get(), money.currency)
}

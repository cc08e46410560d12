//! What becomes of a command to a payment.

use super::{
    Attempt, Charge, Command, Dispute, Event, Facts, Finding, Payment, RefundPhase, Refunds,
    Refusal,
};
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
            C::RecordGatewayPayment { .. }
            | C::RecordCapture { .. }
            | C::RecordDecline(_)
            | C::RecordDoubt(_)
            | C::RecordDispute(_)
            | C::Resolve(_)
            | C::RequestRefund { .. }
            | C::RecordRefund { .. }
            | C::OweRefund { .. }
            | C::RecordRefundDone(_)
            | C::RecordRefundFailure { .. },
        ) => Err(Refusal::Unknown),

        // The gateway's id of it is given once.
        (
            P::Open(attempt) | P::Unresolved(attempt) | P::Declined(attempt),
            C::RecordGatewayPayment { gateway_payment },
        ) => Ok(identify(attempt, gateway_payment)),
        (
            P::Captured { charge: Charge { facts, .. }, gateway_payment: known, .. },
            C::RecordGatewayPayment { gateway_payment },
        ) => {
            let other = (known != gateway_payment).then(|| two_ids(facts, known, gateway_payment));
            Ok(other.into_iter().collect())
        }
        (P::Recorded { facts, .. }, C::RecordGatewayPayment { gateway_payment }) => {
            let reason = format!("a gateway knows it as {gateway_payment}, {ELSEWHERE}");
            Ok(vec![unresolved(facts, reason)])
        }

        // Money may still come after all: a late answer counts as well as an early one.
        (
            P::Open(attempt) | P::Unresolved(attempt) | P::Declined(attempt),
            C::RecordCapture { gateway_payment, money },
        ) => Ok(vec![capture(attempt, gateway_payment, *money)]),
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
            let reason =
                format!("a gateway took {} as {gateway_payment}, {ELSEWHERE}", print(*money));
            Ok(vec![unresolved(facts, reason)])
        }

        (P::Open(attempt) | P::Unresolved(attempt), C::RecordDecline(reason)) => {
            Ok(vec![Event::Declined { facts: attempt.charge.facts, reason: reason.clone() }])
        }
        (P::Declined(_), C::RecordDecline(_)) => Ok(vec![]),
        (P::Captured { charge: Charge { facts, .. }, .. }, C::RecordDecline(reason)) => {
            Ok(vec![unresolved(facts, format!("declined after it was captured: {reason}"))])
        }
        (P::Recorded { facts, .. }, C::RecordDecline(reason)) => {
            Ok(vec![unresolved(facts, format!("declined: {reason}, {ELSEWHERE}"))])
        }

        (
            P::Open(Attempt { charge: Charge { facts, .. }, .. })
            | P::Unresolved(Attempt { charge: Charge { facts, .. }, .. })
            | P::Declined(Attempt { charge: Charge { facts, .. }, .. })
            | P::Captured { charge: Charge { facts, .. }, .. }
            | P::Recorded { facts, .. },
            C::RecordDoubt(reason),
        ) => Ok(vec![Event::Unresolved { facts: *facts, reason: reason.clone() }]),

        (P::Captured { charge: Charge { facts, .. }, disputes, .. }, C::RecordDispute(dispute)) => {
            let news = disputes.get(&dispute.id) != Some(&dispute.status);
            let event = || Event::Disputed { facts: *facts, dispute: dispute.clone() };
            Ok(news.then(event).into_iter().collect())
        }
        (
            P::Open(Attempt { charge: Charge { facts, .. }, .. })
            | P::Unresolved(Attempt { charge: Charge { facts, .. }, .. })
            | P::Declined(Attempt { charge: Charge { facts, .. }, .. })
            | P::Recorded { facts, .. },
            C::RecordDispute(Dispute { id, status, .. }),
        ) => {
            let reason = format!(
                "disputed as {id} ({status}), though no gateway is known to \
                 have taken it"
            );
            Ok(vec![unresolved(facts, reason)])
        }

        (P::Unresolved(attempt), C::Resolve(finding)) => Ok(vec![resolve(attempt, finding)?]),
        (P::Open(_) | P::Declined(_) | P::Captured { .. } | P::Recorded { .. }, C::Resolve(_)) => {
            Err(Refusal::NotUnresolved { state: payment.phase() })
        }

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
        (P::Recorded { .. }, C::RequestRefund { amount, .. }) => {
            Err(Refusal::NotAtGateway { amount: *amount })
        }
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
            P::Open(Attempt { charge: Charge { facts, .. }, .. })
            | P::Unresolved(Attempt { charge: Charge { facts, .. }, .. })
            | P::Declined(Attempt { charge: Charge { facts, .. }, .. }),
            C::RecordRefundDone(refund) | C::RecordRefundFailure { refund, .. },
        ) => Ok(vec![unasked(facts, *refund)]),
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::RecordRefundDone(refund),
        ) => Ok(refund_done(facts, refunds, *refund).into_iter().collect()),
        (
            P::Captured { charge: Charge { facts, .. }, refunds, .. }
            | P::Recorded { facts, refunds },
            C::RecordRefundFailure { refund, reason },
        ) => Ok(refund_failure(facts, refunds, *refund, reason).into_iter().collect()),
    }
}

/// What is odd about a gateway's word on a payment that did not come through one.
const ELSEWHERE: &str = "though it is recorded as settled elsewhere";

fn identify(attempt: &Attempt, gateway_payment: &Text) -> Vec<Event> {
    let Attempt { charge: Charge { facts, gateway, .. }, gateway_payment: known } = attempt;
    match known {
        None => vec![Event::Identified {
            facts: *facts,
            gateway: gateway.clone(),
            gateway_payment: gateway_payment.clone(),
        }],
        Some(known) if known == gateway_payment => vec![],
        Some(known) => vec![two_ids(facts, known, gateway_payment)],
    }
}

fn capture(attempt: &Attempt, gateway_payment: &Text, money: Money) -> Event {
    let Attempt { charge, gateway_payment: known } = attempt;
    let facts = charge.facts;
    if let Some(known) = known.as_ref().filter(|known| *known != gateway_payment) {
        return two_ids(&facts, known, gateway_payment);
    }
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

/// A person may be mistaken, so what contradicts the known is refused rather than taken down.
fn resolve(attempt: &Attempt, finding: &Finding) -> Result<Event, Refusal> {
    let Attempt { charge: Charge { facts, .. }, gateway_payment: known } = attempt;
    match finding {
        Finding::NotCharged { reason } => {
            Ok(Event::Declined { facts: *facts, reason: reason.clone() })
        }
        Finding::Captured { gateway_payment, money } => {
            if let Some(known) = known.as_ref().filter(|known| *known != gateway_payment) {
                let (expected, actual) = (known.clone(), gateway_payment.clone());
                return Err(Refusal::GatewayPaymentDiffers { expected, actual });
            }
            if *money != facts.money {
                let (expected, actual) = (facts.money, *money);
                return Err(Refusal::AmountDiffers { expected, actual });
            }
            Ok(capture(attempt, gateway_payment, *money))
        }
    }
}

fn refund_done(facts: &Facts, refunds: &Refunds, refund: RefundId) -> Option<Event> {
    match refunds.get(refund) {
        None => Some(unasked(facts, refund)),
        Some((_, RefundPhase::Settled)) => None,
        Some((amount, RefundPhase::Open)) => Some(refunded(facts, refund, amount, false)),
        // It was given up, and then it succeeded after all.
        Some((amount, RefundPhase::Failed)) => {
            if amount <= refunds.left_of(facts.money.amount) {
                return Some(refunded(facts, refund, amount, false));
            }
            let reason = format!(
                "refund {refund} succeeded after it had failed; with it more is given back than \
                 was captured"
            );
            Some(unresolved(facts, reason))
        }
    }
}

fn refund_failure(
    facts: &Facts,
    refunds: &Refunds,
    refund: RefundId,
    reason: &Text,
) -> Option<Event> {
    match refunds.get(refund) {
        None => Some(unasked(facts, refund)),
        Some((_, RefundPhase::Failed)) => None,
        Some((amount, RefundPhase::Open)) => Some(failed(facts, refund, amount, reason)),
        Some((_, RefundPhase::Settled)) => {
            let reason = format!("refund {refund} failed after it had succeeded: {reason}");
            Some(unresolved(facts, reason))
        }
    }
}

fn check_new(
    facts: &Facts,
    refunds: &Refunds,
    refund: RefundId,
    amount: Amount,
) -> Result<(), Refusal> {
    if refunds.get(refund).is_some() {
        return Err(Refusal::RefundExists { refund });
    }
    let limit = refunds.left_of(facts.money.amount);
    if amount > limit { Err(Refusal::RefundTooHigh { amount, limit }) } else { Ok(()) }
}

fn two_ids(facts: &Facts, known: &Text, other: &Text) -> Event {
    unresolved(facts, format!("the gateway knows it as {other} and had known it as {known}"))
}

fn unasked(facts: &Facts, refund: RefundId) -> Event {
    unresolved(facts, format!("the gateway answers about refund {refund}, which nobody asked for"))
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

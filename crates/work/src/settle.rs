//! What a gateway's answers mean for a payment or refund. Pure.

use crate::gateway::{ChargeOutcome, RefundOutcome};

/// Most charges of one payment that a reason names.
const MAX_IDS: usize = 5;

/// A sum that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Minor units.
    pub(crate) amount: i64,
    /// ISO 4217.
    pub(crate) currency: &'a str,
}

/// What is known of a payment at the gateway. Whether it is the sum that was asked for is not
/// judged here: the payment itself compares, and counts nothing else as paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Money is taken, this much of it.
    Captured {
        /// The gateway's id of the charge.
        gateway_payment_id: String,
        /// Minor units, as taken.
        amount: i64,
        /// ISO 4217, as taken.
        currency: String,
    },
    /// Nothing is taken.
    Declined {
        /// Safe to show.
        reason: String,
    },
    /// A person must look.
    Unresolved {
        /// Why, for that person.
        reason: String,
    },
}

/// How a refund ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefundSettled {
    /// Exactly what was asked for is given back.
    Refunded,
    /// Nothing is given back.
    Failed {
        /// As `refund_exceeds_charge`.
        reason: String,
    },
    /// The gateway's books contradict the request: a person must look.
    Contradiction(&'static str),
}

/// What a charge's answer means.
pub(crate) fn judge(outcome: ChargeOutcome) -> Settled {
    match outcome {
        ChargeOutcome::Captured { gateway_payment_id, amount, currency } => {
            Settled::Captured { gateway_payment_id, amount, currency }
        }
        ChargeOutcome::Declined { reason } => Settled::Declined { reason },
    }
}

/// What a look-up settles; `None`: the gateway knows nothing of the payment.
pub(crate) fn judge_found(found: Vec<ChargeOutcome>) -> Option<Settled> {
    let (mut captured, mut declined) = (Vec::new(), Vec::new());
    for outcome in found {
        match judge(outcome) {
            taken @ Settled::Captured { .. } => captured.push(taken),
            other @ (Settled::Declined { .. } | Settled::Unresolved { .. }) => declined.push(other),
        }
    }
    if captured.len() > 1 {
        let reason = format!("captured {} times: {}", captured.len(), ids(&captured));
        return Some(Settled::Unresolved { reason });
    }
    captured.pop().or_else(|| declined.pop())
}

fn ids(captured: &[Settled]) -> String {
    let ids = captured.iter().filter_map(|taken| match taken {
        Settled::Captured { gateway_payment_id, .. } => Some(gateway_payment_id.as_str()),
        Settled::Declined { .. } | Settled::Unresolved { .. } => None,
    });
    ids.take(MAX_IDS).collect::<Vec<_>>().join(", ")
}

/// What a refund's answer means.
pub(crate) fn judge_refund(asked: Asked<'_>, outcome: RefundOutcome) -> RefundSettled {
    match outcome {
        RefundOutcome::Refunded { gateway_refund_id: _, amount, currency } => {
            if amount == asked.amount && currency == asked.currency {
                RefundSettled::Refunded
            } else {
                RefundSettled::Contradiction("the gateway refunded another sum than asked for")
            }
        }
        RefundOutcome::Failed { reason } => RefundSettled::Failed { reason },
    }
}

/// What a look-up of a refund settles; `None`: the gateway knows nothing of it.
pub(crate) fn judge_refund_found(
    asked: Asked<'_>,
    found: Vec<RefundOutcome>,
) -> Option<RefundSettled> {
    let (mut refunded, mut failed): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|outcome| match outcome {
            RefundOutcome::Refunded { .. } => true,
            RefundOutcome::Failed { .. } => false,
        });
    match (refunded.pop(), failed.pop()) {
        (Some(_), _) if !refunded.is_empty() => {
            Some(RefundSettled::Contradiction("the gateway refunded more than once"))
        }
        (Some(outcome), _) | (None, Some(outcome)) => Some(judge_refund(asked, outcome)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'static> = Asked { amount: 1_250, currency: "EUR" };

    fn captured(id: &str) -> ChargeOutcome {
        let (gateway_payment_id, currency) = (id.to_owned(), "EUR".to_owned());
        ChargeOutcome::Captured { gateway_payment_id, amount: 1_250, currency }
    }

    fn declined(reason: &str) -> ChargeOutcome {
        ChargeOutcome::Declined { reason: reason.into() }
    }

    fn refunded(amount: i64) -> RefundOutcome {
        let gateway_refund_id = "re_1".to_owned();
        RefundOutcome::Refunded { gateway_refund_id, amount, currency: "EUR".into() }
    }

    #[test]
    fn nothing_found_settles_nothing() {
        assert_eq!(judge_found(vec![]), None);
    }

    #[test]
    fn what_was_taken_is_reported_as_taken() {
        let taken = Settled::Captured {
            gateway_payment_id: "ch_1".into(),
            amount: 1_250,
            currency: "EUR".into(),
        };
        assert_eq!(judge_found(vec![captured("ch_1")]), Some(taken.clone()));
        assert_eq!(
            judge_found(vec![captured("ch_1"), declined("card_declined")]),
            Some(taken),
            "a capture counts more than a decline, before or after it"
        );
    }

    #[test]
    fn a_decline_that_is_found_counts() {
        let reason = "card_declined".to_owned();
        assert_eq!(judge_found(vec![declined(&reason)]), Some(Settled::Declined { reason }));
    }

    #[test]
    fn a_payment_taken_twice_is_for_a_person() {
        let reason = "captured 2 times: ch_1, ch_2".to_owned();
        assert_eq!(
            judge_found(vec![captured("ch_1"), captured("ch_2")]),
            Some(Settled::Unresolved { reason })
        );
    }

    #[test]
    fn a_refund_of_another_sum_is_for_a_person() {
        assert_eq!(judge_refund(ASKED, refunded(1_250)), RefundSettled::Refunded);
        assert!(matches!(judge_refund(ASKED, refunded(1)), RefundSettled::Contradiction(_)));
        assert_eq!(judge_refund_found(ASKED, vec![]), None);
        assert_eq!(judge_refund_found(ASKED, vec![refunded(1_250)]), Some(RefundSettled::Refunded));
        assert!(matches!(
            judge_refund_found(ASKED, vec![refunded(1_250), refunded(1_250)]),
            Some(RefundSettled::Contradiction(_))
        ));
    }
}

//! Calling off, and running out of time.

use super::*;

#[test]
fn an_order_is_called_off_before_anything_left() {
    happened(&[placed()]).when(&cancel()).then(&[cancelled(1000)]);
    after(paid_history(), &[shipped(1, &[(1, 1)], false)])
        .when(&cancel())
        .refused(&Refusal::WrongState { state: "part-shipped" });
}

#[test]
fn what_was_paid_goes_back_when_it_is_called_off() {
    let then =
        after(paid_history(), &[]).when(&cancel()).then(&[cancelled(1000), refund_opened(1, 1000)]);
    let ledger = then.0.details().unwrap().ledger();
    assert_eq!((ledger.due(), ledger.kept()), (amount(0), amount(0)));
}

#[test]
fn after_goodwill_only_the_rest_is_credited_and_goes_back() {
    let given = after(paid_history(), &[]).when(&goodwill(1, gbp(100))).accepted();
    let seed = RefundSeed(Uuid::from_u128(7));
    let command = Command::Cancel { reason: "changed my mind".into(), seed };
    let (payment, refund, money) = (pay(1), seed.id_for(pay(1)), gbp(900));
    given
        .when(&command)
        .then(&[cancelled(900), Event::RefundOpened { order: order(), payment, refund, money }]);
}

#[test]
fn an_outcome_is_awaited_before_it_is_called_off() {
    happened(&[placed(), opened(1, 400)])
        .when(&cancel())
        .refused(&Refusal::PaymentOpen { open: amount(400) });
    happened(&[placed(), opened(1, 400), closed(1, 400, None)])
        .when(&cancel())
        .then(&[cancelled(1000)]);
}

#[test]
fn what_no_gateway_can_give_back_is_owed() {
    let reason = "it was settled elsewhere: somebody has to give it back";
    let then = happened(&[placed(), captured(1, 400), opened(2, 600), captured(2, 600), paid()])
        .when(&cancel())
        .then(&[
            cancelled(1000),
            refund_opened(1, 400),
            refund_failed(1, 400, reason),
            refund_opened(2, 600),
        ]);
    assert_eq!(then.0.details().unwrap().ledger().excess(), amount(400));
    // The operator gives it back, which credits nothing twice.
    let seed = RefundSeed(Uuid::from_u128(8));
    let by_hand = Command::Refund(Goodwill {
        payment: pay(1),
        money: gbp(400),
        by: RefundBy::Elsewhere,
        reason: "owed".into(),
        seed,
    });
    let (payment, refund, money) = (pay(1), seed.id_for(pay(1)), gbp(400));
    then.when(&by_hand).then(&[
        Event::RefundOpened { order: order(), payment, refund, money },
        Event::RefundSettled { order: order(), payment, refund, money },
    ]);
}

#[test]
fn an_unpaid_order_expires_at_its_deadline_and_no_other() {
    happened(&[placed()]).when(&expire(at(15))).then(&[expired()]);
    happened(&[placed()])
        .when(&expire(at(14)))
        .refused(&Refusal::DeadlineMoved { expires_at: Some(at(15)) });
    let already_paid = Refusal::AlreadyPaid { due: amount(1000), paid: amount(1000) };
    after(paid_history(), &[]).when(&expire(at(15))).refused(&already_paid);
    happened(&[placed(), opened(1, 400)])
        .when(&expire(at(15)))
        .refused(&Refusal::PaymentOpen { open: amount(400) });
}

#[test]
fn an_order_paid_in_part_expires_too_and_the_part_goes_back() {
    happened(&[placed(), opened(1, 400), captured_until(1, 400, Some(at(60)))])
        .when(&expire(at(60)))
        .then(&[expired(), refund_opened(1, 400)]);
}

#[test]
fn a_history_that_cannot_be_is_not_folded() {
    assert!(Order::Unplaced.evolve(&paid()).is_err());
    for misfit in [placed(), closed(9, 1, None), refund_opened(1, 1), returned(&[(1, 1, 1)])] {
        assert!(happened(&[placed()]).0.evolve(&misfit).is_err(), "{misfit:?}");
    }
    let over = [
        shipped(2, &[(1, 1)], false),
        returned(&[(1, 3, 1)]),
        returned(&[(1, 1, 1001)]),
        refund_opened(1, 1001),
        captured(1, 1000),
        cancelled(1000),
    ];
    for misfit in over {
        let given = after(paid_history(), &[all_shipped()]);
        assert!(given.0.evolve(&misfit).is_err(), "{misfit:?}");
    }
}

//! Payments, and what goes back of them.

use super::*;

#[test]
fn a_payment_is_opened_up_to_what_is_due() {
    let given = happened(&[placed()]).when(&open(1, gbp(600))).then(&[opened(1, 600)]);
    let refusal = Refusal::OverCharge { due: amount(1000), captured: amount(0), open: amount(600) };
    given.clone().when(&open(2, gbp(401))).refused(&refusal);
    given.clone().when(&record(2, gbp(401))).refused(&refusal);
    given.clone().when(&open(1, gbp(1))).refused(&Refusal::PaymentExists { payment: pay(1) });
    given.when(&open(2, gbp(400))).then(&[opened(2, 400)]);
}

#[test]
fn a_payment_is_in_the_order_s_currency() {
    let refusal = Refusal::CurrencyDiffers { expected: gbp(0).currency, actual: eur(0).currency };
    happened(&[placed()]).when(&open(1, eur(1))).refused(&refusal);
    happened(&[placed()]).when(&record(1, eur(1))).refused(&refusal);
    after(paid_history(), &[]).when(&goodwill(1, eur(1))).refused(&refusal);
}

#[test]
fn an_order_is_paid_when_enough_has_come() {
    let then = happened(&[placed(), opened(1, 600)]).when(&capture(1)).then(&[captured_until(
        1,
        600,
        Some(at(60)),
    )]);
    then.when(&record(2, gbp(400))).then(&[captured(2, 400), paid()]);
    happened(&[placed(), opened(1, 1000)]).when(&capture(1)).then(&[captured(1, 1000), paid()]);
    // The same news again is none.
    after(paid_history(), &[]).when(&capture(1)).then(&[]);
}

#[test]
fn a_payment_that_closes_uncaptured_begins_a_new_expiry() {
    let given = happened(&[placed(), opened(1, 600), opened(2, 400)]);
    // Not while another is under way.
    let given = given.when(&close(1)).then(&[closed(1, 600, None)]);
    let given = given.when(&close(2)).then(&[closed(2, 400, Some(at(60)))]);
    given.clone().when(&close(2)).then(&[]);
    given
        .clone()
        .when(&expire(at(15)))
        .refused(&Refusal::DeadlineMoved { expires_at: Some(at(60)) });
    given.when(&expire(at(60))).then(&[expired()]);
}

#[test]
fn an_order_that_never_expires_does_not_begin_to() {
    let never = NewOrder { expires_at: None, ..new_order() };
    let given = happened(&[]).when(&Command::Place(never)).accepted();
    let given = given.when(&open(1, gbp(1000))).accepted();
    given.when(&close(1)).then(&[closed(1, 1000, None)]);
}

#[test]
fn tries_are_counted() {
    let mut history = vec![placed()];
    for n in 0..MAX_PAYMENTS as u128 {
        history.extend([opened(n, 1000), closed(n, 1000, None)]);
    }
    let refusal = Refusal::TooManyPayments { limit: MAX_PAYMENTS };
    happened(&history).when(&open(999, gbp(1000))).refused(&refusal);
    // What was tried may still turn out to have been taken.
    happened(&history).when(&capture(0)).then(&[captured(0, 1000), paid()]);
}

#[test]
fn money_that_comes_late_pays_the_order_or_goes_back() {
    // Declined, then taken after all.
    happened(&[placed(), opened(1, 1000), closed(1, 1000, None)])
        .when(&capture(1))
        .then(&[captured(1, 1000), paid()]);
    // Paid otherwise meanwhile.
    let history = [
        placed(),
        opened(1, 1000),
        closed(1, 1000, None),
        opened(2, 1000),
        captured(2, 1000),
        paid(),
    ];
    happened(&history).when(&capture(1)).then(&[captured(1, 1000), refund_opened(1, 1000)]);
    // Called off or expired meanwhile.
    for end in [cancelled(1000), expired()] {
        happened(&[placed(), opened(1, 1000), closed(1, 1000, None), end])
            .when(&capture(1))
            .then(&[captured(1, 1000), refund_opened(1, 1000)]);
    }
    // Partly credited meanwhile.
    let history = [placed(), all_shipped(), opened(1, 1000), returned(&[(1, 2, 600)])];
    happened(&history).when(&capture(1)).then(&[captured(1, 1000), paid(), refund_opened(1, 600)]);
}

fn credited(n: u128, minor: i64) -> Event {
    Event::Credited {
        order: order(),
        customer: customer(),
        country: country(),
        payment: pay(n),
        credit: gbp(minor),
        reason: "sorry".into(),
    }
}

#[test]
fn goodwill_is_credited_and_paid_back() {
    let given = after(paid_history(), &[all_shipped()])
        .when(&goodwill(1, gbp(250)))
        .then(&[credited(1, 250), refund_opened(1, 250)]);
    assert!(given.0.details().unwrap().ledger().is_paid());
    let (payment, limit) = (pay(1), amount(750));
    let refusal = Refusal::RefundTooHigh { payment, amount: amount(751), limit };
    given.when(&goodwill(1, gbp(751))).refused(&refusal);
    let unknown = Refusal::PaymentUnknown { payment: pay(2) };
    after(paid_history(), &[]).when(&goodwill(2, gbp(1))).refused(&unknown);
}

#[test]
fn goodwill_out_of_cash_is_not_the_gateway_s() {
    let given = happened(&[placed(), captured(1, 1000), paid()]);
    let refusal = Refusal::NotAtGateway { refund: amount(5), refundable: amount(0) };
    given.clone().when(&goodwill(1, gbp(5))).refused(&refusal);
    let by_hand = Command::Refund(Goodwill {
        payment: pay(1),
        money: gbp(5),
        by: RefundBy::Elsewhere,
        reason: "sorry".into(),
        seed: SEED,
    });
    given.when(&by_hand).then(&[credited(1, 5), refund_opened(1, 5), refund_settled(1, 5)]);
}

fn fail(n: u128, minor: i64) -> Command {
    Command::RecordRefundFailure {
        payment: pay(n),
        refund: refund_of(n),
        money: gbp(minor),
        reason: "closed account".into(),
    }
}

#[test]
fn a_failed_refund_is_made_anew_without_a_second_credit() {
    let given = after(paid_history(), &[all_shipped()])
        .when(&take_back(&[(1, 1, None)], RefundBy::Gateway))
        .accepted()
        .when(&fail(1, 300))
        .then(&[refund_failed(1, 300, "closed account")]);
    assert_eq!(given.0.details().unwrap().ledger().excess(), amount(300));
    let again = given.clone().when(&goodwill(1, gbp(300))).then(&[refund_opened(1, 300)]);
    assert_eq!(again.0.details().unwrap().ledger().due(), amount(700));
    // More than that is goodwill.
    given.clone().when(&goodwill(1, gbp(310))).then(&[credited(1, 10), refund_opened(1, 310)]);
    // Or it succeeded after all.
    let late = Command::RecordRefundDone {
        payment: pay(1),
        refund: refund_of(1),
        money: gbp(300),
        after_failure: true,
    };
    given.when(&late).then(&[refund_opened(1, 300), refund_settled(1, 300)]);
}

#[test]
fn nothing_is_paid_after_the_end() {
    for (end, state) in [(cancelled(1000), "cancelled"), (expired(), "expired")] {
        let given = happened(&[placed(), end]);
        let refusal = Refusal::WrongState { state };
        given.clone().when(&open(1, gbp(1))).refused(&refusal);
        given.clone().when(&record(1, gbp(1))).refused(&refusal);
        given.clone().when(&ship(None)).refused(&refusal);
        given.clone().when(&Command::Deliver).refused(&refusal);
        given.clone().when(&cancel()).refused(&refusal);
        given.clone().when(&expire(at(15))).refused(&refusal);
        given.when(&take_back(&[(1, 1, None)], RefundBy::Gateway)).refused(&refusal);
    }
}

#[test]
fn nothing_is_asked_of_an_order_that_was_never_placed() {
    for command in [
        open(1, gbp(1)),
        record(1, gbp(1)),
        capture(1),
        close(1),
        ship(None),
        Command::Deliver,
        take_back(&[(1, 1, None)], RefundBy::Gateway),
        goodwill(1, gbp(1)),
        cancel(),
        expire(at(15)),
        fail(1, 1),
    ] {
        happened(&[]).when(&command).refused(&Refusal::Unknown);
    }
}

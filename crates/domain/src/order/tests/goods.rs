//! Placing, sending, taking back.

use super::*;

#[test]
fn an_order_is_placed_once_and_adds_up() {
    let then = happened(&[]).when(&Command::Place(new_order())).then(&[placed()]);
    assert_eq!(then.0.phase(), "placed");
    then.when(&Command::Place(new_order())).refused(&Refusal::Exists);
}

#[test]
fn what_the_buyer_was_shown_is_what_is_charged() {
    let shown = |total| NewOrder { expected_total: Some(amount(total)), ..new_order() };
    happened(&[]).when(&Command::Place(shown(1000))).then(&[placed()]);
    let refusal = Refusal::TotalDiffers { expected: amount(999), actual: amount(1000) };
    happened(&[]).when(&Command::Place(shown(999))).refused(&refusal);
}

#[test]
fn shipping_and_tax_are_asked_for_beside_the_lines() {
    let charged = NewOrder { shipping: amount(50), tax: amount(210), ..new_order() };
    let shown = NewOrder { expected_total: Some(amount(1260)), ..charged.clone() };
    let given = happened(&[]).when(&Command::Place(shown)).accepted();
    assert_eq!(given.0.details().unwrap().ledger().due(), amount(1260));
    let refusal = Refusal::OverCharge { due: amount(1260), captured: amount(0), open: amount(0) };
    given.clone().when(&open(1, gbp(1261))).refused(&refusal);
    given.clone().when(&open(1, gbp(1000))).accepted().when(&capture(1)).accepted();
    // What is sent and comes back is the goods: their price is credited, shipping and tax are not.
    let paid = given.when(&record(1, gbp(1260))).accepted().when(&ship(None)).accepted();
    let back = paid.when(&take_back(&[(1, 2, None), (2, 4, None)], RefundBy::Elsewhere)).accepted();
    assert_eq!(back.0.details().unwrap().ledger().due(), amount(260));
    for (shipping, tax) in [(Amount::MAX, amount(0)), (amount(0), Amount::MAX)] {
        let huge = NewOrder { shipping, tax, ..new_order() };
        happened(&[]).when(&Command::Place(huge)).refused(&Refusal::TooLarge);
    }
}

#[test]
fn an_order_needs_lines_and_a_total_that_can_be_written() {
    let none = NewOrder { lines: vec![], ..new_order() };
    happened(&[]).when(&Command::Place(none)).refused(&Refusal::NoLines);
    for prices in [[Amount::MAX, amount(0)], [Amount::clamp(Amount::MAX.get() / 2), Amount::MAX]] {
        let mut huge = new_order();
        for (line, price) in huge.lines.iter_mut().zip(prices) {
            line.unit_price = price;
        }
        happened(&[]).when(&Command::Place(huge)).refused(&Refusal::TooLarge);
    }
}

#[test]
fn an_order_of_nothing_is_paid_from_the_start() {
    let mut free = new_order();
    for line in &mut free.lines {
        line.unit_price = Amount::ZERO;
    }
    let given = happened(&[]).when(&Command::Place(free)).accepted();
    assert!(given.0.details().unwrap().ledger().is_paid());
    assert_eq!(given.0.details().unwrap().expires_at(), None);
    let refusal = Refusal::OverCharge { due: amount(0), captured: amount(0), open: amount(0) };
    given.clone().when(&open(1, gbp(1))).refused(&refusal);
    given.clone().when(&expire(at(15))).refused(&Refusal::DeadlineMoved { expires_at: None });
    given.when(&ship(None)).then(&[all_shipped()]);
}

#[test]
fn goods_leave_when_paid() {
    let refusal = Refusal::NotPaid { due: amount(1000), paid: amount(0) };
    happened(&[placed()]).when(&ship(None)).refused(&refusal);
    after(paid_history(), &[]).when(&ship(None)).then(&[all_shipped()]);
}

#[test]
fn goods_leave_unpaid_only_on_account() {
    let on_account = Command::Ship { lines: None, on_account: true };
    let then = happened(&[placed()]).when(&on_account).then(&[all_shipped()]);
    // And can still be paid, and don't expire.
    then.clone().when(&expire(at(15))).refused(&Refusal::WrongState { state: "shipped" });
    then.when(&record(1, gbp(1000))).then(&[captured(1, 1000), paid()]);
}

#[test]
fn shipments_may_come_in_parts() {
    after(paid_history(), &[])
        .when(&ship(Some(&[(2, 3)])))
        .then(&[shipped(1, &[(2, 3)], false)])
        .when(&Command::Deliver)
        .refused(&Refusal::WrongState { state: "part-shipped" });
    let part = after(paid_history(), &[shipped(1, &[(2, 3)], false)]);
    part.clone()
        .when(&ship(Some(&[(2, 2)])))
        .refused(&Refusal::TooManyShipped { line: 2, shippable: 1 });
    let rest = part.when(&ship(None)).then(&[shipped(2, &[(1, 2), (2, 1)], true)]);
    rest.clone().when(&ship(None)).refused(&Refusal::NothingToShip { state: "shipped" });
    rest.when(&Command::Deliver)
        .then(&[Event::Delivered { order: order(), customer: customer() }])
        .when(&Command::Deliver)
        .refused(&Refusal::WrongState { state: "delivered" });
}

#[test]
fn lines_are_named_as_they_are() {
    let given = after(paid_history(), &[]);
    given.clone().when(&ship(Some(&[(3, 1)]))).refused(&Refusal::LineUnknown { line: 3 });
    given.clone().when(&ship(Some(&[(0, 1)]))).refused(&Refusal::LineUnknown { line: 0 });
    given.clone().when(&ship(Some(&[(1, 1), (1, 1)]))).refused(&Refusal::LineRepeated { line: 1 });
    given.when(&ship(Some(&[]))).refused(&Refusal::NoLines);
}

#[test]
fn what_comes_back_is_credited_and_paid_back() {
    let given = after(paid_history(), &[all_shipped()]);
    let then = given
        .when(&take_back(&[(1, 1, None), (2, 4, None)], RefundBy::Gateway))
        .then(&[returned(&[(1, 1, 300), (2, 4, 400)]), refund_opened(1, 700)]);
    let ledger = then.0.details().unwrap().ledger();
    assert_eq!(
        (ledger.due(), ledger.kept(), ledger.captured()),
        (amount(300), amount(300), amount(1000))
    );
    then.clone()
        .when(&take_back(&[(2, 1, None)], RefundBy::Gateway))
        .refused(&Refusal::TooManyReturned { line: 2, returnable: 0 });
    let done = Command::RecordRefundDone {
        payment: pay(1),
        refund: refund_of(1),
        money: gbp(700),
        after_failure: false,
    };
    let then = then.when(&done).then(&[refund_settled(1, 700)]);
    assert_eq!(then.0.details().unwrap().ledger().captured(), amount(300));
}

#[test]
fn only_what_left_comes_back() {
    after(paid_history(), &[])
        .when(&take_back(&[(1, 1, None)], RefundBy::Gateway))
        .refused(&Refusal::TooManyReturned { line: 1, returnable: 0 });
    let part = after(paid_history(), &[shipped(1, &[(2, 3)], false)]);
    part.clone()
        .when(&take_back(&[(2, 4, None)], RefundBy::Gateway))
        .refused(&Refusal::TooManyReturned { line: 2, returnable: 3 });
    part.clone()
        .when(&take_back(&[(2, 1, None), (2, 1, None)], RefundBy::Gateway))
        .refused(&Refusal::LineRepeated { line: 2 });
    part.clone().when(&take_back(&[], RefundBy::Gateway)).refused(&Refusal::NoLines);
    part.when(&take_back(&[(9, 1, None)], RefundBy::Gateway))
        .refused(&Refusal::LineUnknown { line: 9 });
}

#[test]
fn a_credit_may_differ_from_the_price_but_not_pass_what_is_due() {
    let given = after(paid_history(), &[all_shipped()]);
    given
        .clone()
        .when(&take_back(&[(1, 1, Some(0)), (2, 1, Some(650))], RefundBy::Gateway))
        .then(&[returned(&[(1, 1, 0), (2, 1, 650)]), refund_opened(1, 650)]);
    given
        .when(&take_back(&[(1, 1, Some(600)), (2, 1, Some(401))], RefundBy::Gateway))
        .refused(&Refusal::CreditTooHigh { credit: amount(401), limit: amount(400) });
}

#[test]
fn a_price_is_credited_as_far_as_goodwill_left_it_due() {
    let given = after(paid_history(), &[all_shipped()]).when(&goodwill(1, gbp(100))).accepted();
    let lines = [(1, 2, None), (2, 4, None)];
    given
        .when(&Command::RecordRefundDone {
            payment: pay(1),
            refund: refund_of(1),
            money: gbp(100),
            after_failure: false,
        })
        .accepted()
        .when(&take_back(&lines, RefundBy::Gateway))
        .then(&[returned(&[(1, 2, 600), (2, 4, 300)]), refund_opened(1, 900)]);
}

#[test]
fn a_return_settled_elsewhere_is_done_at_once() {
    let history = [placed(), captured(1, 1000), paid(), all_shipped()];
    happened(&history).when(&take_back(&[(1, 2, None)], RefundBy::Elsewhere)).then(&[
        returned(&[(1, 2, 600)]),
        refund_opened(1, 600),
        refund_settled(1, 600),
    ]);
}

#[test]
fn money_goes_back_from_the_oldest_payment_that_a_gateway_can_give_back() {
    // 300 by cash, then 200 and 500 by card.
    let history = [
        placed(),
        captured(1, 300),
        opened(2, 200),
        captured(2, 200),
        opened(3, 500),
        captured(3, 500),
        paid(),
        all_shipped(),
    ];
    let given = happened(&history);
    given.clone().when(&take_back(&[(1, 1, None)], RefundBy::Gateway)).then(&[
        returned(&[(1, 1, 300)]),
        refund_opened(2, 200),
        refund_opened(3, 100),
    ]);
    given.clone().when(&take_back(&[(1, 2, None)], RefundBy::Elsewhere)).then(&[
        returned(&[(1, 2, 600)]),
        refund_opened(1, 300),
        refund_settled(1, 300),
        refund_opened(2, 200),
        refund_settled(2, 200),
        refund_opened(3, 100),
        refund_settled(3, 100),
    ]);
    let refusal = Refusal::NotAtGateway { refund: amount(1000), refundable: amount(700) };
    given.when(&take_back(&[(1, 2, None), (2, 4, None)], RefundBy::Gateway)).refused(&refusal);
}

#[test]
fn a_return_on_account_gives_nothing_back_and_may_make_the_order_paid() {
    let history = [placed(), all_shipped()];
    happened(&history)
        .when(&take_back(&[(1, 2, None)], RefundBy::Gateway))
        .then(&[returned(&[(1, 2, 600)])]);
    // Nothing came and nothing is due any more: that is not called paid.
    happened(&history)
        .when(&take_back(&[(1, 2, None), (2, 4, None)], RefundBy::Gateway))
        .then(&[returned(&[(1, 2, 600), (2, 4, 400)])]);
    let history = [placed(), all_shipped(), opened(1, 500), captured(1, 500)];
    happened(&history).when(&take_back(&[(1, 2, None)], RefundBy::Gateway)).then(&[
        returned(&[(1, 2, 600)]),
        refund_opened(1, 100),
        paid(),
    ]);
}

#[test]
fn an_order_of_thousands_of_lines_is_cheap() {
    let mut big = new_order();
    let line = big.lines[0].clone();
    big.lines = vec![line; 2_000];
    let mut given = happened(&[]).when(&Command::Place(big)).accepted();
    given = given.when(&record(1, gbp(1_200_000))).accepted();
    given = given.when(&ship(None)).accepted();
    for line in 1..=2_000 {
        given = given.when(&take_back(&[(line, 1, None)], RefundBy::Elsewhere)).accepted();
    }
    assert_eq!(given.0.details().unwrap().ledger().due(), amount(600_000));
}

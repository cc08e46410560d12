//! How a payment goes.

use uuid::Uuid;

use super::*;
use crate::{
    Currency,
    spec::{Given, given},
};

fn money(minor: i64) -> Money {
    Amount::new(minor).unwrap().of(Currency::from_code("GBP").unwrap())
}

fn amount(minor: i64) -> Amount {
    Amount::new(minor).unwrap()
}

fn facts() -> Facts {
    let (payment, order) = (PaymentId(Uuid::from_u128(1)), OrderId(Uuid::from_u128(2)));
    Facts { payment, order, customer: None, money: money(500) }
}

fn charge() -> Charge {
    Charge { facts: facts(), gateway: "sandbox".into(), deadline: DateTime::UNIX_EPOCH }
}

fn requested() -> Event {
    Event::Requested(charge())
}

fn captured() -> Event {
    let (gateway, gateway_payment) = ("sandbox".into(), "ch_1".into());
    Event::Captured { facts: facts(), gateway, gateway_payment }
}

fn declined() -> Event {
    Event::Declined { facts: facts(), reason: "no funds".into() }
}

fn unresolved(reason: &str) -> Event {
    Event::Unresolved { facts: facts(), reason: reason.into() }
}

fn recorded() -> Event {
    Event::Recorded { facts: facts(), country: None, method: "cash".into(), reference: None }
}

fn record_capture(gateway_payment: &str, minor: i64) -> Command {
    Command::RecordCapture { gateway_payment: gateway_payment.into(), money: money(minor) }
}

fn refund(n: u128) -> RefundId {
    RefundId(Uuid::from_u128(n))
}

fn request_refund(n: u128, minor: i64) -> Command {
    let reason = "returned".into();
    Command::RequestRefund { refund: refund(n), amount: amount(minor), reason }
}

fn refund_requested(n: u128, minor: i64) -> Event {
    let Facts { payment, order, .. } = facts();
    let reason = "returned".into();
    Event::RefundRequested { payment, order, refund: refund(n), money: money(minor), reason }
}

fn refunded(n: u128, minor: i64, settled_elsewhere: bool) -> Event {
    let Facts { payment, order, customer, .. } = facts();
    let (refund, money) = (refund(n), money(minor));
    Event::Refunded { payment, order, customer, refund, money, settled_elsewhere }
}

fn refund_failed(n: u128, minor: i64) -> Event {
    let Facts { payment, order, .. } = facts();
    let reason = "closed account".into();
    Event::RefundFailed { payment, order, refund: refund(n), money: money(minor), reason }
}

fn fail_refund(n: u128) -> Command {
    Command::RecordRefundFailure { refund: refund(n), reason: "closed account".into() }
}

fn payment(history: &[Event]) -> Given<Payment> {
    given(history)
}

#[test]
fn an_id_is_used_once() {
    let record =
        Command::Record { facts: facts(), country: None, method: "cash".into(), reference: None };
    payment(&[]).when(&Command::Request(charge())).then(&[requested()]);
    payment(&[]).when(&record).then(&[recorded()]);
    for history in [vec![requested()], vec![recorded()], vec![requested(), declined()]] {
        payment(&history).when(&record).refused(&Refusal::Exists);
        payment(&history).when(&Command::Request(charge())).refused(&Refusal::Exists);
    }
}

#[test]
fn the_gateway_takes_what_was_asked_for() {
    let then = payment(&[requested()]).when(&record_capture("ch_1", 500)).then(&[captured()]);
    assert_eq!(then.0.phase(), "captured");
    // The same answer again changes nothing.
    then.when(&record_capture("ch_1", 500)).then(&[]);
}

#[test]
fn another_amount_is_never_taken_for_the_one_asked_for() {
    let reason = "the gateway took 499 minor units of GBP as ch_1 when 500 minor units of GBP were \
                  asked for";
    let then =
        payment(&[requested()]).when(&record_capture("ch_1", 499)).then(&[unresolved(reason)]);
    assert_eq!(then.0.phase(), "unresolved");
    then.when(&record_capture("ch_1", 500)).then(&[captured()]);
}

#[test]
fn a_capture_after_the_end_counts() {
    payment(&[requested(), declined()]).when(&record_capture("ch_1", 500)).then(&[captured()]);
    payment(&[requested(), unresolved("?")]).when(&record_capture("ch_1", 500)).then(&[captured()]);
}

#[test]
fn what_contradicts_the_known_goes_to_a_person_and_changes_nothing() {
    let cases = [
        (vec![requested(), captured()], record_capture("ch_2", 500)),
        (vec![requested(), captured()], record_capture("ch_1", 1)),
        (vec![requested(), captured()], Command::RecordDecline("no funds".into())),
        (vec![recorded()], record_capture("ch_1", 500)),
        (vec![recorded()], Command::RecordDecline("no funds".into())),
        (vec![requested(), declined()], Command::RecordDoubt("?".into())),
        (vec![requested(), captured(), refunded(1, 5, false)], fail_refund(1)),
    ];
    for (history, command) in cases {
        let before = payment(&history);
        let after = before.clone().when(&command).accepted();
        assert_eq!(before.0, after.0, "{command:?}");
        let events = before.0.decide(&command).unwrap();
        assert!(matches!(&events[..], [Event::Unresolved { .. }]), "{command:?}");
    }
}

#[test]
fn a_decline_closes_once() {
    let decline = Command::RecordDecline("no funds".into());
    payment(&[requested()]).when(&decline).then(&[declined()]).when(&decline).then(&[]);
    payment(&[requested(), unresolved("?")]).when(&decline).then(&[declined()]);
}

#[test]
fn no_more_goes_back_than_came() {
    let then = payment(&[requested(), captured()])
        .when(&request_refund(1, 300))
        .then(&[refund_requested(1, 300)]);
    let refusal = Refusal::RefundTooHigh { amount: amount(201), limit: amount(200) };
    then.clone().when(&request_refund(2, 201)).refused(&refusal);
    let exists = Refusal::RefundExists { refund: refund(1) };
    then.clone().when(&request_refund(1, 1)).refused(&exists);
    let elsewhere = Command::RecordRefund { refund: refund(3), amount: amount(200) };
    then.when(&elsewhere)
        .then(&[refunded(3, 200, true)])
        .when(&Command::RecordRefundDone(refund(1)))
        .then(&[refunded(1, 300, false)])
        .when(&Command::RecordRefundDone(refund(1)))
        .then(&[]);
}

#[test]
fn a_refund_that_failed_can_be_made_anew_and_may_still_succeed() {
    let history = [requested(), captured(), refund_requested(1, 500)];
    let failed = payment(&history).when(&fail_refund(1)).then(&[refund_failed(1, 500)]);
    failed.clone().when(&fail_refund(1)).then(&[]);
    failed.clone().when(&Command::RecordRefundDone(refund(1))).then(&[refunded(1, 500, false)]);
    // Given back a second time meanwhile: more than came can't be booked.
    let twice = failed
        .when(&request_refund(2, 500))
        .accepted()
        .when(&Command::RecordRefundDone(refund(1)))
        .accepted();
    assert_eq!(twice.0.refund(refund(1)), Some((amount(500), RefundPhase::Failed)));
}

#[test]
fn money_that_came_another_way_goes_back_another_way() {
    payment(&[recorded()])
        .when(&request_refund(1, 1))
        .refused(&Refusal::NotAtGateway { amount: amount(1) });
    let elsewhere = Command::RecordRefund { refund: refund(1), amount: amount(500) };
    payment(&[recorded()]).when(&elsewhere).then(&[refunded(1, 500, true)]);
    let owe = Command::OweRefund {
        refund: refund(1),
        amount: amount(500),
        reason: "closed account".into(),
    };
    payment(&[recorded()]).when(&owe).then(&[refund_failed(1, 500)]);
}

#[test]
fn nothing_goes_back_before_something_came() {
    let elsewhere = Command::RecordRefund { refund: refund(1), amount: amount(1) };
    let refusal = Refusal::NotCaptured { state: "open" };
    payment(&[requested()]).when(&request_refund(1, 1)).refused(&refusal);
    payment(&[requested()]).when(&elsewhere).refused(&refusal);
    payment(&[requested()])
        .when(&Command::RecordRefundDone(refund(1)))
        .then(&[unresolved(&unasked(1))]);
    let then = payment(&[requested(), captured()]).when(&fail_refund(9));
    assert_eq!(then.then(&[unresolved(&unasked(9))]).0.phase(), "captured");
}

fn unasked(n: u128) -> String {
    format!("the gateway answers about refund {}, which nobody asked for", refund(n))
}

fn identify(gateway_payment: &str) -> Command {
    Command::RecordGatewayPayment { gateway_payment: gateway_payment.into() }
}

fn identified() -> Event {
    let (gateway, gateway_payment) = ("sandbox".into(), "ch_1".into());
    Event::Identified { facts: facts(), gateway, gateway_payment }
}

#[test]
fn the_gateway_gives_it_one_id() {
    let two = "the gateway knows it as ch_2 and had known it as ch_1";
    let known = payment(&[requested()]).when(&identify("ch_1")).then(&[identified()]);
    assert_eq!(known.0.phase(), "open");
    known.clone().when(&identify("ch_1")).then(&[]);
    known.clone().when(&identify("ch_2")).then(&[unresolved(two)]);
    // What was taken under another id is not what was asked for.
    let doubtful = known.when(&record_capture("ch_2", 500)).then(&[unresolved(two)]);
    assert_eq!(doubtful.0.phase(), "unresolved");
    doubtful
        .when(&record_capture("ch_1", 500))
        .then(&[captured()])
        .when(&identify("ch_1"))
        .then(&[]);
    payment(&[requested(), declined()]).when(&identify("ch_1")).then(&[identified()]);
    payment(&[requested(), captured()]).when(&identify("ch_2")).then(&[unresolved(two)]);
}

#[test]
fn a_dispute_is_for_a_person_and_told_once() {
    let dispute = |id: &str, status: &str| Dispute {
        id: id.into(),
        money: money(500),
        status: status.into(),
        reason: "fraudulent".into(),
    };
    let disputed = |id, status| Event::Disputed { facts: facts(), dispute: dispute(id, status) };
    let record = |id, status| Command::RecordDispute(dispute(id, status));
    let then = payment(&[requested(), captured()])
        .when(&record("du_1", "needs_response"))
        .then(&[disputed("du_1", "needs_response")]);
    // No money moves by it.
    assert_eq!(then.0.phase(), "captured");
    then.clone().when(&record("du_1", "needs_response")).then(&[]);
    then.clone().when(&record("du_1", "lost")).then(&[disputed("du_1", "lost")]);
    then.when(&record("du_2", "lost")).then(&[disputed("du_2", "lost")]);
    for history in [vec![requested()], vec![requested(), declined()], vec![recorded()]] {
        let reason = "disputed as du_1 (lost), though no gateway is known to have taken it";
        payment(&history).when(&record("du_1", "lost")).then(&[unresolved(reason)]);
    }
}

#[test]
fn a_person_settles_what_looking_did_not() {
    let found = |gateway_payment: &str, minor| {
        let gateway_payment = gateway_payment.into();
        Command::Resolve(Finding::Captured { gateway_payment, money: money(minor) })
    };
    let not_charged = Command::Resolve(Finding::NotCharged { reason: "no funds".into() });
    let doubtful = payment(&[requested(), unresolved("?")]);

    let taken = doubtful.clone().when(&found("ch_1", 500)).then(&[captured()]);
    // Counted once, whatever is said later.
    taken.clone().when(&record_capture("ch_1", 500)).then(&[]);
    taken.clone().when(&found("ch_1", 500)).refused(&Refusal::NotUnresolved { state: "captured" });
    let over = doubtful.clone().when(&not_charged).then(&[declined()]);
    over.clone().when(&not_charged).refused(&Refusal::NotUnresolved { state: "declined" });
    // The gateway knows better than the person.
    over.when(&record_capture("ch_1", 500)).then(&[captured()]);

    let (expected, actual) = (money(500), money(499));
    doubtful
        .clone()
        .when(&found("ch_1", 499))
        .refused(&Refusal::AmountDiffers { expected, actual });
    let known = doubtful.when(&identify("ch_1")).then(&[identified()]);
    let (expected, actual) = ("ch_1".into(), "ch_2".into());
    known
        .clone()
        .when(&found("ch_2", 500))
        .refused(&Refusal::GatewayPaymentDiffers { expected, actual });
    known.when(&found("ch_1", 500)).then(&[captured()]);
    // What is still awaited may yet be charged: that is not for a person.
    for history in [vec![requested()], vec![recorded()]] {
        let given = payment(&history);
        let refusal = Refusal::NotUnresolved { state: given.0.phase() };
        given.clone().when(&found("ch_1", 500)).refused(&refusal);
        given.when(&not_charged).refused(&refusal);
    }
}

#[test]
fn nothing_is_asked_of_a_payment_that_does_not_exist() {
    for command in [
        record_capture("ch_1", 1),
        Command::RecordDecline("x".into()),
        Command::RecordDoubt("x".into()),
        request_refund(1, 1),
        fail_refund(1),
        identify("ch_1"),
        Command::Resolve(Finding::NotCharged { reason: "x".into() }),
    ] {
        payment(&[]).when(&command).refused(&Refusal::Unknown);
    }
}

#[test]
fn a_history_that_cannot_be_is_not_folded() {
    for event in [captured(), declined(), unresolved("?"), refund_requested(1, 1)] {
        assert!(Payment::Unknown.evolve(&event).is_err(), "{event:?}");
    }
    let full = payment(&[requested(), captured(), refunded(1, 500, true)]).0;
    assert!(full.clone().evolve(&refunded(2, 1, true)).is_err());
    assert!(full.evolve(&requested()).is_err());
}

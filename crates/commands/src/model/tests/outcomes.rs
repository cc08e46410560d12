//! What the gateway says, and what time does.

use super::*;

#[test]
fn a_capture_pays_the_order() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.charged(order_id, 1050);
    let done = shelf.outcome(payment, captured(1050)).unwrap();
    assert_eq!(done.kinds, ["PaymentCaptured", "OrderPaymentCaptured", "OrderPaid"]);
    assert_eq!(done.data[2]["country"], "France");
    assert!(done.jobs.is_empty());
    // Told twice, it happened once.
    assert!(shelf.outcome(payment, captured(1050)).unwrap().kinds.is_empty());
    let deadline = in_15_minutes(&shelf);
    assert_eq!(shelf.expires(order_id, deadline).unwrap_err().code, "already-paid");
}

#[test]
fn a_decline_lets_the_order_wait_anew() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let first = in_15_minutes(&shelf);
    let payment = shelf.charged(order_id, 1050);
    assert_eq!(shelf.expires(order_id, first).unwrap_err().code, "payment-open");
    shelf.now += TimeDelta::minutes(20);
    let second = in_15_minutes(&shelf);
    let done = shelf.outcome(payment, declined()).unwrap();
    assert_eq!(done.kinds, ["PaymentDeclined", "OrderPaymentClosed"]);
    assert_eq!(done.data[1]["expires_at"], "2026-11-22T12:35:00.000000Z");
    let [job] = &done.jobs[..] else { panic!("one job, not {:?}", done.jobs) };
    assert_eq!((job.kind, job.delay_ms), (jobs::EXPIRE_ORDER, 900_000));
    assert_ne!(job.id, shelf.jobs[0].id);
    assert_eq!(shelf.expires(order_id, first).unwrap_err().code, "deadline-moved");
    let done = shelf.expires(order_id, second).unwrap();
    assert_eq!(done.kinds, ["OrderExpired", "StockReleased", "StockReleased"]);
    assert_eq!(shelf.levels("CUP"), (10, 0));
    // The gateway changes its mind: the money goes back.
    let done = shelf.outcome(payment, captured(1050)).unwrap();
    assert_eq!(
        done.kinds,
        ["PaymentCaptured", "OrderPaymentCaptured", "PaymentRefundRequested", "OrderRefundOpened"]
    );
    assert_eq!(done.jobs[0].kind, jobs::REFUND_PAYMENT);
}

#[test]
fn an_unpaid_order_expires_and_part_payments_go_back() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    shelf.paid(order_id, 50);
    let deadline = in_15_minutes(&shelf);
    let done = shelf.expires(order_id, deadline).unwrap();
    assert_eq!(
        done.kinds,
        [
            "OrderExpired",
            "StockReleased",
            "StockReleased",
            "PaymentRefundRequested",
            "OrderRefundOpened"
        ]
    );
}

#[test]
fn a_doubt_keeps_the_payment_open() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.charged(order_id, 1050);
    let doubt = wire::PaymentOutcome::Unresolved { reason: "time-out".into() };
    assert_eq!(shelf.outcome(payment, doubt).unwrap().kinds, ["PaymentUnresolved"]);
    assert_eq!(shelf.outcome(payment, captured(1)).unwrap().kinds, ["PaymentUnresolved"]);
    let body = json!({ "order_id": order_id, "reason": "no" });
    assert_eq!(shelf.refuses(ANNA, "CancelOrder", body).0, "payment-open");
    let done = shelf.outcome(payment, captured(1050)).unwrap();
    assert_eq!(done.kinds, ["PaymentCaptured", "OrderPaymentCaptured", "OrderPaid"]);
}

#[test]
fn an_outcome_of_no_payment_is_refused() {
    let mut shelf = Shelf::stocked();
    let nowhere = Uuid::from_u128(404);
    assert_eq!(shelf.outcome(nowhere, captured(1)).unwrap_err().code, "payment-unknown");
}

fn refund_outcome(
    shelf: &mut Shelf,
    payment_id: Uuid,
    refund_id: Uuid,
    outcome: wire::RefundOutcome,
) -> Result<Done, Refusal> {
    let command = wire::RecordRefundOutcome { payment_id, refund_id, outcome };
    shelf.sends(Authority::Backend, Command::RecordRefundOutcome(command))
}

fn failed() -> wire::RefundOutcome {
    wire::RefundOutcome::Failed { reason: "closed account".into() }
}

#[test]
fn refunds_end_one_way_or_the_other() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment = shelf.paid(order_id, 1050);
    let done = shelf.does(ANNA, "CancelOrder", json!({ "order_id": order_id, "reason": "no" }));
    let refund = id(&done.data[3]["refund_id"]);
    let done = refund_outcome(&mut shelf, payment, refund, failed()).unwrap();
    assert_eq!(done.kinds, ["PaymentRefundFailed", "OrderRefundFailed"]);
    assert!(refund_outcome(&mut shelf, payment, refund, failed()).unwrap().kinds.is_empty());
    let settled = || wire::RefundOutcome::Refunded {};
    let done = refund_outcome(&mut shelf, payment, refund, settled()).unwrap();
    assert_eq!(done.kinds, ["PaymentRefunded", "OrderRefundOpened", "OrderRefundSettled"]);
    assert!(refund_outcome(&mut shelf, payment, refund, settled()).unwrap().kinds.is_empty());
    let done = refund_outcome(&mut shelf, payment, refund, failed()).unwrap();
    assert_eq!(done.kinds, ["PaymentUnresolved"]);
    let nothing = Uuid::from_u128(404);
    // An outside fact is never refused: one about nothing is for a person.
    let done = refund_outcome(&mut shelf, payment, nothing, settled()).unwrap();
    assert_eq!(done.kinds, ["PaymentUnresolved"]);
}

#[test]
fn an_event_in_a_strange_stream_is_not_folded() {
    let shelf = Shelf::stocked();
    let (_, state) = &shelf.streams["stock-CUP"];
    let event =
        shelf.model.decode("PriceChanged", 1, r#"{"sku":"CUP","price":1,"currency":"GBP"}"#);
    let folded = shelf.model.evolve("stock-CUP", Some(ShopState::clone(state)), &event.unwrap());
    assert!(folded.is_err());
    for (kind, version, data) in [
        ("PriceChanged", 2, "{}"),
        ("PriceChanged", 1, "{}"),
        ("OrderMelted", 1, "{}"),
        ("PriceChanged", 1, r#"{"sku":"CUP","price":1,"currency":"GBP","more":1}"#),
    ] {
        assert!(shelf.model.decode(kind, version, data).is_err(), "{kind}/{version} {data}");
    }
}

fn resolve(payment_id: Uuid, outcome: &Value) -> Value {
    json!({ "payment_id": payment_id, "outcome": outcome })
}

fn found(minor: i64) -> Value {
    json!({ "captured": { "gateway_payment_id": "ch_1", "amount": minor, "currency": "GBP" } })
}

fn not_charged() -> Value {
    json!({ "not_charged": { "reason": "not in the gateway's books" } })
}

fn doubted(shelf: &mut Shelf) -> (Uuid, Uuid) {
    let order_id = shelf.ordered();
    let payment = shelf.charged(order_id, 1050);
    let doubt = wire::PaymentOutcome::Unresolved { reason: "time-out".into() };
    shelf.outcome(payment, doubt).unwrap();
    (order_id, payment)
}

#[test]
fn what_a_person_found_taken_is_counted_once() {
    let mut shelf = Shelf::stocked();
    let (order_id, payment) = doubted(&mut shelf);
    let operator = Authority::Operator;
    let (code, values) = shelf.refuses(operator, "ResolvePayment", resolve(payment, &found(1049)));
    assert_eq!((&*code, &values["expected"]), ("amount-differs", &json!(1050)));
    let done = shelf.does(operator, "ResolvePayment", resolve(payment, &found(1050)));
    assert_eq!(done.kinds, ["PaymentCaptured", "OrderPaymentCaptured", "OrderPaid"]);
    // However often it is said, by whomever.
    for again in [found(1050), not_charged()] {
        let (code, values) = shelf.refuses(operator, "ResolvePayment", resolve(payment, &again));
        assert_eq!((&*code, &values["state"]), ("not-unresolved", &json!("captured")));
    }
    assert!(shelf.outcome(payment, captured(1050)).unwrap().kinds.is_empty());
    let (_, order) = &shelf.streams[&format!("order-{order_id}")];
    let ShopState::Order(order) = &**order else { panic!("not an order") };
    assert_eq!(order.details().unwrap().ledger().captured().get(), 1050);
}

#[test]
fn what_was_taken_for_one_try_is_not_counted_for_another() {
    let mut shelf = Shelf::stocked();
    let (order_id, first) = doubted(&mut shelf);
    let declined = resolve(first, &not_charged());
    shelf.does(Authority::Operator, "ResolvePayment", declined);
    let second = shelf.charged(order_id, 525);
    let third = shelf.charged(order_id, 525);
    shelf.outcome(second, captured(525)).unwrap();
    let doubt = wire::PaymentOutcome::Unresolved { reason: "time-out".into() };
    shelf.outcome(third, doubt).unwrap();
    // The gateway's books show one charge; it is the second's.
    let (code, values) =
        shelf.refuses(Authority::Operator, "ResolvePayment", resolve(third, &found(525)));
    assert_eq!((&*code, &values["payment_id"]), ("gateway-payment-counted", &json!(second)));
    shelf.does(Authority::Operator, "ResolvePayment", resolve(third, &not_charged()));
}

#[test]
fn what_a_person_found_not_taken_lets_the_order_wait_anew() {
    let mut shelf = Shelf::stocked();
    let (order_id, payment) = doubted(&mut shelf);
    let other = shelf.ordered();
    let open = shelf.charged(other, 5);
    let (code, _) = shelf.refuses(Authority::Operator, "ResolvePayment", resolve(open, &found(5)));
    assert_eq!(code, "not-unresolved", "the gateway may still answer");
    let deadline = in_15_minutes(&shelf);
    assert_eq!(shelf.expires(order_id, deadline).unwrap_err().code, "payment-open");
    shelf.now += TimeDelta::minutes(30);
    let deadline = in_15_minutes(&shelf);
    let done = shelf.does(Authority::Operator, "ResolvePayment", resolve(payment, &not_charged()));
    assert_eq!(done.kinds, ["PaymentDeclined", "OrderPaymentClosed"]);
    assert_eq!(shelf.expires(order_id, deadline).unwrap().kinds[0], "OrderExpired");
    // The person was mistaken: what was taken goes back.
    let done = shelf.outcome(payment, captured(1050)).unwrap();
    assert_eq!(done.kinds.last(), Some(&"OrderRefundOpened"));
    for buyer in [ANNA, PARTNER, Authority::Backend] {
        let body = resolve(payment, &not_charged());
        assert_eq!(shelf.refuses(buyer, "ResolvePayment", body).0, "not-allowed");
    }
}

#[test]
fn the_gateway_s_id_is_taken_down_before_money_moves() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment_id = shelf.charged(order_id, 1050);
    let identify = |id: &str| {
        let gateway_payment_id = id.to_owned();
        let command = wire::RecordGatewayPayment { payment_id, gateway_payment_id };
        Command::RecordGatewayPayment(command)
    };
    let done = shelf.sends(Authority::Backend, identify("ch_1")).unwrap();
    assert_eq!(done.kinds, ["PaymentIdentified"]);
    assert!(shelf.sends(Authority::Backend, identify("ch_1")).unwrap().kinds.is_empty());
    let done = shelf.sends(Authority::Backend, identify("ch_2")).unwrap();
    assert_eq!(done.kinds, ["PaymentUnresolved"]);
    let mut wrong = found(1050);
    wrong["captured"]["gateway_payment_id"] = json!("ch_2");
    let (code, values) =
        shelf.refuses(Authority::Operator, "ResolvePayment", resolve(payment_id, &wrong));
    assert_eq!((&*code, &values["expected"]), ("gateway-payment-differs", &json!("ch_1")));
    assert_eq!(shelf.outcome(payment_id, captured(1050)).unwrap().kinds[0], "PaymentCaptured");
}

#[test]
fn a_dispute_moves_no_money() {
    let mut shelf = Shelf::stocked();
    let order_id = shelf.ordered();
    let payment_id = shelf.paid(order_id, 1050);
    let dispute = |status: &str| {
        Command::RecordDispute(wire::RecordDispute {
            payment_id,
            dispute_id: "du_1".to_owned(),
            amount: wire::Amount::new(1050).unwrap(),
            currency: wire::Currency::new("GBP").unwrap(),
            status: status.into(),
            reason: "fraudulent".into(),
        })
    };
    for (status, kinds) in [
        ("needs_response", &["PaymentDisputed"][..]),
        ("needs_response", &[]),
        ("lost", &["PaymentDisputed"]),
    ] {
        let done = shelf.sends(Authority::Backend, dispute(status)).unwrap();
        assert_eq!(done.kinds, kinds);
        assert!(done.jobs.is_empty());
    }
    shelf.does(Authority::Operator, "ShipOrder", json!({ "order_id": order_id }));
}

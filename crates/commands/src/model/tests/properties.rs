//! What holds between the streams, whatever is asked and in whatever order.

use daybook_domain::{
    PaymentId, Quantity,
    order::{Order, PartPhase},
    payment::Payment,
};
use proptest::prelude::*;

use super::*;

/// Something to ask; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Place(i64, i64),
    Charge(usize, i64),
    Record(usize, i64),
    Outcome(usize, u8),
    Ship(usize, u32, i64, bool),
    Return(usize, u32, i64, Option<i64>, bool),
    Goodwill(usize, i64, bool),
    RefundOutcome(usize, bool),
    Cancel(usize),
    Expire(usize),
    Deliver(usize),
    Adjust(i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let n = || 0..4_usize;
    let some = any::<bool>;
    prop_oneof![
        3 => (1..4_i64, 1..4_i64).prop_map(|(a, b)| Step::Place(a, b)),
        4 => (n(), 1..900_i64).prop_map(|(n, amount)| Step::Charge(n, amount)),
        2 => (n(), 1..900_i64).prop_map(|(n, amount)| Step::Record(n, amount)),
        5 => (n(), 0..5_u8).prop_map(|(n, kind)| Step::Outcome(n, kind)),
        3 => (n(), 0..4_u32, 1..4_i64, some()).prop_map(|(n, l, q, b)| Step::Ship(n, l, q, b)),
        3 => (n(), 0..4_u32, 1..4_i64, prop::option::of(0..300_i64), some())
            .prop_map(|(n, l, q, c, b)| Step::Return(n, l, q, c, b)),
        2 => (n(), 1..300_i64, some()).prop_map(|(n, amount, b)| Step::Goodwill(n, amount, b)),
        4 => (n(), some()).prop_map(|(n, b)| Step::RefundOutcome(n, b)),
        1 => n().prop_map(Step::Cancel),
        1 => n().prop_map(Step::Expire),
        1 => n().prop_map(Step::Deliver),
        1 => (-4..4_i64).prop_map(Step::Adjust),
    ]
}

/// The shop, and the ids that were given out in it.
struct Run {
    shelf: Shelf,
    orders: Vec<Uuid>,
    payments: Vec<Uuid>,
    refunds: Vec<(Uuid, Uuid)>,
}

impl Run {
    fn pick(ids: &[Uuid], n: usize) -> Uuid {
        ids.get(n % ids.len().max(1)).copied().unwrap_or(Uuid::from_u128(404))
    }

    fn step(&mut self, step: &Step) {
        let refund = |elsewhere: bool| if elsewhere { "settled_elsewhere" } else { "gateway" };
        let order = |n: &usize| Self::pick(&self.orders, *n);
        let payment = |n: &usize| Self::pick(&self.payments, *n);
        let operator = Authority::Operator;
        let outcome = match step {
            Step::Place(cups, plates) => {
                let body = json!({ "currency": "GBP", "lines": [
                    { "sku": "PLATE", "quantity": plates }, { "sku": "CUP", "quantity": cups },
                    { "sku": "POST", "quantity": 1 }, { "sku": "PLATE", "quantity": 1 }
                ] });
                self.shelf.asks(ANNA, "PlaceOrder", body)
            }
            Step::Charge(n, amount) => {
                let body = charge(order(n), *amount);
                self.shelf.asks(ANNA, "ChargePayment", body)
            }
            Step::Record(n, amount) => {
                let body = json!({
                    "order_id": order(n), "amount": amount, "currency": "GBP", "method": "cash"
                });
                self.shelf.asks(operator, "RecordPayment", body)
            }
            Step::Outcome(n, kind) => {
                let payment = payment(n);
                let asked = self.asked(payment);
                let outcome = match kind {
                    0 | 1 => captured(asked),
                    2 => declined(),
                    3 => captured(asked + 1),
                    _ => wire::PaymentOutcome::Unresolved { reason: "?".into() },
                };
                let known = self.payments.contains(&payment);
                let outcome = self.shelf.outcome(payment, outcome);
                // What the gateway says is never refused.
                assert!(outcome.is_ok() || !known, "{outcome:?}");
                outcome
            }
            Step::Ship(n, line, quantity, on_account) => {
                let lines = json!([{ "line": line, "quantity": quantity }]);
                let lines = if *line == 0 { Value::Null } else { lines };
                let body =
                    json!({ "order_id": order(n), "lines": lines, "on_account": on_account });
                self.shelf.asks(operator, "ShipOrder", body)
            }
            Step::Return(n, line, quantity, credit, elsewhere) => {
                let body = json!({
                    "order_id": order(n), "refund": refund(*elsewhere),
                    "lines": [{ "line": line, "quantity": quantity, "credit": credit }]
                });
                self.shelf.asks(operator, "ReturnItems", body)
            }
            Step::Goodwill(n, amount, elsewhere) => {
                let body = json!({
                    "payment_id": payment(n), "amount": amount, "currency": "GBP",
                    "reason": "sorry", "refund": refund(*elsewhere)
                });
                self.shelf.asks(operator, "RefundPayment", body)
            }
            Step::RefundOutcome(n, succeeds) => {
                let Some(&(payment_id, refund_id)) =
                    self.refunds.get(n % self.refunds.len().max(1))
                else {
                    return;
                };
                let outcome = if *succeeds {
                    wire::RefundOutcome::Refunded {}
                } else {
                    wire::RefundOutcome::Failed { reason: "no".into() }
                };
                let command = wire::RecordRefundOutcome { payment_id, refund_id, outcome };
                let command = Command::RecordRefundOutcome(command);
                let outcome = self.shelf.sends(Authority::Backend, command);
                assert!(outcome.is_ok(), "{outcome:?}");
                outcome
            }
            Step::Cancel(n) => {
                let body = json!({ "order_id": order(n), "reason": "no" });
                self.shelf.asks(ANNA, "CancelOrder", body)
            }
            Step::Expire(n) => {
                let deadline = in_15_minutes(&self.shelf);
                self.shelf.expires(order(n), deadline)
            }
            Step::Deliver(n) => {
                self.shelf.asks(operator, "DeliverOrder", json!({ "order_id": order(n) }))
            }
            Step::Adjust(units) => {
                let units = if *units == 0 { 1 } else { *units };
                let body = json!({ "sku": "CUP", "quantity": units, "reason": "count" });
                self.shelf.asks(operator, "AdjustStock", body)
            }
        };
        match outcome {
            Ok(done) => self.note(&done),
            Err(refusal) => assert_ne!(refusal.code, "inconsistent", "{refusal:?}"),
        }
    }

    fn note(&mut self, done: &Done) {
        for (kind, data) in done.kinds.iter().zip(&done.data) {
            match *kind {
                "OrderPlaced" => self.orders.push(id(&data["order_id"])),
                "PaymentRequested" | "PaymentRecorded" => {
                    self.payments.push(id(&data["payment_id"]));
                }
                "OrderRefundOpened" => {
                    let refund = (id(&data["payment_id"]), id(&data["refund_id"]));
                    self.refunds.push(refund);
                }
                _ => {}
            }
        }
    }

    fn payment(&self, payment: Uuid) -> Option<&Payment> {
        match self.shelf.streams.get(&format!("payment-{payment}")).map(|(_, s)| &**s) {
            Some(ShopState::Payment(payment)) => Some(payment),
            _ => None,
        }
    }

    fn asked(&self, payment: Uuid) -> i64 {
        let facts = self.payment(payment).and_then(Payment::facts);
        facts.map_or(1, |facts| facts.money.amount.get())
    }

    /// Orders, payments and stock tell the same story.
    fn check(&self) {
        let mut reserved = HashMap::from([("CUP", 0), ("PLATE", 0)]);
        for order_id in &self.orders {
            let (_, state) = &self.shelf.streams[&format!("order-{order_id}")];
            let ShopState::Order(order) = &**state else { panic!("not an order") };
            let details = order.details().unwrap();
            for part in details.ledger().parts() {
                self.check_part(part.payment, part.phase);
            }
            if matches!(order, Order::Cancelled(_) | Order::Expired(_)) {
                continue;
            }
            for (line, progress) in details.with_progress().filter(|(line, _)| line.tracked) {
                let left = line.quantity.get() - progress.shipped;
                *reserved.get_mut(line.sku.as_str()).unwrap() += left;
                assert!(Quantity::new(left).is_some() || left == 0);
            }
        }
        for (sku, units) in reserved {
            let (on_hand, promised) = self.shelf.levels(sku);
            assert_eq!(promised, units, "{sku} is promised to orders that exist");
            assert!(promised <= on_hand, "{sku} is oversold");
        }
    }

    fn check_part(&self, PaymentId(payment): PaymentId, phase: PartPhase) {
        let state = self.payment(payment).unwrap();
        match (state, phase) {
            (Payment::Open(_) | Payment::Unresolved(_), PartPhase::Open)
            | (Payment::Declined(_), PartPhase::Closed) => {}
            (
                Payment::Captured { refunds, .. },
                PartPhase::Captured { at_gateway: true, refunding, refunded },
            )
            | (
                Payment::Recorded { refunds, .. },
                PartPhase::Captured { at_gateway: false, refunding, refunded },
            ) => {
                assert_eq!((refunds.refunding(), refunds.refunded()), (refunding, refunded));
            }
            (state, phase) => panic!("{state:?} is {phase:?} for its order"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn orders_payments_and_stock_tell_the_same_story(
        steps in prop::collection::vec(any_step(), 1..50)
    ) {
        let shelf = Shelf::stocked();
        let (orders, payments, refunds) = (vec![], vec![], vec![]);
        let mut run = Run { shelf, orders, payments, refunds };
        run.step(&Step::Place(2, 3));
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}

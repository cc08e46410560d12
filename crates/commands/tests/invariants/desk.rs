//! The shop in memory, as the journal's writer would run it, and the book beside it.

mod agree;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_commands::{
    Amount, Authority, Command, Currency, ExpireOrder, PaymentOutcome, RecordDispute,
    RecordGatewayPayment, RecordPaymentOutcome, RecordRefundOutcome, RefundOutcome, ShopCommand,
    ShopModel, ShopSettings, ShopState,
};
use daybook_journal::{Encoded, Loaded, Model, Refusal};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    book::{Basket, Book, Payment, Phase, Stand, Way, Who, Word},
    steps::{Says, Step, Sum},
};

/// Code, price in minor units, whether in euros, whether stock is kept.
const PRODUCTS: [(&str, i64, bool, bool); 4] = [
    ("CUP", 300, false, true),
    ("PLATE", 100, false, true),
    ("POST", 50, false, false),
    ("TASSE", 200, true, true),
];

/// Turns that a history takes rarely, and must take somewhere.
pub(crate) const TURNS: [&str; 16] = [
    "a declined payment was captured after all",
    "a discontinued product came back",
    "a failed refund succeeded after all",
    "a part payment went back when the order expired",
    "a person found a payment not charged",
    "a person found a payment taken",
    "a refund failed",
    "a refund that failed was made anew",
    "an order cost nothing",
    "an order was paid in parts",
    "an order was returned in parts",
    "an order was sent in parts",
    "an order was sent on account",
    "goods came back that were not paid",
    "money came after the end and went back",
    "money that came another way is owed by hand",
];

/// What happened how often.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: BTreeMap<&'static str, usize>,
    pub(crate) refused: BTreeMap<&'static str, usize>,
    pub(crate) events: BTreeMap<&'static str, usize>,
    pub(crate) turns: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn turn(&mut self, turn: &'static str, taken: bool) {
        assert!(TURNS.contains(&turn), "{turn}");
        if taken {
            *self.turns.entry(turn).or_default() += 1;
        }
    }
}

/// What came of an accepted command.
struct Done {
    events: Vec<Encoded>,
    result: Value,
}

impl Done {
    fn has(&self, kind: &str) -> bool {
        self.events.iter().any(|event| event.kind == kind)
    }
}

pub(crate) struct Desk {
    model: ShopModel,
    streams: HashMap<String, Arc<ShopState>>,
    log: Vec<(String, Encoded)>,
    drawn: u128,
    book: Book,
    orders: Vec<Uuid>,
    payments: Vec<Uuid>,
    /// Ids of each payment's refunds, in the book's order.
    refunds: Vec<Vec<Uuid>>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            model: ShopModel::new(ShopSettings::default()),
            streams: HashMap::new(),
            log: Vec::new(),
            drawn: 1_000,
            book: Book::default(),
            orders: Vec::new(),
            payments: Vec::new(),
            refunds: Vec::new(),
        }
    }

    fn time(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    /// Decides and appends, as the writer does.
    fn send(&mut self, authority: Authority, command: Command) -> Result<Done, Refusal> {
        self.drawn += 1;
        let command = ShopCommand::new(command, authority, Uuid::from_u128(self.drawn), None);
        let mut loaded = Loaded::default();
        loop {
            let named = self.model.reads(&command, &loaded);
            let new: Vec<_> = named.into_iter().filter(|s| !loaded.contains(s)).collect();
            if new.is_empty() {
                break;
            }
            for stream in new {
                let state = self.streams.get(&stream).map(Arc::clone);
                loaded.insert(stream, state);
            }
        }
        let decision = self.model.decide(&command, &loaded, Self::time(self.book.now))?;
        let mut events = Vec::new();
        for (stream, event) in decision.events {
            assert!(loaded.contains(&stream), "{stream} is appended to and was not read");
            let encoded = self.model.encode(&event).unwrap();
            let before = self.streams.remove(&stream).map(Arc::unwrap_or_clone);
            let state = self.model.evolve(&stream, before, &event);
            let state = state.unwrap_or_else(|error| panic!("{error:?}"));
            self.streams.insert(stream.clone(), Arc::new(state));
            self.log.push((stream, encoded.clone()));
            events.push(encoded);
        }
        Ok(Done { events, result: decision.result })
    }

    /// Asks what the book says must be accepted or refused.
    fn ask(
        &mut self,
        authority: Authority,
        command: Command,
        fine: bool,
        tally: &mut Tally,
    ) -> Option<Done> {
        let name = command.name();
        let asked = format!("{command:?}");
        match self.send(authority, command) {
            Ok(done) => {
                assert!(fine, "accepted against the book: {asked}");
                *tally.accepted.entry(name).or_default() += 1;
                for event in &done.events {
                    *tally.events.entry(event.kind).or_default() += 1;
                }
                self.note_refunds(&done);
                Some(done)
            }
            Err(refusal) => {
                assert!(!fine, "refused against the book: {asked}: {refusal:?}");
                assert_ne!(refusal.code, "inconsistent");
                *tally.refused.entry(name).or_default() += 1;
                None
            }
        }
    }

    /// Asks as a client, in JSON.
    #[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]
    fn says(
        &mut self,
        who: Who,
        name: &str,
        body: Value,
        fine: bool,
        tally: &mut Tally,
    ) -> Option<Done> {
        let command = Command::parse(name, body.to_string().as_bytes());
        self.ask(authority(who), command.unwrap(), fine, tally)
    }

    /// Refunds get their ids when they are opened, in the order in which the book has them.
    fn note_refunds(&mut self, done: &Done) {
        for event in done.events.iter().filter(|event| event.kind == "OrderRefundOpened") {
            let (payment, refund) = (id(&event.data["payment_id"]), id(&event.data["refund_id"]));
            let payment = self.payments.iter().position(|known| *known == payment).unwrap();
            if !self.refunds[payment].contains(&refund) {
                let noted = &self.book.payments[payment].refunds[self.refunds[payment].len()];
                assert_eq!(event.data["amount"], noted.amount);
                self.refunds[payment].push(refund);
            }
        }
    }

    fn sum(&self, order: usize, sum: Sum) -> i64 {
        match sum {
            Sum::Rest => self.book.rest(order).max(1),
            Sum::Over => self.book.rest(order).max(0) + 1,
            Sum::Some(amount) => amount,
        }
    }

    /// One of the payments, mostly one that is wanted.
    fn payment(&self, n: usize, wanted: impl Fn(&Payment) -> bool) -> Option<usize> {
        let wanted: Vec<usize> =
            (0..self.payments.len()).filter(|index| wanted(&self.book.payments[*index])).collect();
        if n < 4 && !wanted.is_empty() {
            return Some(wanted[n % wanted.len()]);
        }
        pick(&self.payments, n)
    }

    fn word(&self, payment: usize, says: Says) -> Word {
        let amount = self.book.payments[payment].amount;
        match says {
            Says::Taken => Word::Taken { id: payment, amount },
            Says::OtherSum => Word::Taken { id: payment, amount: amount + 1 },
            // That of the payment before it.
            Says::OtherId => Word::Taken { id: payment.saturating_sub(1), amount },
            Says::NotTaken => Word::NotTaken,
            Says::Unclear => Word::Unclear,
        }
    }

    pub(crate) fn step(&mut self, step: &Step, tally: &mut Tally) {
        self.book.now += 1;
        match step.clone() {
            Step::AddProduct { product } => {
                let (sku, price, euro, tracked) = PRODUCTS[product];
                let body = json!({
                    "sku": sku, "name": sku, "price": price, "currency": code(euro),
                    "tracked": tracked
                });
                let fine = self.book.add(product, price, euro, tracked);
                self.says(Who::Shop, "AddProduct", body, fine, tally);
            }
            Step::ChangePrice { product, price, foreign } => {
                let euro = PRODUCTS[product].2 ^ foreign;
                let body =
                    json!({ "sku": PRODUCTS[product].0, "price": price, "currency": code(euro) });
                let fine = self.book.change_price(product, price, euro);
                self.says(Who::Shop, "ChangePrice", body, fine, tally);
            }
            Step::Discontinue { product } => {
                let fine = self.book.discontinue(product);
                let body = json!({ "sku": PRODUCTS[product].0 });
                self.says(Who::Shop, "DiscontinueProduct", body, fine, tally);
            }
            Step::Receive { product, units } => {
                let body = json!({ "sku": PRODUCTS[product].0, "quantity": units });
                let fine = self.book.receive(product, units);
                self.says(Who::Shop, "ReceiveStock", body, fine, tally);
            }
            Step::Adjust { product, units } => {
                let units = if units == 0 { 1 } else { units };
                let body =
                    json!({ "sku": PRODUCTS[product].0, "quantity": units, "reason": "count" });
                let fine = self.book.adjust(product, units);
                self.says(Who::Shop, "AdjustStock", body, fine, tally);
            }
            Step::Place { who, lines, shipping, tax, shown } => {
                let who = [Who::Anna, Who::Bert, Who::Partner, Who::Shop, Who::Import][who];
                let euro = PRODUCTS[lines[0].0].2;
                let basket = Basket { who, euro, lines, shipping, tax, expected_total: None };
                let total = self.book.total_of(&basket);
                let expected_total = shown.map(|off| total + off);
                self.place(&Basket { expected_total, ..basket }, tally);
            }
            Step::Charge { .. }
            | Step::Record { .. }
            | Step::GatewayId { .. }
            | Step::Outcome { .. }
            | Step::Resolve { .. }
            | Step::Dispute { .. }
            | Step::Goodwill { .. }
            | Step::RefundOutcome { .. } => self.money(step, tally),
            Step::Cancel { order, stranger } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let who = self.buyer(order, stranger);
                let body = json!({ "order_id": self.orders[order], "reason": "no" });
                let owed = self.book.captured(order) > 0;
                let fine = self.book.cancel(who, order);
                let done = self.says(who, "CancelOrder", body, fine, tally);
                let failed = done.is_some_and(|done| done.has("PaymentRefundFailed"));
                tally.turn("money that came another way is owed by hand", owed && failed);
            }
            Step::Expire { order, early } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let deadline = self.book.orders[order].expires.unwrap_or(0) - i64::from(early);
                let order_id = self.orders[order];
                let command = ExpireOrder { order_id, deadline: Self::time(deadline).into() };
                let fine = self.book.expire(order, deadline);
                let done = self.ask(Authority::Backend, Command::ExpireOrder(command), fine, tally);
                let back = done.is_some_and(|done| done.has("OrderRefundOpened"));
                tally.turn("a part payment went back when the order expired", back);
            }
            Step::Ship { order, lines, on_account } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let named: Option<Vec<Value>> = lines.as_ref().map(|lines| {
                    lines.iter().map(|(n, units)| json!({ "line": n, "quantity": units })).collect()
                });
                let body = json!({
                    "order_id": self.orders[order], "lines": named, "on_account": on_account
                });
                let unpaid = self.book.kept(order) < self.book.orders[order].due();
                let fine = self.book.ship(order, lines.as_deref(), on_account);
                if let Some(done) = self.says(Who::Shop, "ShipOrder", body, fine, tally) {
                    tally.turn("an order was sent on account", unpaid);
                    let whole = self.book.orders[order].phase == Phase::Shipped;
                    let parts = done.result["shipment"].as_i64() > Some(1);
                    tally.turn("an order was sent in parts", whole && parts);
                }
            }
            Step::Deliver { order } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let body = json!({ "order_id": self.orders[order] });
                let fine = self.book.deliver(order);
                self.says(Who::Shop, "DeliverOrder", body, fine, tally);
            }
            Step::Return { order, lines, elsewhere } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let named: Vec<Value> = lines
                    .iter()
                    .map(|(n, units, credit)| {
                        json!({ "line": n, "quantity": units, "credit": credit })
                    })
                    .collect();
                let body = json!({
                    "order_id": self.orders[order], "lines": named, "refund": refund_by(elsewhere)
                });
                let own = &self.book.orders[order].lines;
                let again = own.iter().any(|line| line.returned > 0);
                let unpaid = self.book.kept(order) < self.book.orders[order].due();
                let fine = self.book.take_back(order, &lines, elsewhere);
                if let Some(done) = self.says(Who::Shop, "ReturnItems", body, fine, tally) {
                    tally.turn("an order was returned in parts", again);
                    let free = !done.has("OrderRefundOpened");
                    tally.turn("goods came back that were not paid", unpaid && free);
                    let own = &self.book.orders[order].lines;
                    let mut back = lines.iter().map(|(number, ..)| own[number - 1].product);
                    let old = back.any(|product| !self.book.products[product].on_sale());
                    tally.turn("a discontinued product came back", old);
                }
            }
        }
    }

    fn place(&mut self, basket: &Basket, tally: &mut Tally) {
        let line = |(product, units, price): &(usize, i64, Option<i64>)| json!({ "sku": PRODUCTS[*product].0, "quantity": units, "unit_price": price });
        let body = json!({
            "currency": code(basket.euro), "lines": basket.lines.iter().map(line).collect::<Vec<_>>(),
            "shipping": basket.shipping, "tax": basket.tax, "expected_total": basket.expected_total
        });
        let fine = self.book.place(basket);
        if let Some(done) = self.says(basket.who, "PlaceOrder", body, fine, tally) {
            self.orders.push(id(&done.result["order_id"]));
            tally.turn("an order cost nothing", done.result["total"] == 0);
        }
    }

    /// The order's buyer, or somebody else.
    fn buyer(&self, order: usize, stranger: bool) -> Who {
        match (self.book.orders[order].owner, stranger) {
            (Who::Anna, true) => Who::Bert,
            (_, true) => Who::Anna,
            (owner, false) => owner,
        }
    }

    fn money(&mut self, step: &Step, tally: &mut Tally) {
        match *step {
            Step::Charge { order, sum, stranger, foreign } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let (who, amount) = (self.buyer(order, stranger), self.sum(order, sum));
                let euro = self.book.orders[order].euro ^ foreign;
                let body = json!({
                    "order_id": self.orders[order], "amount": amount, "currency": code(euro),
                    "gateway_token": "tok_visa"
                });
                let fine = self.book.charge(who, order, amount, foreign);
                let done = self.says(who, "ChargePayment", body, fine, tally);
                self.note_payment(done, tally);
            }
            Step::Record { order, sum, foreign } => {
                let Some(order) = pick(&self.orders, order) else { return };
                let amount = self.sum(order, sum);
                let euro = self.book.orders[order].euro ^ foreign;
                let body = json!({
                    "order_id": self.orders[order], "amount": amount, "currency": code(euro),
                    "method": "cash"
                });
                let fine = self.book.record(order, amount, foreign);
                let done = self.says(Who::Shop, "RecordPayment", body, fine, tally);
                self.note_payment(done, tally);
            }
            Step::GatewayId { payment, other } => {
                let Some(payment) = self.payment(payment, Payment::waits) else { return };
                let gateway_id = if other { payment.saturating_sub(1) } else { payment };
                self.book.gateway_id(payment, gateway_id);
                let command = Command::RecordGatewayPayment(RecordGatewayPayment {
                    payment_id: self.payments[payment],
                    gateway_payment_id: format!("ch_{gateway_id}"),
                });
                self.ask(Authority::Backend, command, true, tally);
            }
            Step::Outcome { payment, says } => self.outcome(payment, says, tally),
            Step::Resolve { payment, says } => self.resolve(payment, says, tally),
            Step::Dispute { payment, won } => {
                let Some(payment) = pick(&self.payments, payment) else { return };
                self.book.dispute(payment);
                let command = Command::RecordDispute(RecordDispute {
                    payment_id: self.payments[payment],
                    dispute_id: "du_1".to_owned(),
                    amount: Amount::new(1).unwrap(),
                    currency: currency(false),
                    status: if won { "won" } else { "needs_response" }.into(),
                    reason: "fraudulent".into(),
                });
                self.ask(Authority::Backend, command, true, tally);
            }
            Step::Goodwill { payment, amount, foreign, elsewhere } => {
                let Some(payment) = pick(&self.payments, payment) else { return };
                let euro = self.book.orders[self.book.payments[payment].order].euro ^ foreign;
                let body = json!({
                    "payment_id": self.payments[payment], "amount": amount, "currency": code(euro),
                    "reason": "sorry", "refund": refund_by(elsewhere)
                });
                let fine = self.book.goodwill(payment, amount, foreign, elsewhere);
                if let Some(done) = self.says(Who::Shop, "RefundPayment", body, fine, tally) {
                    tally.turn("a refund that failed was made anew", !done.has("OrderCredited"));
                }
            }
            Step::RefundOutcome { refund, back } => {
                let all: Vec<(usize, usize)> = (0..self.payments.len())
                    .flat_map(|payment| {
                        (0..self.refunds[payment].len()).map(move |refund| (payment, refund))
                    })
                    .collect();
                let Some(chosen) = pick(&all, refund) else { return };
                let (payment, refund) = all[chosen];
                let before = self.book.payments[payment].refunds[refund].way;
                self.book.refund_outcome(payment, refund, back);
                let after = self.book.payments[payment].refunds[refund].way;
                let revived = (before, after) == (Way::Failed, Way::Back);
                tally.turn("a failed refund succeeded after all", revived);
                tally.turn("a refund failed", (before, after) == (Way::Going, Way::Failed));
                let command = Command::RecordRefundOutcome(RecordRefundOutcome {
                    payment_id: self.payments[payment],
                    refund_id: self.refunds[payment][refund],
                    outcome: if back {
                        RefundOutcome::Refunded {}
                    } else {
                        RefundOutcome::Failed { reason: "no".into() }
                    },
                });
                self.ask(Authority::Backend, command, true, tally);
            }
            _ => {}
        }
    }

    fn note_payment(&mut self, done: Option<Done>, tally: &mut Tally) {
        if let Some(done) = done {
            self.payments.push(id(&done.result["payment_id"]));
            self.refunds.push(Vec::new());
            self.count_parts(&done, tally);
        }
    }

    fn count_parts(&self, done: &Done, tally: &mut Tally) {
        if let Some(paid) = done.events.iter().find(|event| event.kind == "OrderPaid") {
            let order_id = id(&paid.data["order_id"]);
            let order = self.orders.iter().position(|known| *known == order_id).unwrap();
            let own = self.book.payments.iter().filter(|payment| payment.order == order);
            let taken = own.filter(|payment| payment.stand == Stand::Taken);
            tally.turn("an order was paid in parts", taken.count() > 1);
        }
    }

    fn outcome(&mut self, payment: usize, says: Says, tally: &mut Tally) {
        let Some(payment) = self.payment(payment, Payment::waits) else { return };
        let word = self.word(payment, says);
        let before = self.book.payments[payment].stand;
        self.book.outcome(payment, word);
        let outcome = match word {
            Word::Taken { id, amount } => PaymentOutcome::Captured {
                gateway_payment_id: format!("ch_{id}"),
                amount: Amount::new(amount).unwrap(),
                currency: currency(self.book.orders[self.book.payments[payment].order].euro),
            },
            Word::NotTaken => PaymentOutcome::Declined { reason: "no funds".into() },
            Word::Unclear => PaymentOutcome::Unresolved { reason: "time-out".into() },
        };
        let payment_id = self.payments[payment];
        let command = RecordPaymentOutcome { payment_id, outcome };
        let command = Command::RecordPaymentOutcome(command);
        let done = self.ask(Authority::Backend, command, true, tally).unwrap();
        self.count_parts(&done, tally);
        let Payment { order, stand, .. } = self.book.payments[payment];
        let late = (before, stand) == (Stand::Declined, Stand::Taken);
        tally.turn("a declined payment was captured after all", late);
        let ended = matches!(self.book.orders[order].phase, Phase::Cancelled | Phase::Expired);
        let back = done.has("OrderPaymentCaptured") && done.has("OrderRefundOpened");
        tally.turn("money came after the end and went back", ended && back);
    }

    fn resolve(&mut self, payment: usize, says: Says, tally: &mut Tally) {
        let Some(payment) = self.payment(payment, |payment| payment.stand == Stand::Doubtful)
        else {
            return;
        };
        let word = self.word(payment, says);
        let euro = self.book.orders[self.book.payments[payment].order].euro;
        let outcome = match word {
            Word::Taken { id, amount } => json!({ "captured": {
                "gateway_payment_id": format!("ch_{id}"), "amount": amount, "currency": code(euro)
            } }),
            Word::NotTaken => json!({ "not_charged": { "reason": "not in the books" } }),
            // A person who does not know either has nothing to say.
            Word::Unclear => return,
        };
        let fine = self.book.resolve(payment, word);
        let body = json!({ "payment_id": self.payments[payment], "outcome": outcome });
        if let Some(done) = self.says(Who::Shop, "ResolvePayment", body, fine, tally) {
            self.count_parts(&done, tally);
            tally.turn("a person found a payment taken", done.has("PaymentCaptured"));
            tally.turn("a person found a payment not charged", done.has("PaymentDeclined"));
        }
    }
}

fn authority(who: Who) -> Authority {
    match who {
        Who::Anna => Authority::Customer(Uuid::from_u128(0xa)),
        Who::Bert => Authority::Customer(Uuid::from_u128(0xb)),
        Who::Partner => Authority::Partner(Uuid::from_u128(0xc)),
        Who::Shop => Authority::Operator,
        Who::Import => Authority::Import,
    }
}

fn code(euro: bool) -> &'static str {
    if euro { "EUR" } else { "GBP" }
}

fn currency(euro: bool) -> Currency {
    Currency::new(code(euro)).unwrap()
}

fn refund_by(elsewhere: bool) -> &'static str {
    if elsewhere { "settled_elsewhere" } else { "gateway" }
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

/// The index of one of them, mostly of a late one.
fn pick<T>(all: &[T], n: usize) -> Option<usize> {
    (all.len().checked_sub(1)).map(|last| last - n.min(last))
}

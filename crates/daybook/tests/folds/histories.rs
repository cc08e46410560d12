//! Random histories as the shop itself writes them: anything is asked, what it refuses didn't happen.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_commands::{
    Amount, Authority, Command, Currency, ExpireOrder, PaymentOutcome, RecordDispute,
    RecordGatewayPayment, RecordPaymentOutcome, RecordRefundOutcome, RefundOutcome, ShopCommand,
    ShopModel, ShopSettings, ShopState,
};
use daybook_journal::{Loaded, Model};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use uuid::Uuid;

/// An event as the journal keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) stream: String,
    /// In the stream, from 1.
    pub(crate) version: i32,
    pub(crate) kind: &'static str,
    pub(crate) schema_version: i16,
    pub(crate) data: Value,
    pub(crate) at: DateTime<Utc>,
}

/// Code, currency, whether stock is kept.
const PRODUCTS: [(&str, &str, bool); 6] = [
    ("CUP", "GBP", true),
    ("cup", "GBP", true),
    ("PLATE 'blue'", "GBP", true),
    ("POST", "GBP", false),
    ("TASSE", "EUR", true),
    ("VERSAND", "EUR", false),
];
const COUNTRIES: [Option<&str>; 4] = [None, Some("EIRE"), Some("France"), Some("Österreich")];

struct Order {
    id: Uuid,
    who: Authority,
    currency: &'static str,
    lines: i64,
}

struct History {
    model: ShopModel,
    streams: HashMap<String, Arc<ShopState>>,
    rng: StdRng,
    now: DateTime<Utc>,
    events: Vec<Event>,
    orders: Vec<Order>,
    /// With the order's place in `orders`.
    payments: Vec<(Uuid, usize)>,
    /// With its payment.
    refunds: Vec<(Uuid, Uuid)>,
}

/// A history of at least this many events.
pub(crate) fn history(seed: u64, length: usize) -> Vec<Event> {
    let mut history = History {
        model: ShopModel::new(ShopSettings::default()),
        streams: HashMap::new(),
        rng: StdRng::seed_from_u64(seed),
        now: "2026-11-22T09:00:00.000001Z".parse().unwrap(),
        events: Vec::new(),
        orders: Vec::new(),
        payments: Vec::new(),
        refunds: Vec::new(),
    };
    for (sku, currency, tracked) in PRODUCTS {
        history.ask(
            Authority::Operator,
            "AddProduct",
            json!({"sku": sku, "name": format!("A {sku}"), "price": 250, "currency": currency,
                "tracked": tracked}),
        );
        history.ask(Authority::Operator, "ReceiveStock", json!({"sku": sku, "quantity": 60}));
    }
    while history.events.len() < length {
        history.step();
    }
    history.events
}

impl History {
    /// Decides and appends, as the writer does. `None`: refused.
    fn send(&mut self, authority: Authority, command: Command) -> Option<Value> {
        let fresh = Uuid::from_u128(self.rng.random());
        let command = ShopCommand::new(command, authority, fresh, None);
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
        let decision = self.model.decide(&command, &loaded, self.now).ok()?;
        for (stream, event) in decision.events {
            let encoded = self.model.encode(&event).unwrap();
            let before = self.streams.remove(&stream).map(Arc::unwrap_or_clone);
            let state = self.model.evolve(&stream, before, &event).unwrap();
            self.streams.insert(stream.clone(), Arc::new(state));
            let (mut data, mut schema_version) = (encoded.data, encoded.schema_version);
            if encoded.kind == "OrderRefundOpened" {
                let (refund, payment) = (id(&data["refund_id"]), id(&data["payment_id"]));
                if !self.refunds.contains(&(refund, payment)) {
                    self.refunds.push((refund, payment));
                }
            }
            // Some orders are written as they were before they said shipping and tax.
            if encoded.kind == "OrderPlaced"
                && (&data["shipping"], &data["tax"]) == (&json!(0), &json!(0))
                && self.rng.random_bool(0.5)
            {
                let fields = data.as_object_mut().unwrap();
                fields.retain(|name, _| name != "shipping" && name != "tax");
                schema_version = 1;
            }
            let own = self.events.iter().filter(|event| event.stream == stream).count();
            let version = i32::try_from(own).unwrap() + 1;
            let (kind, at) = (encoded.kind, self.now);
            self.events.push(Event { stream, version, kind, schema_version, data, at });
        }
        Some(decision.result)
    }

    #[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]
    fn ask(&mut self, authority: Authority, name: &str, body: Value) -> Option<Value> {
        let command = Command::parse(name, body.to_string().as_bytes()).unwrap();
        self.send(authority, command)
    }

    fn backend(&mut self, command: Command) {
        self.send(Authority::Backend, command);
    }

    fn step(&mut self) {
        self.now += TimeDelta::microseconds(self.rng.random_range(0..5_000_000_000));
        match self.rng.random_range(0..100) {
            0..6 => self.catalogue(),
            6..20 => self.place(),
            20..34 => self.pay(),
            34..56 => self.hear_of_a_payment(),
            56..72 => self.ship(),
            72..80 => self.take_back(),
            80..88 => self.hear_of_a_refund(),
            88..91 => self.goodwill(),
            _ => self.end(),
        }
    }

    fn catalogue(&mut self) {
        let (sku, currency, _) = *PRODUCTS.choose(&mut self.rng).unwrap();
        let units = self.rng.random_range(1..30);
        let (name, body) = match self.rng.random_range(0..8) {
            0 => ("ChangePrice", json!({"sku": sku, "price": units * 20, "currency": currency})),
            1 => ("AdjustStock", json!({"sku": sku, "quantity": -units, "reason": "count"})),
            // seldom, or nothing can be ordered any more
            2 if self.rng.random_bool(0.1) => ("DiscontinueProduct", json!({"sku": sku})),
            _ => ("ReceiveStock", json!({"sku": sku, "quantity": units})),
        };
        self.ask(Authority::Operator, name, body);
    }

    fn place(&mut self) {
        let who = match self.rng.random_range(0..8) {
            0 => Authority::Operator,
            1 => Authority::Import,
            2 => Authority::Partner(Uuid::from_u128(0xf)),
            n => Authority::Customer(Uuid::from_u128(0xa + n % 3)),
        };
        let currency = if self.rng.random_bool(0.7) { "GBP" } else { "EUR" };
        let own: Vec<_> = PRODUCTS.iter().filter(|product| product.1 == currency).collect();
        let count = self.rng.random_range(1..=6);
        let runs = matches!(who, Authority::Operator | Authority::Import);
        let lines: Vec<_> = (0..count)
            .map(|_| {
                let sku = own.choose(&mut self.rng).unwrap().0;
                let priced = runs && self.rng.random_bool(0.3);
                let price = priced.then(|| self.rng.random_range(0..900));
                json!({"sku": sku, "quantity": self.rng.random_range(1..5), "unit_price": price})
            })
            .collect();
        let mut charge = || (runs && self.rng.random_bool(0.5)).then_some(95);
        let (shipping, tax) = (charge(), charge());
        let country = COUNTRIES.choose(&mut self.rng).unwrap();
        let body = json!({"currency": currency, "country": country, "lines": lines,
            "shipping": shipping, "tax": tax});
        if let Some(result) = self.ask(who, "PlaceOrder", body) {
            let id = id(&result["order_id"]);
            self.orders.push(Order { id, who, currency, lines: count });
        }
    }

    /// An order, mostly a late one.
    fn order(&mut self) -> Option<usize> {
        let back = if self.rng.random_bool(0.8) { 4 } else { 30 };
        self.orders.len().checked_sub(1 + self.rng.random_range(0..back))
    }

    /// What can still be asked for.
    fn rest(&self, order: usize) -> i64 {
        let stream = format!("order-{}", self.orders[order].id);
        let Some(ShopState::Order(order)) = self.streams.get(&stream).map(|s| &**s) else {
            return 0;
        };
        let ledger = order.details().unwrap().ledger();
        ledger.due().get() - ledger.captured().get() - ledger.open().get()
    }

    fn pay(&mut self) {
        let Some(at) = self.order() else { return };
        let rest = self.rest(at).max(1);
        let amount = if self.rng.random_bool(0.6) { rest } else { self.rng.random_range(1..=rest) };
        let Order { id: order, who, currency, .. } = self.orders[at];
        let body = json!({"order_id": order, "amount": amount, "currency": currency});
        let with = |name: &str, value: &str| {
            let mut body = body.clone();
            body[name] = json!(value);
            body
        };
        let (charge, record) = (with("gateway_token", "tok_visa"), with("method", "cash"));
        let result = if self.rng.random_bool(0.75) {
            self.ask(who, "ChargePayment", charge)
        } else {
            self.ask(Authority::Operator, "RecordPayment", record)
        };
        if let Some(result) = result {
            self.payments.push((id(&result["payment_id"]), at));
        }
    }

    /// A payment, mostly a late one, with its gateway id, amount and currency.
    fn payment(&mut self) -> Option<(Uuid, String, i64, Currency)> {
        let back = if self.rng.random_bool(0.8) { 3 } else { 40 };
        let at = self.payments.len().checked_sub(1 + self.rng.random_range(0..back))?;
        let (payment, order) = self.payments[at];
        let stream = format!("payment-{payment}");
        let Some(ShopState::Payment(state)) = self.streams.get(&stream).map(|s| &**s) else {
            return None;
        };
        let amount = state.facts().unwrap().money.amount.get();
        // at times what belongs to another payment
        let odd = usize::from(self.rng.random_bool(0.05));
        let currency = Currency::new(self.orders[order].currency).unwrap();
        Some((payment, format!("gw_{}", at + odd), amount, currency))
    }

    fn hear_of_a_payment(&mut self) {
        let Some((payment_id, gateway_payment_id, amount, currency)) = self.payment() else {
            return;
        };
        match self.rng.random_range(0..14) {
            0..2 => self.backend(Command::RecordGatewayPayment(RecordGatewayPayment {
                payment_id,
                gateway_payment_id,
            })),
            2 => {
                let status = ["needs_response", "under_review", "won", "lost"];
                let status = *status.choose(&mut self.rng).unwrap();
                let dispute_id = format!("du_{}", self.rng.random_range(0..2));
                self.backend(Command::RecordDispute(RecordDispute {
                    payment_id,
                    dispute_id,
                    amount: Amount::new(amount).unwrap(),
                    currency,
                    status: status.into(),
                    reason: "fraudulent".into(),
                }));
            }
            3 => {
                let outcome = if self.rng.random_bool(0.5) {
                    json!({"captured": {"gateway_payment_id": gateway_payment_id, "amount": amount,
                        "currency": currency}})
                } else {
                    json!({"not_charged": {"reason": "not in the books"}})
                };
                let body = json!({"payment_id": payment_id, "outcome": outcome});
                self.ask(Authority::Operator, "ResolvePayment", body);
            }
            n => {
                let odd = i64::from(self.rng.random_bool(0.05));
                let amount = Amount::new(amount + odd).unwrap();
                let outcome = match n {
                    4 | 5 => PaymentOutcome::Declined { reason: "no funds".into() },
                    6 | 7 => PaymentOutcome::Unresolved { reason: "time-out".into() },
                    _ => PaymentOutcome::Captured { gateway_payment_id, amount, currency },
                };
                let command = RecordPaymentOutcome { payment_id, outcome };
                self.backend(Command::RecordPaymentOutcome(command));
            }
        }
    }

    fn ship(&mut self) {
        let Some(at) = self.order() else { return };
        let Order { id: order, lines, .. } = self.orders[at];
        let body = match self.rng.random_range(0..10) {
            0..3 => json!({"order_id": order, "on_account": self.rng.random_bool(0.3),
                "lines": [{"line": self.rng.random_range(1..=lines), "quantity": 1}]}),
            3..8 => json!({"order_id": order, "on_account": self.rng.random_bool(0.15)}),
            _ => {
                self.ask(Authority::Operator, "DeliverOrder", json!({"order_id": order}));
                return;
            }
        };
        self.ask(Authority::Operator, "ShipOrder", body);
    }

    fn by(&mut self) -> &'static str {
        if self.rng.random_bool(0.3) { "settled_elsewhere" } else { "gateway" }
    }

    fn take_back(&mut self) {
        let Some(at) = self.order() else { return };
        let Order { id: order, lines, .. } = self.orders[at];
        let line = |line: i64, rng: &mut StdRng| {
            let credit = rng.random_bool(0.3).then(|| rng.random_range(0..300));
            json!({"line": line, "quantity": rng.random_range(1..3), "credit": credit})
        };
        let first = self.rng.random_range(1..=lines);
        let mut back = vec![line(first, &mut self.rng)];
        if first < lines && self.rng.random_bool(0.4) {
            back.push(line(first + 1, &mut self.rng));
        }
        let body = json!({"order_id": order, "lines": back, "refund": self.by()});
        self.ask(Authority::Operator, "ReturnItems", body);
    }

    fn hear_of_a_refund(&mut self) {
        let back = if self.rng.random_bool(0.8) { 3 } else { 20 };
        let Some(at) = self.refunds.len().checked_sub(1 + self.rng.random_range(0..back)) else {
            return;
        };
        let (refund_id, payment_id) = self.refunds[at];
        let outcome = if self.rng.random_bool(0.6) {
            RefundOutcome::Refunded {}
        } else {
            RefundOutcome::Failed { reason: "account closed".into() }
        };
        self.backend(Command::RecordRefundOutcome(RecordRefundOutcome {
            payment_id,
            refund_id,
            outcome,
        }));
    }

    fn goodwill(&mut self) {
        let Some((payment, _, amount, currency)) = self.payment() else { return };
        let amount = self.rng.random_range(1..=amount);
        let body = json!({"payment_id": payment, "amount": amount, "currency": currency,
            "reason": "sorry", "refund": self.by()});
        self.ask(Authority::Operator, "RefundPayment", body);
    }

    fn end(&mut self) {
        let Some(at) = self.order() else { return };
        let Order { id: order_id, who, .. } = self.orders[at];
        let stream = format!("order-{order_id}");
        if self.rng.random_bool(0.3) {
            self.ask(who, "CancelOrder", json!({"order_id": order_id, "reason": "ordered twice"}));
        } else if let Some(ShopState::Order(order)) = self.streams.get(&stream).map(|s| &**s)
            && let Some(deadline) = order.details().unwrap().expires_at()
        {
            let command = ExpireOrder { order_id, deadline: deadline.into() };
            self.backend(Command::ExpireOrder(command));
        }
    }
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

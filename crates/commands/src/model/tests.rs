//! Commands against a shop in memory, as the journal's writer would run them.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_journal::{Decision, Loaded, Model, NewJob, Refusal, canonical};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    jobs,
    wire::{self, Command},
};

mod buying;
mod goods;
mod outcomes;
mod refusals;

const ANNA: Authority = Authority::Customer(Uuid::from_u128(0xa));
const BERT: Authority = Authority::Customer(Uuid::from_u128(0xb));
const PARTNER: Authority = Authority::Partner(Uuid::from_u128(0xc));

/// Streams in memory.
struct Shelf {
    model: ShopModel,
    streams: HashMap<String, (i32, Arc<ShopState>)>,
    now: DateTime<Utc>,
    drawn: u128,
    /// What happened, as `type stream`, in order.
    log: Vec<String>,
    jobs: Vec<NewJob>,
}

/// What came of an accepted command.
#[derive(Debug)]
struct Done {
    kinds: Vec<&'static str>,
    result: Value,
    open: bool,
    jobs: Vec<NewJob>,
    data: Vec<Value>,
}

impl Shelf {
    fn new() -> Self {
        Self {
            model: ShopModel::new(ShopSettings::default()),
            streams: HashMap::new(),
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            drawn: 1_000,
            log: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// A shop with 10 cups at 300, 10 plates at 100, and postage at 50 without stock.
    fn stocked() -> Self {
        let mut shelf = Self::new();
        for (sku, price, tracked) in [("CUP", 300, true), ("PLATE", 100, true), ("POST", 50, false)]
        {
            shelf.does(
                Authority::Operator,
                "AddProduct",
                json!({
                    "sku": sku, "name": sku, "price": price, "currency": "GBP", "tracked": tracked
                }),
            );
            if tracked {
                let body = json!({ "sku": sku, "quantity": 10 });
                shelf.does(Authority::Operator, "ReceiveStock", body);
            }
        }
        shelf
    }

    fn fresh(&mut self) -> Uuid {
        self.drawn += 1;
        Uuid::from_u128(self.drawn)
    }

    fn sends(&mut self, authority: Authority, command: Command) -> Result<Done, Refusal> {
        let fresh = self.fresh();
        let sealed = matches!(command, Command::ChargePayment(_)).then(|| b"sealed".to_vec());
        let command = ShopCommand::new(command, authority, fresh, sealed);
        let mut loaded = Loaded::default();
        for round in 0.. {
            assert!(round < 4, "reads must come to an end");
            let named = self.model.reads(&command, &loaded);
            let new: Vec<_> = named.into_iter().filter(|s| !loaded.contains(s)).collect();
            if new.is_empty() {
                break;
            }
            for stream in new {
                let state = self.streams.get(&stream).map(|(_, state)| Arc::clone(state));
                loaded.insert(stream, state);
            }
        }
        let decision = self.model.decide(&command, &loaded, self.now);
        if let Err(refusal) = &decision {
            refusals::is_listed(command.command.name(), refusal);
        }
        let decision = decision?;
        let again = self.model.decide(&command, &loaded, self.now).unwrap();
        assert_eq!(decision, again, "deciding is a function");
        Ok(self.append(&loaded, decision))
    }

    fn append(&mut self, loaded: &Loaded<ShopState>, decision: Decision<ShopEvent>) -> Done {
        let (mut kinds, mut data) = (Vec::new(), Vec::new());
        for (stream, event) in decision.events {
            assert!(loaded.contains(&stream), "{stream} is appended to and was not read");
            let encoded = self.model.encode(&event).unwrap();
            // As the journal stores it, and reads it again.
            let stored = String::from_utf8(canonical::to_vec(&encoded.data).unwrap()).unwrap();
            let read = self.model.decode(encoded.kind, encoded.schema_version, &stored).unwrap();
            assert_eq!(read, event, "{}", encoded.kind);
            let before = self.streams.remove(&stream);
            let (version, state) =
                before.map_or((0, None), |(v, s)| (v, Some(Arc::unwrap_or_clone(s))));
            let state = self.model.evolve(&stream, state, &event).unwrap();
            self.log.push(format!("{} {stream}", encoded.kind));
            self.streams.insert(stream, (version + 1, Arc::new(state)));
            kinds.push(encoded.kind);
            data.push(encoded.data);
        }
        self.jobs.extend(decision.jobs.clone());
        let Decision { jobs, result, open, .. } = decision;
        Done { kinds, result, open, jobs, data }
    }

    /// Sends a client's command, as JSON.
    #[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]
    fn asks(&mut self, authority: Authority, name: &str, body: Value) -> Result<Done, Refusal> {
        let command = Command::parse(name, body.to_string().as_bytes())
            .unwrap_or_else(|bad| panic!("{name} {body}: {bad}"));
        self.sends(authority, command)
    }

    #[track_caller]
    fn does(&mut self, authority: Authority, name: &str, body: Value) -> Done {
        match self.asks(authority, name, body) {
            Ok(done) => done,
            Err(refusal) => panic!("{name}: {refusal:?}"),
        }
    }

    #[track_caller]
    fn refuses(&mut self, authority: Authority, name: &str, body: Value) -> (String, Value) {
        match self.asks(authority, name, body) {
            Ok(done) => panic!("{name} was accepted: {:?}", done.kinds),
            Err(refusal) => (refusal.code, refusal.values),
        }
    }

    /// Places Anna's order of 2 cups, 4 plates and postage: 1050 in all.
    fn ordered(&mut self) -> Uuid {
        id(&self.does(ANNA, "PlaceOrder", order()).result["order_id"])
    }

    /// Opens a payment.
    fn charged(&mut self, order: Uuid, amount: i64) -> Uuid {
        id(&self.does(ANNA, "ChargePayment", charge(order, amount)).result["payment_id"])
    }

    /// Opens a payment and has it captured.
    fn paid(&mut self, order: Uuid, amount: i64) -> Uuid {
        let payment = self.charged(order, amount);
        self.outcome(payment, captured(amount)).unwrap();
        payment
    }

    fn outcome(
        &mut self,
        payment_id: Uuid,
        outcome: wire::PaymentOutcome,
    ) -> Result<Done, Refusal> {
        let command = wire::RecordPaymentOutcome { payment_id, outcome };
        self.sends(Authority::Backend, Command::RecordPaymentOutcome(command))
    }

    fn expires(&mut self, order_id: Uuid, deadline: DateTime<Utc>) -> Result<Done, Refusal> {
        let command = wire::ExpireOrder { order_id, deadline: deadline.into() };
        self.sends(Authority::Backend, Command::ExpireOrder(command))
    }

    /// On hand and reserved.
    fn levels(&self, sku: &str) -> (i64, i64) {
        match self.streams.get(&format!("stock-{sku}")).map(|(_, state)| &**state) {
            Some(ShopState::Stock(stock)) => (stock.levels().on_hand(), stock.levels().reserved()),
            _ => (0, 0),
        }
    }
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

fn order() -> Value {
    json!({
        "currency": "GBP", "country": "France",
        "lines": [
            { "sku": "PLATE", "quantity": 3 }, { "sku": "CUP", "quantity": 2 },
            { "sku": "POST", "quantity": 1 }, { "sku": "PLATE", "quantity": 1 }
        ]
    })
}

fn charge(order: Uuid, amount: i64) -> Value {
    json!({
        "order_id": order, "amount": amount, "currency": "GBP", "gateway_token": "tok_visa"
    })
}

fn captured(amount: i64) -> wire::PaymentOutcome {
    wire::PaymentOutcome::Captured {
        gateway_payment_id: "ch_1".to_owned(),
        amount: wire::Amount::new(amount).unwrap(),
        currency: wire::Currency::new("GBP").unwrap(),
    }
}

fn declined() -> wire::PaymentOutcome {
    wire::PaymentOutcome::Declined { reason: "no funds".into() }
}

fn in_15_minutes(shelf: &Shelf) -> DateTime<Utc> {
    shelf.now + TimeDelta::minutes(15)
}

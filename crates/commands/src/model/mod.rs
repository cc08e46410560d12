//! The shop as the journal sees it: which streams a command reads, what it decides, how events
//! are stored and folded.

mod decide;
mod draft;
mod money;
mod reads;
mod refusals;
mod snapshot;
mod states;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use daybook_domain::{Aggregate, order::Order, payment::Payment, product::Product, stock::Stock};
use daybook_journal::{
    Activations, CorruptEvent, Decision, Encoded, Loaded, Model, NotActivated, Refusal, Upcasters,
};
use uuid::Uuid;

use crate::{
    authority::Authority,
    events::{self, ShopEvent},
    schemas,
    wire::{self, Command},
};

/// What can be set about a shop.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    /// Name of the tenant it is for; part of its jobs' ids, since order ids of two tenants may be
    /// the same.
    pub tenant: String,
    /// How long an unpaid order keeps its stock, milliseconds.
    pub reservation_ms: u32,
    /// How long a payment may be charged, milliseconds.
    pub payment_deadline_ms: u32,
    /// Name of the payment gateway.
    pub gateway: String,
    /// Most lines of an order.
    pub max_lines: usize,
    /// What is asked for sending an order, by its currency; a currency that is missing: nothing.
    pub flat_shipping: BTreeMap<wire::Currency, wire::Amount>,
    /// Whether partners may say what is asked for shipping and tax of the orders they place.
    pub partners_charge: bool,
}

impl Default for ShopSettings {
    fn default() -> Self {
        Self {
            tenant: "main".to_owned(),
            reservation_ms: 15 * 60 * 1000,
            payment_deadline_ms: 60 * 60 * 1000,
            gateway: "sandbox".to_owned(),
            max_lines: 2_000,
            flat_shipping: BTreeMap::new(),
            partners_charge: false,
        }
    }
}

/// The shop's commands and events, bound to the journal.
#[derive(Debug, Clone)]
pub struct ShopModel {
    settings: ShopSettings,
    gateway: daybook_domain::Text,
    activations: Activations,
}

impl ShopModel {
    /// A shop with these settings, where every version of every event may be written.
    pub fn new(settings: ShopSettings) -> Self {
        let gateway = settings.gateway.as_str().into();
        let activations = Activations::all(&schemas::event_versions());
        Self { settings, gateway, activations }
    }

    /// The same, writing only what is activated at the moment it is written.
    #[must_use]
    pub fn writing(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// What was set.
    pub fn settings(&self) -> &ShopSettings {
        &self.settings
    }
}

/// A command on its way to be decided: who sends it, and an id that was drawn for it.
#[derive(Debug, Clone)]
pub struct ShopCommand {
    pub(crate) command: Command,
    pub(crate) authority: Authority,
    pub(crate) fresh: Uuid,
    pub(crate) sealed: Option<Vec<u8>>,
}

impl ShopCommand {
    /// `fresh` becomes the id of the order or payment that the command creates, unless it brings
    /// one, or the seed of its refunds' ids. `sealed` is what the job it causes needs in secret.
    pub fn new(
        command: Command,
        authority: Authority,
        fresh: Uuid,
        sealed: Option<Vec<u8>>,
    ) -> Self {
        Self { command, authority, fresh, sealed }
    }
}

/// State of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented in the domain")]
pub enum ShopState {
    Product(Product),
    Stock(Stock),
    Order(Order),
    Payment(Payment),
}

impl Model for ShopModel {
    type Command = ShopCommand;
    type Event = ShopEvent;
    type State = ShopState;

    fn reads(&self, command: &ShopCommand, loaded: &Loaded<ShopState>) -> Vec<String> {
        reads::reads(command, loaded)
    }

    fn decide(
        &self,
        command: &ShopCommand,
        loaded: &Loaded<ShopState>,
        now: DateTime<Utc>,
    ) -> Result<Decision<ShopEvent>, Refusal> {
        decide::decide(self, command, loaded, now)
    }

    fn may_learn_version(
        &self,
        command: &ShopCommand,
        loaded: &Loaded<ShopState>,
        stream: &str,
    ) -> bool {
        match loaded.get(stream) {
            // Somebody else's order looks like one that does not exist.
            Some(ShopState::Order(order)) => {
                order.details().is_some_and(|details| command.authority.owns(details))
            }
            Some(ShopState::Product(_) | ShopState::Stock(_) | ShopState::Payment(_)) => {
                command.authority.runs_the_shop()
            }
            None => false,
        }
    }

    fn evolve(
        &self,
        stream: &str,
        state: Option<ShopState>,
        event: &ShopEvent,
    ) -> Result<ShopState, CorruptEvent> {
        use ShopState as S;
        let folded = match (state, event) {
            (None, ShopEvent::Product(event)) => Product::default().evolve(event).map(S::Product),
            (None, ShopEvent::Stock(event)) => Stock::default().evolve(event).map(S::Stock),
            (None, ShopEvent::Order(event)) => Order::default().evolve(event).map(S::Order),
            (None, ShopEvent::Payment(event)) => Payment::default().evolve(event).map(S::Payment),
            (Some(S::Product(state)), ShopEvent::Product(event)) => {
                state.evolve(event).map(S::Product)
            }
            (Some(S::Stock(state)), ShopEvent::Stock(event)) => state.evolve(event).map(S::Stock),
            (Some(S::Order(state)), ShopEvent::Order(event)) => state.evolve(event).map(S::Order),
            (Some(S::Payment(state)), ShopEvent::Payment(event)) => {
                state.evolve(event).map(S::Payment)
            }
            (
                Some(S::Product(_) | S::Stock(_) | S::Order(_) | S::Payment(_)),
                ShopEvent::Product(_)
                | ShopEvent::Stock(_)
                | ShopEvent::Order(_)
                | ShopEvent::Payment(_),
            ) => {
                let kind = events::encode(event).kind;
                return Err(CorruptEvent(format!("{kind} stands in {stream}")));
            }
        };
        folded.map_err(|misfit| CorruptEvent(format!("{stream}: {misfit}")))
    }

    fn encode(&self, event: &ShopEvent) -> Result<Encoded, NotActivated> {
        schemas::writable(events::encode(event), &self.activations)
    }

    fn upcasters(&self) -> Upcasters {
        schemas::upcasters()
    }

    fn decode(
        &self,
        kind: &str,
        schema_version: i16,
        data: &str,
    ) -> Result<ShopEvent, CorruptEvent> {
        events::decode(kind, schema_version, data)
    }

    fn weight(&self, state: &ShopState) -> usize {
        snapshot::weight(state)
    }

    fn snapshots(&self) -> Option<[u8; 32]> {
        Some(snapshot::fingerprint())
    }

    fn freeze(&self, state: &ShopState) -> Option<Vec<u8>> {
        snapshot::freeze(state)
    }

    fn thaw(&self, stream: &str, frozen: &[u8]) -> Option<ShopState> {
        snapshot::thaw(stream, frozen)
    }
}

//! A decision in the making: events of several streams, in the order in which they are appended.

use std::collections::{BTreeMap, HashMap};

use daybook_domain::{
    Aggregate, OrderId, PaymentId, Quantity, Sku, order,
    payment::{self, Payment},
    stock::{self, Movement},
};
use daybook_journal::Refusal;

use super::{refusals, states::States};
use crate::{events::ShopEvent, streams};

/// Events decided so far.
pub(super) struct Draft<'a> {
    pub(super) states: States<'a>,
    pub(super) events: Vec<(String, ShopEvent)>,
    /// Payments that this decision has changed already.
    payments: HashMap<PaymentId, Payment>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(states: States<'a>) -> Self {
        Self { states, events: Vec::new(), payments: HashMap::new() }
    }

    pub(super) fn order(&mut self, order: OrderId, event: order::Event) {
        self.events.push((streams::order(order), ShopEvent::Order(event)));
    }

    pub(super) fn orders(&mut self, order: OrderId, events: Vec<order::Event>) {
        for event in events {
            self.order(order, event);
        }
    }

    /// A payment as it stands after what was decided so far.
    pub(super) fn payment_state(&self, payment: PaymentId) -> &Payment {
        self.payments.get(&payment).unwrap_or_else(|| self.states.payment(payment))
    }

    /// Asks a payment, and takes down what comes of it; returns that.
    pub(super) fn payment(
        &mut self,
        payment: PaymentId,
        command: &payment::Command,
    ) -> Result<Vec<payment::Event>, Refusal> {
        let state = self.payment_state(payment);
        let events =
            state.decide(command).map_err(|refusal| refusals::payment(payment, refusal))?;
        let mut state = state.clone();
        for event in &events {
            state = state.evolve(event).map_err(|misfit| refusals::misfit(&misfit))?;
            self.events.push((streams::payment(payment), ShopEvent::Payment(event.clone())));
        }
        self.payments.insert(payment, state);
        Ok(events)
    }

    /// Moves stock, one event per product, in order of their codes.
    pub(super) fn stock<'l>(
        &mut self,
        order: OrderId,
        lines: impl Iterator<Item = (&'l Sku, Quantity)>,
        command: fn(Movement) -> stock::Command,
    ) -> Result<(), Refusal> {
        let mut sums: BTreeMap<&Sku, Quantity> = BTreeMap::new();
        for (sku, quantity) in lines {
            let sum = sums.get(sku).map_or(Some(quantity), |sum| sum.checked_add(quantity));
            sums.insert(sku, sum.ok_or_else(refusals::too_large)?);
        }
        let mut missing = Vec::new();
        for (sku, quantity) in sums {
            let movement = Movement { sku: sku.clone(), order, quantity };
            match self.states.stock(sku).decide(&command(movement)) {
                Ok(events) => self.events.extend(
                    events.into_iter().map(|event| (streams::stock(sku), ShopEvent::Stock(event))),
                ),
                Err(stock::Refusal::Short { wanted, available }) => {
                    missing.push((sku, wanted, available));
                }
                Err(
                    refusal @ (stock::Refusal::NotReserved { .. } | stock::Refusal::TooMany { .. }),
                ) => {
                    return Err(refusals::stock(sku, refusal));
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(refusals::out_of_stock(&missing)) }
    }
}

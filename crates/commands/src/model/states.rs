//! The states that were read for a command, by what they are of.

use daybook_domain::{
    OrderId, PaymentId, Sku, order::Order, payment::Payment, product::Product, stock::Stock,
};
use daybook_journal::Loaded;

use super::ShopState;
use crate::streams;

/// States of streams; one without events, or not read, is what it was before its first event.
#[derive(Clone, Copy)]
pub(super) struct States<'a>(pub(super) &'a Loaded<ShopState>);

static NO_PRODUCT: Product = Product::Unknown;
static NO_STOCK: Stock = Stock::Untouched;
static NO_ORDER: Order = Order::Unplaced;
static NO_PAYMENT: Payment = Payment::Unknown;

impl<'a> States<'a> {
    pub(super) fn product(self, sku: &Sku) -> &'a Product {
        match self.0.get(&streams::product(sku)) {
            Some(ShopState::Product(product)) => product,
            None | Some(ShopState::Stock(_) | ShopState::Order(_) | ShopState::Payment(_)) => {
                &NO_PRODUCT
            }
        }
    }

    pub(super) fn stock(self, sku: &Sku) -> &'a Stock {
        match self.0.get(&streams::stock(sku)) {
            Some(ShopState::Stock(stock)) => stock,
            None | Some(ShopState::Product(_) | ShopState::Order(_) | ShopState::Payment(_)) => {
                &NO_STOCK
            }
        }
    }

    pub(super) fn order(self, order: OrderId) -> &'a Order {
        match self.0.get(&streams::order(order)) {
            Some(ShopState::Order(order)) => order,
            None | Some(ShopState::Product(_) | ShopState::Stock(_) | ShopState::Payment(_)) => {
                &NO_ORDER
            }
        }
    }

    /// The order that a payment is for.
    pub(super) fn order_of(self, payment: PaymentId) -> &'a Order {
        self.payment(payment).facts().map_or(&NO_ORDER, |facts| self.order(facts.order))
    }

    pub(super) fn payment(self, payment: PaymentId) -> &'a Payment {
        match self.0.get(&streams::payment(payment)) {
            Some(ShopState::Payment(payment)) => payment,
            None | Some(ShopState::Product(_) | ShopState::Stock(_) | ShopState::Order(_)) => {
                &NO_PAYMENT
            }
        }
    }
}

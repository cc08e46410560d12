//! Commands on the wire: what clients send, checked field by field.

pub(crate) mod cards;
mod command;
mod object;
mod parse;
#[cfg(test)]
mod tests;
mod values;

use serde::Serialize;

pub use self::{
    command::{
        AddProduct, AdjustStock, CancelOrder, ChangePrice, ChargePayment, Country, DeliverOrder,
        DiscontinueProduct, ExpireOrder, Finding, FoundCaptured, FoundNotCharged, GatewayId,
        Method, Name, Note, OrderLine, PaymentOutcome, PlaceOrder, Reason, ReceiveStock,
        RecordDispute, RecordGatewayPayment, RecordPayment, RecordPaymentOutcome,
        RecordRefundOutcome, Reference, RefundBy, RefundOutcome, RefundPayment, ResolvePayment,
        ReturnItems, ReturnLine, ShipLine, ShipOrder,
    },
    parse::BadCommand,
    values::{
        Amount, Change, Currency, GatewayToken, Invalid, PositiveAmount, Quantity, Said, Sku, Text,
        Time,
    },
};

/// Any command. Serialized, it is its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is documented at its body")]
pub enum Command {
    AddProduct(AddProduct),
    ChangePrice(ChangePrice),
    DiscontinueProduct(DiscontinueProduct),
    ReceiveStock(ReceiveStock),
    AdjustStock(AdjustStock),
    PlaceOrder(PlaceOrder),
    ChargePayment(ChargePayment),
    RecordPayment(RecordPayment),
    CancelOrder(CancelOrder),
    ShipOrder(ShipOrder),
    DeliverOrder(DeliverOrder),
    ReturnItems(ReturnItems),
    RefundPayment(RefundPayment),
    ResolvePayment(ResolvePayment),
    RecordGatewayPayment(RecordGatewayPayment),
    RecordDispute(RecordDispute),
    RecordPaymentOutcome(RecordPaymentOutcome),
    RecordRefundOutcome(RecordRefundOutcome),
    ExpireOrder(ExpireOrder),
}

impl Command {
    /// Its name, as in the path it is posted to.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddProduct(_) => "AddProduct",
            Self::ChangePrice(_) => "ChangePrice",
            Self::DiscontinueProduct(_) => "DiscontinueProduct",
            Self::ReceiveStock(_) => "ReceiveStock",
            Self::AdjustStock(_) => "AdjustStock",
            Self::PlaceOrder(_) => "PlaceOrder",
            Self::ChargePayment(_) => "ChargePayment",
            Self::RecordPayment(_) => "RecordPayment",
            Self::CancelOrder(_) => "CancelOrder",
            Self::ShipOrder(_) => "ShipOrder",
            Self::DeliverOrder(_) => "DeliverOrder",
            Self::ReturnItems(_) => "ReturnItems",
            Self::RefundPayment(_) => "RefundPayment",
            Self::ResolvePayment(_) => "ResolvePayment",
            Self::RecordGatewayPayment(_) => "RecordGatewayPayment",
            Self::RecordDispute(_) => "RecordDispute",
            Self::RecordPaymentOutcome(_) => "RecordPaymentOutcome",
            Self::RecordRefundOutcome(_) => "RecordRefundOutcome",
            Self::ExpireOrder(_) => "ExpireOrder",
        }
    }
}

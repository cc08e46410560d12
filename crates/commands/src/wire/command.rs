//! Commands as clients send them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    object,
    values::{
        Amount, Change, Currency, GatewayToken, PositiveAmount, Quantity, Said, Sku, Text, Time,
    },
};

/// A product's name.
pub type Name = Text<1, 200>;
/// Why something is done.
pub type Reason = Text<1, 200>;
/// Why stock is corrected; may be empty.
pub type Note = Text<0, 200>;
/// The shop's own name for an order or payment.
pub type Reference = Text<1, 64>;
/// Where an order goes: a name or a code, as the shop likes.
pub type Country = Text<1, 64>;
/// A gateway's id of a payment.
pub type GatewayId = Text<1, 255>;
/// How a payment was settled elsewhere.
pub type Method = Text<1, 64>;

/// Puts a product into the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddProduct {
    /// Its code; case matters.
    pub sku: Sku,
    /// Its name.
    pub name: Name,
    /// Price of one unit, in minor units.
    pub price: Amount,
    /// Currency of the price.
    pub currency: Currency,
    /// Whether stock is kept of it; not for services such as postage.
    #[serde(default = "yes")]
    pub tracked: bool,
}

fn yes() -> bool {
    true
}

/// Gives a product another price, in its currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePrice {
    /// The product.
    pub sku: Sku,
    /// Price of one unit from now on, in minor units.
    pub price: Amount,
    /// Currency of the price.
    pub currency: Currency,
}

/// Sells a product no more. What was ordered before is still sent and taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscontinueProduct {
    /// The product.
    pub sku: Sku,
}

/// Takes goods into stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveStock {
    /// The product.
    pub sku: Sku,
    /// Units that came in.
    pub quantity: Quantity,
}

/// Corrects the stock of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// The product.
    pub sku: Sku,
    /// Units more (positive) or fewer (negative) than was thought.
    pub quantity: Change,
    /// Why; may be empty.
    pub reason: Note,
}

/// Places an order and reserves its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// Id of the order, if the client brings one; it must be new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<Uuid>,
    /// Whose order it is: for operators. A customer's order is the customer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,
    /// Currency of all prices.
    pub currency: Currency,
    /// The shop's own name for it, as an invoice number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What is ordered.
    #[serde(deserialize_with = "object::list")]
    #[schemars(length(min = 1))]
    pub lines: Vec<OrderLine>,
    /// What is asked for sending it, in minor units: for operators. Otherwise it is the shop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipping: Option<Amount>,
    /// What is asked for tax beside the prices, in minor units: for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Amount>,
    /// The total that the buyer was shown, in minor units, with shipping and tax: another one is
    /// refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_total: Option<Amount>,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// The product.
    pub sku: Sku,
    /// Units.
    pub quantity: Quantity,
    /// Price of one unit, in minor units: for operators. Otherwise it is the product's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Amount>,
}

/// Charges a card for an order, all that is due or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargePayment {
    /// Id of the payment, if the client brings one; it must be new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
    /// The order.
    pub order_id: Uuid,
    /// How much, in minor units.
    pub amount: PositiveAmount,
    /// Its currency, the order's.
    pub currency: Currency,
    /// What the gateway gave the frontend for the card.
    pub gateway_token: GatewayToken,
}

/// Records a payment that was settled elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordPayment {
    /// Id of the payment, if the client brings one; it must be new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
    /// The order.
    pub order_id: Uuid,
    /// How much, in minor units.
    pub amount: PositiveAmount,
    /// Its currency, the order's.
    pub currency: Currency,
    /// How, as `cash` or `bank transfer`.
    pub method: Method,
    /// Where to find it in the books of that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
}

/// Calls an order off, before anything of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The order.
    pub order_id: Uuid,
    /// Why.
    pub reason: Reason,
}

/// Sends an order, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipOrder {
    /// The order.
    pub order_id: Uuid,
    /// What of it; without them, all that is left.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::optional_list"
    )]
    #[schemars(length(min = 1))]
    pub lines: Option<Vec<ShipLine>>,
    /// Whether it goes although it isn't paid.
    #[serde(default)]
    pub on_account: bool,
}

/// Units of a line to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShipLine {
    /// Number of the line, from 1.
    #[schemars(range(min = 1))]
    pub line: u32,
    /// Units.
    pub quantity: Quantity,
}

/// Notes that an order arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverOrder {
    /// The order.
    pub order_id: Uuid,
}

/// Takes goods back, credits them, and gives back what was paid for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnItems {
    /// The order.
    pub order_id: Uuid,
    /// What came back.
    #[serde(deserialize_with = "object::list")]
    #[schemars(length(min = 1))]
    pub lines: Vec<ReturnLine>,
    /// How the money goes back.
    #[serde(default)]
    pub refund: RefundBy,
}

/// Units of a line that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnLine {
    /// Number of the line, from 1.
    #[schemars(range(min = 1))]
    pub line: u32,
    /// Units.
    pub quantity: Quantity,
    /// What is credited for them, in minor units; without it, their price in the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<Amount>,
}

/// How money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundBy {
    /// The gateway that took it gives it back.
    #[default]
    Gateway,
    /// It was given back by another way already.
    SettledElsewhere,
}

/// Gives back part of a payment out of goodwill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundPayment {
    /// The payment.
    pub payment_id: Uuid,
    /// How much, in minor units.
    pub amount: PositiveAmount,
    /// Its currency, the order's.
    pub currency: Currency,
    /// Why.
    pub reason: Reason,
    /// How the money goes back.
    #[serde(default)]
    pub refund: RefundBy,
}

/// Settles a payment whose outcome nobody knew: what a person found out at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolvePayment {
    /// The payment.
    pub payment_id: Uuid,
    /// What became of it.
    pub outcome: Finding,
}

/// What a person found out about a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The gateway took it.
    #[serde(deserialize_with = "object::one")]
    Captured(FoundCaptured),
    /// The gateway did not take it, and will not.
    #[serde(deserialize_with = "object::one")]
    NotCharged(FoundNotCharged),
}

/// A payment that the gateway took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FoundCaptured {
    /// The gateway's id of it.
    pub gateway_payment_id: GatewayId,
    /// How much it took, in minor units: what was asked for.
    pub amount: PositiveAmount,
    /// Of which currency.
    pub currency: Currency,
}

/// A payment that the gateway did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FoundNotCharged {
    /// How that is known.
    pub reason: Reason,
}

/// Records the id that the gateway has given a payment, before it takes anything. Only the backend
/// sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordGatewayPayment {
    /// The payment.
    pub payment_id: Uuid,
    /// The gateway's id of it.
    pub gateway_payment_id: String,
}

/// Records that the customer's bank wants a payment back, or how that stands. Only the backend
/// sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordDispute {
    /// The payment.
    pub payment_id: Uuid,
    /// The gateway's id of the dispute.
    pub dispute_id: String,
    /// How much is disputed, in minor units.
    pub amount: Amount,
    /// Of which currency.
    pub currency: Currency,
    /// How it stands, in the gateway's words.
    pub status: Said,
    /// Why, as far as the gateway says.
    pub reason: Said,
}

/// Records what the gateway says about a payment. Only the backend sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordPaymentOutcome {
    /// The payment.
    pub payment_id: Uuid,
    /// What became of it.
    pub outcome: PaymentOutcome,
}

/// What became of a payment at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PaymentOutcome {
    /// It was taken.
    Captured {
        /// The gateway's id of it.
        gateway_payment_id: String,
        /// How much was taken, in minor units.
        amount: Amount,
        /// Of which currency.
        currency: Currency,
    },
    /// It was not taken and will not be.
    Declined {
        /// Why, as far as the gateway says.
        reason: Said,
    },
    /// That can't be made out.
    Unresolved {
        /// What is wrong.
        reason: Said,
    },
}

/// Records what the gateway says about a refund. Only the backend sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRefundOutcome {
    /// The payment.
    pub payment_id: Uuid,
    /// The refund.
    pub refund_id: Uuid,
    /// What became of it.
    pub outcome: RefundOutcome,
}

/// What became of a refund at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RefundOutcome {
    /// The money went back.
    Refunded {},
    /// The money did not go back and will not.
    Failed {
        /// Why, as far as the gateway says.
        reason: Said,
    },
}

/// Ends the reservation of an order that was not paid in time. Only the backend sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireOrder {
    /// The order.
    pub order_id: Uuid,
    /// The deadline that passed.
    pub deadline: Time,
}

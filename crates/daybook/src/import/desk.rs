//! The plan's steps as commands, handed to the shop.

use std::{future::Ready, time::Duration};

use daybook_commands::{
    AddProduct, AdjustStock, Amount, Authority, Change, Command, Country, Currency, Invalid,
    Method, Name, Note, OrderLine, Pending, PlaceOrder, PositiveAmount, Quantity, ReceiveStock,
    RecordPayment, Reference, RefundBy, Request, ReturnItems, ReturnLine, ShipOrder, Shop, Sku,
};
use daybook_journal::{Outcome, Refusal, SubmitError, Verdict};
use futures::future::Either;
use serde_json::json;

use super::{
    ids::Ids,
    plan::{Action, Plan},
    send::Desk,
};

/// Whose idempotency keys an import's are.
const PRINCIPAL: &str = "import";
/// How long a command may wait for its turn. Long: an import is in no hurry.
const DEADLINE: Duration = Duration::from_secs(30);
/// How the file's payments were made, as far as Daybook knows.
const METHOD: &str = "settled elsewhere";

/// Hands the steps of a plan to a tenant's shop, as the operator of an import.
pub(crate) struct ShopDesk<'a> {
    shop: Shop,
    tenant: i32,
    plan: &'a Plan,
    ids: Ids,
    currency: Currency,
}

impl<'a> ShopDesk<'a> {
    /// For one plan and one tenant.
    pub(crate) fn new(shop: Shop, tenant: i32, plan: &'a Plan) -> Self {
        let currency = Currency::new("GBP").expect("ISO 4217 lists GBP");
        Self { shop, tenant, plan, ids: Ids::new(&plan.sha256), currency }
    }

    fn request(&self, index: usize, command: Command) -> Request {
        let step = &self.plan.steps[index];
        let invoice = self.plan.names.invoices.text(step.invoice);
        Request {
            command,
            authority: Authority::Import,
            principal: PRINCIPAL.to_owned(),
            key: self.ids.key(step.key_row, step.action.name(), step.n),
            correlation: self.ids.correlation(invoice),
            causation: None,
            traceparent: None,
            occurred_at: Some(step.at),
            if_match: None,
            deadline: DEADLINE,
            keep: None,
        }
    }
}

impl Desk for ShopDesk<'_> {
    type Pending = Either<Pending, Ready<Result<Outcome, SubmitError>>>;

    async fn enqueue(&self, index: usize) -> Self::Pending {
        match command(self.plan, &self.ids, self.currency, index) {
            Ok(command) => {
                let request = self.request(index, command);
                Either::Left(self.shop.enqueue(self.tenant, request).await)
            }
            Err(invalid) => Either::Right(std::future::ready(Ok(Outcome {
                verdict: Verdict::Refused(Refusal {
                    code: "invalid-command".to_owned(),
                    detail: invalid.to_string(),
                    values: json!({}),
                }),
                repeated: false,
            }))),
        }
    }
}

/// The command of a step. What a row may hold is checked when it is read, so `Invalid` is rare:
/// an amount that only a sum takes beyond what an event may hold.
fn command(plan: &Plan, ids: &Ids, gbp: Currency, index: usize) -> Result<Command, Invalid> {
    let names = &plan.names;
    let sku = |code: u32| Sku::new(names.codes.text(code));
    let order_id = |order: usize| ids.order(names.invoices.text(plan.orders[order].invoice));
    Ok(match &plan.steps[index].action {
        Action::AddProduct { code } => {
            let product = &plan.products[*code as usize];
            Command::AddProduct(AddProduct {
                sku: sku(*code)?,
                name: Name::new(&product.name)?,
                price: Amount::new(product.price)?,
                currency: gbp,
                tracked: product.tracked,
            })
        }
        Action::ReceiveStock { code, quantity } => Command::ReceiveStock(ReceiveStock {
            sku: sku(*code)?,
            quantity: Quantity::new(*quantity)?,
        }),
        Action::AdjustStock { adjustment } => {
            let adjustment = &plan.adjustments[*adjustment];
            let reason = adjustment.description.map_or("", |text| names.descriptions.text(text));
            Command::AdjustStock(AdjustStock {
                sku: sku(adjustment.code)?,
                quantity: Change::new(adjustment.quantity)?,
                reason: Note::new(reason)?,
            })
        }
        Action::PlaceOrder { order: index } => {
            let order = &plan.orders[*index];
            let lines = order.lines.iter().map(|line| {
                Ok(OrderLine {
                    sku: sku(line.code)?,
                    quantity: Quantity::new(line.quantity)?,
                    unit_price: Some(Amount::new(line.price)?),
                })
            });
            Command::PlaceOrder(PlaceOrder {
                order_id: Some(order_id(*index)),
                customer_id: order
                    .customer
                    .map(|customer| ids.customer(names.customers.text(customer))),
                country: Some(Country::new(names.countries.text(order.country))?),
                currency: gbp,
                reference: Some(Reference::new(names.invoices.text(order.invoice))?),
                lines: lines.collect::<Result<_, Invalid>>()?,
                shipping: None,
                tax: None,
                expected_total: Some(Amount::new(order.total)?),
            })
        }
        Action::RecordPayment { order: index } => {
            let order = &plan.orders[*index];
            let invoice = names.invoices.text(order.invoice);
            Command::RecordPayment(RecordPayment {
                payment_id: Some(ids.payment(invoice)),
                order_id: order_id(*index),
                amount: PositiveAmount::new(order.total)?,
                currency: gbp,
                method: Method::new(METHOD)?,
                reference: Some(Reference::new(invoice)?),
            })
        }
        Action::ShipOrder { order } => Command::ShipOrder(ShipOrder {
            order_id: order_id(*order),
            lines: None,
            on_account: false,
        }),
        Action::ReturnItems { piece } => {
            let piece = &plan.pieces[*piece];
            let lines = piece.lines.iter().map(|line| {
                Ok(ReturnLine {
                    line: line.line,
                    quantity: Quantity::new(line.quantity)?,
                    credit: Some(Amount::new(line.credit)?),
                })
            });
            Command::ReturnItems(ReturnItems {
                order_id: order_id(piece.order),
                lines: lines.collect::<Result<_, Invalid>>()?,
                refund: RefundBy::SettledElsewhere,
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::import::{row::HEADER, source::Contents};

    #[test]
    fn commands_have_the_form_that_a_client_would_send() {
        let file = format!(
            "{}\n536365,85123A,\"HEART, WHITE\",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n\
             C536366,85123A,x,-2,2010-12-01 09:26:00,2.55,17850.0,United Kingdom\n\
             536367,22423,,-1,2010-12-01 09:27:00,0,,United Kingdom",
            HEADER.join(",")
        );
        let plan = Plan::new(Contents::read_from(file.as_bytes()).unwrap());
        let ids = Ids::new(&plan.sha256);
        let gbp = Currency::new("GBP").unwrap();
        let bodies: Vec<(&str, Value)> = (0..plan.steps.len())
            .map(|index| {
                let command = command(&plan, &ids, gbp, index).unwrap();
                assert_eq!(command.name(), plan.steps[index].action.name());
                (command.name(), serde_json::to_value(command).unwrap())
            })
            .collect();
        let order_id = ids.order("536365");
        assert_eq!(
            bodies,
            [
                (
                    "AddProduct",
                    json!({"sku": "85123A", "name": "HEART, WHITE", "price": 255,
                           "currency": "GBP", "tracked": true})
                ),
                ("ReceiveStock", json!({"sku": "85123A", "quantity": 6})),
                (
                    "PlaceOrder",
                    json!({"order_id": order_id, "customer_id": ids.customer("17850"),
                           "country": "United Kingdom", "currency": "GBP", "reference": "536365",
                           "lines": [{"sku": "85123A", "quantity": 6, "unit_price": 255}],
                           "expected_total": 1530})
                ),
                (
                    "RecordPayment",
                    json!({"payment_id": ids.payment("536365"), "order_id": order_id,
                           "amount": 1530, "currency": "GBP", "method": "settled elsewhere",
                           "reference": "536365"})
                ),
                ("ShipOrder", json!({"order_id": order_id, "on_account": false})),
                (
                    "ReturnItems",
                    json!({"order_id": order_id,
                           "lines": [{"line": 1, "quantity": 2, "credit": 510}],
                           "refund": "settled_elsewhere"})
                ),
                (
                    "AddProduct",
                    json!({"sku": "22423", "name": "22423", "price": 0, "currency": "GBP",
                           "tracked": true})
                ),
                ("ReceiveStock", json!({"sku": "22423", "quantity": 1})),
                ("AdjustStock", json!({"sku": "22423", "quantity": -1, "reason": ""})),
            ]
        );
    }
}

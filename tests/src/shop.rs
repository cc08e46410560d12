//! A small shop on an installation: one server with every role, its keys and a product.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Answer, Client, Installation, Process, Role};

/// An installation with `daybook up` running, an operator, two customers and a product `MUG` of
/// 12.50 GBP.
#[derive(Debug)]
pub struct Shop {
    /// The process with every role.
    pub server: Process,
    /// An operator.
    pub operator: Client,
    /// A customer.
    pub customer: Client,
    /// The customer's id.
    pub customer_id: Uuid,
    /// Another customer.
    pub stranger: Client,
    /// The installation. Last, so that the server ends before its database.
    pub installation: Installation,
}

impl Shop {
    /// Opens the shop with some mugs in stock.
    pub async fn open(mugs: u32) -> Self {
        Self::open_on(Installation::new().await, mugs).await
    }

    /// Opens the shop on an installation.
    pub async fn open_on(installation: Installation, mugs: u32) -> Self {
        let server = installation.start("up").await;
        let customer_id = Uuid::new_v4();
        let operator = server.client(&installation.key(Role::Operator).await);
        let customer = server.client(&installation.key(Role::Customer(customer_id)).await);
        let stranger = server.client(&installation.key(Role::Customer(Uuid::new_v4())).await);
        let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
        let _added = operator.once("AddProduct", &mug).await.ok();
        if mugs > 0 {
            let stock = json!({"sku": "MUG", "quantity": mugs});
            let _received = operator.once("ReceiveStock", &stock).await.ok();
        }
        Self { server, operator, customer, customer_id, stranger, installation }
    }

    /// What the stock's read model says of mugs at a position.
    pub async fn mugs_at(&self, position: &str) -> Value {
        self.operator.get_at("/v1/operator/stock/MUG", position).await.ok().json()
    }
}

/// An order of mugs.
pub fn order(order_id: Uuid, quantity: u32) -> Value {
    json!({
        "order_id": order_id, "currency": "GBP",
        "lines": [{"sku": "MUG", "quantity": quantity}],
    })
}

/// A charge of an order with a gateway's token.
pub fn charge(order_id: Uuid, amount: u64, token: &str) -> Value {
    json!({"order_id": order_id, "amount": amount, "currency": "GBP", "gateway_token": token})
}

/// The last part of a problem's type.
pub fn problem_code(answer: &Answer) -> String {
    let body = answer.json();
    let kind = body["type"].as_str().unwrap_or_default();
    kind.rsplit(['/', ':', '#']).next().unwrap_or_default().to_owned()
}

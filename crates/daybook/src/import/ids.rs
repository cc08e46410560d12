//! Idempotency keys and ids, derived from the file alone, so that a second run sends the same.
//!
//! The namespace of a file is UUIDv5(RFC 9562 URL namespace, `urn:sha256:<hex>`), `<hex>` the
//! SHA-256 of the uncompressed file in lower case. A customer's id is UUIDv5(namespace,
//! `customer/<CustomerID without .0>`), an order's UUIDv5(namespace, `order/<InvoiceNo>`), the
//! id of its payment UUIDv5(namespace, `payment/<InvoiceNo>`). The correlation id of everything
//! that an invoice causes is UUIDv5(namespace, `invoice/<InvoiceNo>`).

use uuid::Uuid;

/// Makes the ids and keys of one file.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    sha256: String,
    namespace: Uuid,
}

impl Ids {
    /// For the file with this hash (lower-case hex).
    pub(crate) fn new(sha256: &str) -> Self {
        let namespace =
            Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("urn:sha256:{sha256}").as_bytes());
        Self { sha256: sha256.to_owned(), namespace }
    }

    /// A customer's id.
    pub(crate) fn customer(&self, customer: &str) -> Uuid {
        self.id("customer", customer)
    }

    /// An invoice's order.
    pub(crate) fn order(&self, invoice: &str) -> Uuid {
        self.id("order", invoice)
    }

    /// The payment of an invoice.
    pub(crate) fn payment(&self, invoice: &str) -> Uuid {
        self.id("payment", invoice)
    }

    /// What joins all commands of an invoice.
    pub(crate) fn correlation(&self, invoice: &str) -> Uuid {
        self.id("invoice", invoice)
    }

    /// Idempotency key: `<sha256>:<first row of the command>:<command>:<n>`.
    pub(crate) fn key(&self, row: u32, command: &str, n: u32) -> String {
        format!("{}:{row}:{command}:{n}", self.sha256)
    }

    fn id(&self, kind: &str, id: &str) -> Uuid {
        Uuid::new_v5(&self.namespace, format!("{kind}/{id}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: other programs derive the same (Python: `uuid.uuid5`).
    #[test]
    fn ids_are_those_of_rfc_9562() {
        let ids = Ids::new("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(ids.customer("17850").to_string(), "eecc234d-5e85-579b-b9d6-bb95c19969f6");
        assert_eq!(ids.order("536365").to_string(), "db971b76-1d1d-512d-91ef-e41f95fb5b87");
        assert_eq!(ids.payment("536365").to_string(), "1f35216f-189e-52d4-9b6e-c309384662a0");
        assert_eq!(
            ids.key(17, "PlaceOrder", 0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:17:PlaceOrder:0"
        );
    }
}

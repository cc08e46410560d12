//! Ids. All of them are handed in: nothing here draws one.

use std::fmt;

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A customer.
    CustomerId
}
id! {
    /// A partner: a shop that places orders for customers of its own.
    PartnerId
}
id! {
    /// An order.
    OrderId
}
id! {
    /// A payment of an order.
    PaymentId
}
id! {
    /// A refund of a payment.
    RefundId
}

/// What a command's refunds get their ids from: a fresh id, drawn before anything is decided, when
/// it isn't known yet how many refunds there will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundSeed(pub Uuid);

impl RefundSeed {
    /// The id of this command's refund of `payment` (UUID version 5 below the seed).
    pub fn id_for(self, payment: PaymentId) -> RefundId {
        RefundId(Uuid::new_v5(&self.0, payment.0.as_bytes()))
    }
}

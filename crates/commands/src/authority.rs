//! Who asks, and what they may ask for.

use daybook_domain::order::Details;
use uuid::Uuid;

use crate::wire::Command;

/// On whose behalf a command is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A customer, with the customer's id: own orders only.
    Customer(Uuid),
    /// A partner, with the partner's id: orders it placed only.
    Partner(Uuid),
    /// Whoever runs the shop.
    Operator,
    /// An operator who brings in history: its orders never expire, its keys are kept for ever.
    Import,
    /// The backend itself: outcomes and time-outs, nothing else.
    Backend,
}

impl Authority {
    /// Whether the role may send such a command at all. Whose order it is about is checked when
    /// it is decided.
    pub fn may_send(&self, command: &Command) -> bool {
        match self {
            Self::Customer(_) | Self::Partner(_) => match command {
                Command::PlaceOrder(_) | Command::ChargePayment(_) | Command::CancelOrder(_) => {
                    true
                }
                Command::AddProduct(_)
                | Command::ChangePrice(_)
                | Command::DiscontinueProduct(_)
                | Command::ReceiveStock(_)
                | Command::AdjustStock(_)
                | Command::RecordPayment(_)
                | Command::ShipOrder(_)
                | Command::DeliverOrder(_)
                | Command::ReturnItems(_)
                | Command::RefundPayment(_)
                | Command::ResolvePayment(_)
                | Command::RecordGatewayPayment(_)
                | Command::RecordDispute(_)
                | Command::RecordPaymentOutcome(_)
                | Command::RecordRefundOutcome(_)
                | Command::ExpireOrder(_) => false,
            },
            Self::Operator | Self::Import => !is_internal(command),
            Self::Backend => is_internal(command),
        }
    }

    /// Whether an order is this authority's to see and act on.
    pub(crate) fn owns(&self, order: &Details) -> bool {
        match self {
            Self::Customer(id) => order.customer().is_some_and(|customer| customer.0 == *id),
            Self::Partner(id) => order.partner().is_some_and(|partner| partner.0 == *id),
            Self::Operator | Self::Import | Self::Backend => true,
        }
    }

    /// Whether it may say what things cost and whose an order is.
    pub(crate) fn runs_the_shop(&self) -> bool {
        match self {
            Self::Operator | Self::Import => true,
            Self::Customer(_) | Self::Partner(_) | Self::Backend => false,
        }
    }
}

/// Whether only the backend sends such a command.
fn is_internal(command: &Command) -> bool {
    match command {
        Command::RecordGatewayPayment(_)
        | Command::RecordDispute(_)
        | Command::RecordPaymentOutcome(_)
        | Command::RecordRefundOutcome(_)
        | Command::ExpireOrder(_) => true,
        Command::AddProduct(_)
        | Command::ChangePrice(_)
        | Command::DiscontinueProduct(_)
        | Command::ReceiveStock(_)
        | Command::AdjustStock(_)
        | Command::PlaceOrder(_)
        | Command::ChargePayment(_)
        | Command::RecordPayment(_)
        | Command::CancelOrder(_)
        | Command::ShipOrder(_)
        | Command::DeliverOrder(_)
        | Command::ReturnItems(_)
        | Command::RefundPayment(_)
        | Command::ResolvePayment(_) => false,
    }
}

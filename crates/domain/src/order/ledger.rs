//! The money side of an order.

use crate::{Amount, PaymentId};

/// Total, credits and payments of an order.
///
/// Always credited ≤ total, and of each payment refunded + refunding ≤ its amount. There are at
/// most [`super::MAX_PAYMENTS`] payments, so sums over them are cheap and fit 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    total: Amount,
    credited: Amount,
    parts: Vec<Part>,
}

/// One payment of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The payment.
    pub payment: PaymentId,
    /// How much it is of.
    pub amount: Amount,
    /// How it stands.
    pub phase: PartPhase,
}

/// How a payment of an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartPhase {
    /// Under way.
    Open,
    /// Over, without money.
    Closed,
    /// The money came.
    Captured {
        /// Through a gateway, which can give it back; else by another way.
        at_gateway: bool,
        /// What is on its way back.
        refunding: Amount,
        /// What went back.
        refunded: Amount,
    },
}

impl Part {
    /// What is left of the money that came.
    pub fn left(&self) -> Amount {
        match self.phase {
            PartPhase::Open | PartPhase::Closed => Amount::ZERO,
            PartPhase::Captured { refunding, refunded, .. } => {
                self.amount.saturating_sub(refunding).saturating_sub(refunded)
            }
        }
    }

    /// Whether a gateway took it.
    pub fn at_gateway(&self) -> bool {
        matches!(self.phase, PartPhase::Captured { at_gateway: true, .. })
    }

    fn captured(&self) -> i64 {
        match self.phase {
            PartPhase::Open | PartPhase::Closed => 0,
            PartPhase::Captured { .. } => self.amount.get(),
        }
    }

    fn refunded(&self) -> i64 {
        match self.phase {
            PartPhase::Open | PartPhase::Closed => 0,
            PartPhase::Captured { refunded, .. } => refunded.get(),
        }
    }
}

impl Ledger {
    pub(super) fn new(total: Amount) -> Self {
        Self { total, credited: Amount::ZERO, parts: Vec::new() }
    }

    /// Sum of the lines, shipping and tax.
    pub fn total(&self) -> Amount {
        self.total
    }

    /// Sum of all credits.
    pub fn credited(&self) -> Amount {
        self.credited
    }

    /// What is to be paid in all: total less credits.
    pub fn due(&self) -> Amount {
        self.total.saturating_sub(self.credited)
    }

    /// Payments, oldest first.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// One payment.
    pub fn part(&self, payment: PaymentId) -> Option<&Part> {
        self.parts.iter().find(|part| part.payment == payment)
    }

    /// What payments under way ask for.
    pub fn open(&self) -> Amount {
        let open = |part: &&Part| part.phase == PartPhase::Open;
        Amount::clamp(self.parts.iter().filter(open).map(|part| part.amount.get()).sum())
    }

    /// Whether a payment is under way.
    pub fn has_open(&self) -> bool {
        self.parts.iter().any(|part| part.phase == PartPhase::Open)
    }

    /// What was captured less what went back; what is on its way back still counts.
    pub fn captured(&self) -> Amount {
        Amount::clamp(self.parts.iter().map(|part| part.captured() - part.refunded()).sum())
    }

    /// What was captured less what went back and what is on its way back.
    pub fn kept(&self) -> Amount {
        Amount::clamp(self.parts.iter().map(|part| part.left().get()).sum())
    }

    /// Whether as much is kept as is due.
    pub fn is_paid(&self) -> bool {
        self.kept() >= self.due()
    }

    /// What is kept above what is due.
    pub fn excess(&self) -> Amount {
        self.kept().saturating_sub(self.due())
    }

    /// How `amount` goes back, from the oldest of the `eligible` payments on; together with what
    /// could not be found room for.
    pub(super) fn allocate(
        &self,
        amount: Amount,
        eligible: impl Fn(&Part) -> bool,
    ) -> (Vec<(Part, Amount)>, Amount) {
        let mut rest = amount;
        let mut shares = Vec::new();
        for part in self.parts.iter().filter(|part| eligible(part)) {
            let share = part.left().min(rest);
            if !share.is_zero() {
                shares.push((*part, share));
                rest = rest.saturating_sub(share);
            }
        }
        (shares, rest)
    }

    // What events do to it. `None`: they can't have happened.

    pub(super) fn credit(&mut self, credit: Amount) -> Option<()> {
        let credited = self.credited.checked_add(credit)?;
        if credited > self.total {
            return None;
        }
        self.credited = credited;
        Some(())
    }

    pub(super) fn open_payment(&mut self, payment: PaymentId, amount: Amount) -> Option<()> {
        if self.part(payment).is_some() {
            return None;
        }
        self.parts.push(Part { payment, amount, phase: PartPhase::Open });
        Some(())
    }

    /// A payment that was never opened was settled elsewhere.
    pub(super) fn capture(&mut self, payment: PaymentId, amount: Amount) -> Option<()> {
        let phase = |at_gateway| PartPhase::Captured {
            at_gateway,
            refunding: Amount::ZERO,
            refunded: Amount::ZERO,
        };
        let Some(part) = self.part_mut(payment) else {
            self.parts.push(Part { payment, amount, phase: phase(false) });
            return Some(());
        };
        match part.phase {
            PartPhase::Open | PartPhase::Closed if part.amount == amount => {
                part.phase = phase(true);
                Some(())
            }
            PartPhase::Open | PartPhase::Closed | PartPhase::Captured { .. } => None,
        }
    }

    pub(super) fn close(&mut self, payment: PaymentId) -> Option<()> {
        let part = self.part_mut(payment)?;
        match part.phase {
            PartPhase::Open => {
                part.phase = PartPhase::Closed;
                Some(())
            }
            PartPhase::Closed | PartPhase::Captured { .. } => None,
        }
    }

    /// Moves money of a payment: `refunding` and `refunded` change by so much.
    pub(super) fn refund(
        &mut self,
        payment: PaymentId,
        refunding_change: i64,
        refunded_change: i64,
    ) -> Option<()> {
        let part = self.part_mut(payment)?;
        match part.phase {
            PartPhase::Open | PartPhase::Closed => None,
            PartPhase::Captured { at_gateway, refunding, refunded } => {
                let refunding = Amount::new(refunding.get() + refunding_change)?;
                let refunded = Amount::new(refunded.get() + refunded_change)?;
                if refunding.get() + refunded.get() > part.amount.get() {
                    return None;
                }
                part.phase = PartPhase::Captured { at_gateway, refunding, refunded };
                Some(())
            }
        }
    }

    fn part_mut(&mut self, payment: PaymentId) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.payment == payment)
    }
}

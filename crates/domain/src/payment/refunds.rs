//! What of a payment went back, and what is on its way back.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Amount, RefundId};

/// How a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundPhase {
    /// Asked for, no answer yet.
    Open,
    /// The money went back.
    Settled,
    /// The money did not go back.
    Failed,
}

/// The refunds of one payment. `refunded + refunding` never exceeds what was captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refunds {
    refunded: Amount,
    refunding: Amount,
    each: Arc<BTreeMap<RefundId, (Amount, RefundPhase)>>,
}

impl Refunds {
    /// What went back.
    pub fn refunded(&self) -> Amount {
        self.refunded
    }

    /// What is on its way back.
    pub fn refunding(&self) -> Amount {
        self.refunding
    }

    /// What is left of `captured`.
    pub fn left_of(&self, captured: Amount) -> Amount {
        captured.saturating_sub(self.refunded).saturating_sub(self.refunding)
    }

    /// One refund: how much, and how it stands.
    pub fn get(&self, refund: RefundId) -> Option<(Amount, RefundPhase)> {
        self.each.get(&refund).copied()
    }

    /// With a refund put into a phase, whether it was there or not. `None` if the sums would then
    /// exceed `captured`.
    pub(super) fn with(
        mut self,
        captured: Amount,
        refund: RefundId,
        amount: Amount,
        phase: RefundPhase,
    ) -> Option<Self> {
        let (mut refunded, mut refunding) = (self.refunded, self.refunding);
        match self.get(refund) {
            None | Some((_, RefundPhase::Failed)) => {}
            Some((before, RefundPhase::Open)) => refunding = refunding.checked_sub(before)?,
            Some((before, RefundPhase::Settled)) => refunded = refunded.checked_sub(before)?,
        }
        match phase {
            RefundPhase::Failed => {}
            RefundPhase::Open => refunding = refunding.checked_add(amount)?,
            RefundPhase::Settled => refunded = refunded.checked_add(amount)?,
        }
        if refunded.checked_add(refunding)? > captured {
            return None;
        }
        Arc::make_mut(&mut self.each).insert(refund, (amount, phase));
        Some(Self { refunded, refunding, each: self.each })
    }
}

//! Payments and refunds, as the bookkeeper notes them.

use super::{Book, MOST_PAYMENTS, Payment, Phase, Refund, Stand, WINDOW, Way, Who, Word};

impl Book {
    fn may_pay(&self, who: Who, order: usize, amount: i64, foreign: bool) -> bool {
        who.may_touch(self.orders[order].owner)
            && self.orders[order].lives()
            && !foreign
            && amount <= self.rest(order)
            && self.paid_in(order).count() < MOST_PAYMENTS
    }

    pub(crate) fn charge(&mut self, who: Who, order: usize, amount: i64, foreign: bool) -> bool {
        let fine = self.may_pay(who, order, amount, foreign);
        if fine {
            self.payments.push(Payment {
                order,
                amount,
                stand: Stand::Open,
                by_gateway: true,
                gateway_id: None,
                refunds: vec![],
            });
        }
        fine
    }

    pub(crate) fn record(&mut self, order: usize, amount: i64, foreign: bool) -> bool {
        let fine = self.may_pay(Who::Shop, order, amount, foreign);
        if fine {
            self.payments.push(Payment {
                order,
                amount,
                stand: Stand::Taken,
                by_gateway: false,
                gateway_id: None,
                refunds: vec![],
            });
            self.wait_anew(order);
        }
        fine
    }

    /// An order that waits for money waits anew, once nothing is under way.
    fn wait_anew(&mut self, order: usize) {
        let waits = self.orders[order].phase == Phase::Placed
            && self.orders[order].expires.is_some()
            && !self.is_paid(order)
            && !self.has_open(order);
        if waits {
            self.orders[order].expires = Some(self.now + WINDOW);
        }
    }

    pub(crate) fn gateway_id(&mut self, payment: usize, id: usize) {
        let payment = &mut self.payments[payment];
        match payment.gateway_id {
            _ if !payment.by_gateway => {}
            None => payment.gateway_id = Some(id),
            Some(known) if known != id && payment.stand == Stand::Open => {
                payment.stand = Stand::Doubtful;
            }
            Some(_) => {}
        }
    }

    /// The gateway is always believed, as far as it says what was asked of it.
    pub(crate) fn outcome(&mut self, index: usize, word: Word) {
        let payment = &mut self.payments[index];
        if payment.stand == Stand::Taken {
            return;
        }
        let sound = match word {
            Word::Taken { id, amount } => {
                payment.gateway_id.is_none_or(|known| known == id) && amount == payment.amount
            }
            Word::NotTaken => true,
            Word::Unclear => false,
        };
        match word {
            Word::Taken { id, .. } if sound => self.taken(index, id),
            Word::NotTaken => self.not_taken(index),
            _ if payment.waits() => payment.stand = Stand::Doubtful,
            _ => {}
        }
    }

    pub(crate) fn resolve(&mut self, index: usize, word: Word) -> bool {
        let payment = &self.payments[index];
        let fine = payment.stand == Stand::Doubtful
            && match word {
                Word::Taken { id, amount } => {
                    let mut others = (0..).zip(&self.payments).filter(|(other, _)| *other != index);
                    let same = |other: &Payment| {
                        other.order == payment.order && other.gateway_id == Some(id)
                    };
                    payment.gateway_id.is_none_or(|known| known == id)
                        && amount == payment.amount
                        && !others.any(|(_, other)| same(other))
                }
                Word::NotTaken => true,
                Word::Unclear => false,
            };
        if fine {
            self.outcome(index, word);
        }
        fine
    }

    fn taken(&mut self, index: usize, id: usize) {
        let payment = &mut self.payments[index];
        (payment.stand, payment.gateway_id) = (Stand::Taken, Some(id));
        let (order, amount) = (payment.order, payment.amount);
        self.wait_anew(order);
        // Late, or more than is due by now.
        let excess = self.excess(order).min(amount);
        if excess > 0 {
            let refund = Refund { amount: excess, way: Way::Going };
            self.payments[index].refunds.push(refund);
        }
    }

    fn not_taken(&mut self, index: usize) {
        if self.payments[index].waits() {
            self.payments[index].stand = Stand::Declined;
            self.wait_anew(self.payments[index].order);
        }
    }

    /// It is for a person. Where nothing is known to be taken, everything is in doubt.
    pub(crate) fn dispute(&mut self, payment: usize) {
        let payment = &mut self.payments[payment];
        if payment.stand == Stand::Open {
            payment.stand = Stand::Doubtful;
        }
    }

    pub(crate) fn goodwill(
        &mut self,
        index: usize,
        amount: i64,
        foreign: bool,
        elsewhere: bool,
    ) -> bool {
        let payment = &self.payments[index];
        let fine = !foreign && amount <= payment.left() && (elsewhere || payment.by_gateway);
        if fine {
            let order = payment.order;
            // What a failed refund left above due was credited before.
            let credit = (amount - self.excess(order)).max(0);
            self.orders[order].credited += credit;
            let way = if elsewhere { Way::Back } else { Way::Going };
            self.payments[index].refunds.push(Refund { amount, way });
        }
        fine
    }

    pub(crate) fn refund_outcome(&mut self, payment: usize, refund: usize, back: bool) {
        let left = self.payments[payment].left();
        let refund = &mut self.payments[payment].refunds[refund];
        match (refund.way, back) {
            (Way::Going, true) => refund.way = Way::Back,
            (Way::Going, false) => refund.way = Way::Failed,
            // Given up, and then it succeeded: unless the money is gone meanwhile.
            (Way::Failed, true) if refund.amount <= left => refund.way = Way::Back,
            (Way::Failed | Way::Back, _) => {}
        }
    }
}

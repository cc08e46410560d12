//! What must hold after every step, and at the end: the program's states, the book and the stored
//! events are three accounts of the same.

use std::collections::{BTreeMap, BTreeSet};

use daybook_commands::ShopState;
use daybook_domain::{
    Amount, PaymentId,
    order::{Details, PartPhase},
    payment,
};
use daybook_journal::{Encoded, Model, canonical};

use super::{Desk, PRODUCTS, code};
use crate::book::{Order, Phase, Stand, Way};

impl Desk {
    /// The program's states say what the book says.
    pub(crate) fn agree(&self) {
        for (index, product) in self.book.products.iter().enumerate() {
            let (on_hand, reserved) = (product.on_hand(), self.book.reserved(index));
            assert_eq!(
                self.levels(PRODUCTS[index].0),
                (on_hand, reserved),
                "{}",
                PRODUCTS[index].0
            );
            assert!(0 <= reserved && reserved <= on_hand, "{} is oversold", PRODUCTS[index].0);
        }
        for index in 0..self.orders.len() {
            self.agree_on_order(index);
        }
        for index in 0..self.payments.len() {
            self.agree_on_payment(index);
        }
    }

    fn levels(&self, sku: &str) -> (i64, i64) {
        match self.streams.get(&format!("stock-{sku}")).map(|state| &**state) {
            Some(ShopState::Stock(stock)) => (stock.levels().on_hand(), stock.levels().reserved()),
            _ => (0, 0),
        }
    }

    fn details(&self, order: usize) -> (&'static str, &Details) {
        match &*self.streams[&format!("order-{}", self.orders[order])] {
            ShopState::Order(order) => (order.phase(), order.details().unwrap()),
            other => panic!("{other:?} is no order"),
        }
    }

    fn agree_on_order(&self, index: usize) {
        let book = &self.book;
        let noted: &Order = &book.orders[index];
        let (phase, details) = self.details(index);
        assert_eq!(
            phase,
            match noted.phase {
                Phase::Placed => "placed",
                Phase::PartShipped => "part-shipped",
                Phase::Shipped => "shipped",
                Phase::Delivered => "delivered",
                Phase::Cancelled => "cancelled",
                Phase::Expired => "expired",
            }
        );
        assert_eq!(details.currency().code(), code(noted.euro));
        assert_eq!(details.expires_at(), noted.expires.map(Self::time));
        let progress = details
            .with_progress()
            .map(|(line, progress)| (line.quantity.get(), progress.shipped, progress.returned));
        let lines = noted.lines.iter().map(|line| (line.quantity, line.shipped, line.returned));
        assert_eq!(progress.collect::<Vec<_>>(), lines.collect::<Vec<_>>());

        let ledger = details.ledger();
        assert_eq!(
            [ledger.total(), ledger.credited(), ledger.due(), ledger.open()].map(Amount::get),
            [noted.total, noted.credited, noted.due(), book.open(index)]
        );
        let (captured, kept) = (book.captured(index), book.kept(index));
        assert_eq!((ledger.captured().get(), ledger.kept().get()), (captured, kept));
        assert!(noted.due() >= 0 && kept >= 0 && captured >= kept, "nothing is negative");
        // What is above due is on its way back, or failed to get there.
        let own = || book.payments.iter().filter(|payment| payment.order == index);
        let going: i64 = own().map(|payment| payment.sum(Way::Going)).sum();
        let failed: i64 = own().map(|payment| payment.sum(Way::Failed)).sum();
        assert!(captured <= noted.due() + going + failed, "more is captured than is due");
    }

    fn agree_on_payment(&self, index: usize) {
        let noted = &self.book.payments[index];
        let payment_id = self.payments[index];
        let ShopState::Payment(payment) = &*self.streams[&format!("payment-{payment_id}")] else {
            panic!("no payment");
        };
        let (stand, by_gateway, refunds) = match payment {
            payment::Payment::Unknown => panic!("a payment that never began"),
            payment::Payment::Open(_) => (Stand::Open, true, None),
            payment::Payment::Unresolved(_) => (Stand::Doubtful, true, None),
            payment::Payment::Declined(_) => (Stand::Declined, true, None),
            payment::Payment::Captured { refunds, .. } => (Stand::Taken, true, Some(refunds)),
            payment::Payment::Recorded { refunds, .. } => (Stand::Taken, false, Some(refunds)),
        };
        assert_eq!((stand, by_gateway), (noted.stand, noted.by_gateway));
        let (going, back) = (noted.sum(Way::Going), noted.sum(Way::Back));
        let own = refunds.map_or((0, 0), |r| (r.refunding().get(), r.refunded().get()));
        assert_eq!(own, (going, back));
        assert!(going + back <= noted.amount, "more goes back than came");
        let (_, details) = self.details(noted.order);
        let part = details.ledger().part(PaymentId(payment_id)).unwrap();
        assert_eq!(part.amount.get(), noted.amount);
        match part.phase {
            PartPhase::Open => assert!(noted.waits()),
            PartPhase::Closed => assert_eq!(noted.stand, Stand::Declined),
            PartPhase::Captured { refunding, refunded, .. } => {
                assert_eq!((refunding.get(), refunded.get()), own);
            }
        }
    }

    /// What the events by themselves say, as they are stored: a third account of the same.
    pub(crate) fn hold(&self) {
        let mut stock: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        let mut money: BTreeMap<&str, [i64; 4]> = BTreeMap::new();
        let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (stream, Encoded { kind, data, .. }) in &self.log {
            kinds.entry(stream).or_default().insert(kind);
            let units = data["quantity"].as_i64().unwrap_or(0);
            let (on_hand, reserved) = match *kind {
                "StockReceived" | "StockAdjusted" | "StockReturned" => (units, 0),
                "StockReserved" => (0, units),
                "StockReleased" => (0, -units),
                "StockShipped" => (-units, -units),
                _ => (0, 0),
            };
            if let Some(sku) = stream.strip_prefix("stock-") {
                let levels = stock.entry(sku).or_default();
                *levels = (levels.0 + on_hand, levels.1 + reserved);
            }
            let account = match *kind {
                "PaymentCaptured" | "PaymentRecorded" => 0,
                "PaymentRefunded" => 1,
                "OrderPaymentCaptured" => 2,
                "OrderRefundSettled" => 3,
                _ => continue,
            };
            let currency = data["currency"].as_str().unwrap();
            money.entry(currency).or_default()[account] += data["amount"].as_i64().unwrap();
        }
        for (sku, levels) in stock {
            assert_eq!(levels, self.levels(sku), "{sku}");
        }
        for (currency, [taken, refunded, captured, settled]) in money {
            assert_eq!((taken, refunded), (captured, settled), "{currency} is not conserved");
            let own = |index: &usize| code(self.book.orders[*index].euro) == currency;
            let kept = (0..self.orders.len()).filter(own).map(|order| self.book.captured(order));
            assert_eq!(kept.sum::<i64>(), taken - refunded, "{currency} is not conserved");
        }
        for (stream, kinds) in kinds {
            let ended = kinds.contains("OrderCancelled") || kinds.contains("OrderExpired");
            assert!(!(ended && kinds.contains("OrderShipped")), "{stream} was called off and sent");
            self.folds_in_any_split(stream);
        }
    }

    /// A state folded so far, kept, and folded on from what is stored is the state there is.
    fn folds_in_any_split(&self, stream: &str) {
        let own = self.log.iter().filter(|(own, _)| own == stream);
        let events: Vec<_> = own
            .map(|(_, Encoded { kind, schema_version, data })| {
                let stored = String::from_utf8(canonical::to_vec(data).unwrap()).unwrap();
                self.model.decode(kind, *schema_version, &stored).unwrap()
            })
            .collect();
        let mut states = vec![None];
        for event in &events {
            let before = states.last().cloned().flatten();
            states.push(Some(self.model.evolve(stream, before, event).unwrap()));
        }
        // One cut is enough a stream: which one, differs from stream to stream.
        let cut = events.len() / 2;
        let folded = events[cut..].iter().fold(states[cut].clone(), |state, event| {
            Some(self.model.evolve(stream, state, event).unwrap())
        });
        assert_eq!(folded.as_ref(), Some(&*self.streams[stream]), "{stream}");
        assert_eq!(states.last().unwrap().as_ref(), Some(&*self.streams[stream]), "{stream}");
    }
}

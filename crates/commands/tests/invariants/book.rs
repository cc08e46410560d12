//! The shop again, as a bookkeeper would note it down: plain numbers, no types of the program's, and
//! each rule said once more in its own words. It says of every request whether it must be accepted,
//! and what every number must be afterwards.

mod goods;
mod money;

/// Minutes that an unpaid order keeps its goods.
const WINDOW: i64 = 15;
/// Payments that an order may have.
const MOST_PAYMENTS: usize = 200;

/// Somebody who buys, or who runs the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Anna,
    Bert,
    Partner,
    Shop,
    Import,
}

impl Who {
    fn runs_the_shop(self) -> bool {
        matches!(self, Self::Shop | Self::Import)
    }

    fn may_touch(self, owner: Self) -> bool {
        self.runs_the_shop() || self == owner
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Shelf {
    #[default]
    Unknown,
    OnSale,
    Discontinued,
}

#[derive(Debug, Default)]
pub(crate) struct Product {
    pub(crate) price: i64,
    pub(crate) euro: bool,
    pub(crate) tracked: bool,
    shelf: Shelf,
    received: i64,
    adjusted: i64,
    shipped: i64,
    returned: i64,
}

impl Product {
    pub(crate) fn on_sale(&self) -> bool {
        self.shelf == Shelf::OnSale
    }

    pub(crate) fn on_hand(&self) -> i64 {
        self.received + self.adjusted + self.returned - self.shipped
    }
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) product: usize,
    pub(crate) quantity: i64,
    pub(crate) price: i64,
    pub(crate) shipped: i64,
    pub(crate) returned: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Placed,
    PartShipped,
    Shipped,
    Delivered,
    Cancelled,
    Expired,
}

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) owner: Who,
    pub(crate) euro: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) total: i64,
    pub(crate) credited: i64,
    pub(crate) phase: Phase,
    pub(crate) expires: Option<i64>,
}

impl Order {
    pub(crate) fn due(&self) -> i64 {
        self.total - self.credited
    }

    fn lives(&self) -> bool {
        !matches!(self.phase, Phase::Cancelled | Phase::Expired)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Open,
    Doubtful,
    Declined,
    Taken,
}

#[derive(Debug)]
pub(crate) struct Payment {
    pub(crate) order: usize,
    pub(crate) amount: i64,
    pub(crate) stand: Stand,
    pub(crate) by_gateway: bool,
    pub(crate) gateway_id: Option<usize>,
    pub(crate) refunds: Vec<Refund>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Going,
    Back,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Refund {
    pub(crate) amount: i64,
    pub(crate) way: Way,
}

impl Payment {
    pub(crate) fn sum(&self, way: Way) -> i64 {
        self.refunds.iter().filter(|refund| refund.way == way).map(|refund| refund.amount).sum()
    }

    fn left(&self) -> i64 {
        let taken = if self.stand == Stand::Taken { self.amount } else { 0 };
        taken - self.sum(Way::Going) - self.sum(Way::Back)
    }

    pub(crate) fn waits(&self) -> bool {
        matches!(self.stand, Stand::Open | Stand::Doubtful)
    }
}

/// What the gateway, or a person who looked there, says of a payment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    Taken { id: usize, amount: i64 },
    NotTaken,
    Unclear,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) products: [Product; 4],
    pub(crate) orders: Vec<Order>,
    pub(crate) payments: Vec<Payment>,
    /// Minutes.
    pub(crate) now: i64,
}

/// A line as it is asked for: product, units, a price of its own.
pub(crate) type Asked = (usize, i64, Option<i64>);

/// An order as it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Basket {
    pub(crate) who: Who,
    pub(crate) euro: bool,
    pub(crate) lines: Vec<Asked>,
    pub(crate) shipping: Option<i64>,
    pub(crate) tax: Option<i64>,
    pub(crate) expected_total: Option<i64>,
}

impl Book {
    fn paid_in(&self, order: usize) -> impl Iterator<Item = &Payment> {
        self.payments.iter().filter(move |payment| payment.order == order)
    }

    /// What came less what went back.
    pub(crate) fn captured(&self, order: usize) -> i64 {
        let taken = self.paid_in(order).filter(|payment| payment.stand == Stand::Taken);
        taken.map(|payment| payment.amount - payment.sum(Way::Back)).sum()
    }

    /// What came less what went back or is going there.
    pub(crate) fn kept(&self, order: usize) -> i64 {
        self.paid_in(order).map(Payment::left).sum()
    }

    pub(crate) fn open(&self, order: usize) -> i64 {
        self.paid_in(order).filter(|payment| payment.waits()).map(|payment| payment.amount).sum()
    }

    fn has_open(&self, order: usize) -> bool {
        self.paid_in(order).any(Payment::waits)
    }

    fn excess(&self, order: usize) -> i64 {
        (self.kept(order) - self.orders[order].due()).max(0)
    }

    fn is_paid(&self, order: usize) -> bool {
        self.kept(order) >= self.orders[order].due()
    }

    /// What can still be asked for.
    pub(crate) fn rest(&self, order: usize) -> i64 {
        self.orders[order].due() - self.captured(order) - self.open(order)
    }

    pub(crate) fn reserved(&self, product: usize) -> i64 {
        if !self.products[product].tracked {
            return 0;
        }
        let lines = self.orders.iter().filter(|order| order.lives()).flat_map(|order| &order.lines);
        let own = lines.filter(|line| line.product == product);
        own.map(|line| line.quantity - line.shipped).sum()
    }
}

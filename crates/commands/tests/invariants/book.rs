//! The shop again, as a bookkeeper would note it down: plain numbers, no types of the program's, and
//! each rule said once more in its own words. It says of every request whether it must be accepted,
//! and what every number must be afterwards.

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

    // Products.

    pub(crate) fn add(&mut self, product: usize, price: i64, euro: bool, tracked: bool) -> bool {
        let new = self.products[product].shelf == Shelf::Unknown;
        if new {
            let shelf = Shelf::OnSale;
            self.products[product] = Product { price, euro, tracked, shelf, ..Product::default() };
        }
        new
    }

    pub(crate) fn change_price(&mut self, product: usize, price: i64, euro: bool) -> bool {
        let product = &mut self.products[product];
        let fine = product.on_sale() && product.euro == euro;
        if fine {
            product.price = price;
        }
        fine
    }

    pub(crate) fn discontinue(&mut self, product: usize) -> bool {
        let product = &mut self.products[product];
        let fine = product.on_sale();
        if fine {
            product.shelf = Shelf::Discontinued;
        }
        fine
    }

    pub(crate) fn receive(&mut self, product: usize, units: i64) -> bool {
        let product = &mut self.products[product];
        if product.tracked {
            product.received += units;
        }
        product.tracked
    }

    pub(crate) fn adjust(&mut self, product: usize, units: i64) -> bool {
        let free = self.products[product].on_hand() - self.reserved(product);
        let fine = self.products[product].tracked && free + units >= 0;
        if fine {
            self.products[product].adjusted += units;
        }
        fine
    }

    // Orders.

    pub(crate) fn total_of(&self, basket: &Basket) -> i64 {
        let price = |(product, units, price): &Asked| {
            price.unwrap_or(self.products[*product].price) * units
        };
        basket.lines.iter().map(price).sum::<i64>()
            + basket.shipping.unwrap_or(0)
            + basket.tax.unwrap_or(0)
    }

    pub(crate) fn place(&mut self, basket: &Basket) -> bool {
        let names_money = basket.shipping.is_some()
            || basket.tax.is_some()
            || basket.lines.iter().any(|(_, _, price)| price.is_some());
        if names_money && !basket.who.runs_the_shop() {
            return false;
        }
        let total = self.total_of(basket);
        if basket.expected_total.is_some_and(|expected| expected != total) {
            return false;
        }
        for (index, product) in self.products.iter().enumerate() {
            let own = || basket.lines.iter().filter(|(product, ..)| *product == index);
            if own().any(|(_, _, price)| {
                !product.on_sale() || price.is_none() && product.euro != basket.euro
            }) {
                return false;
            }
            let wanted: i64 = own().map(|(_, units, _)| units).sum();
            if product.tracked && wanted > product.on_hand() - self.reserved(index) {
                return false;
            }
        }
        let lines = basket.lines.iter().map(|(product, quantity, price)| Line {
            product: *product,
            quantity: *quantity,
            price: price.unwrap_or(self.products[*product].price),
            shipped: 0,
            returned: 0,
        });
        let waits = basket.who != Who::Import && total > 0;
        let order = Order {
            owner: basket.who,
            euro: basket.euro,
            lines: lines.collect(),
            total,
            credited: 0,
            phase: Phase::Placed,
            expires: waits.then_some(self.now + WINDOW),
        };
        self.orders.push(order);
        true
    }

    /// `lines`: number from 1 and units; all that is left where none are named.
    pub(crate) fn ship(
        &mut self,
        order: usize,
        lines: Option<&[(usize, i64)]>,
        on_account: bool,
    ) -> bool {
        if !matches!(self.orders[order].phase, Phase::Placed | Phase::PartShipped)
            || !(on_account || self.is_paid(order))
        {
            return false;
        }
        let own = &self.orders[order].lines;
        let rest = own.iter().zip(1..).map(|(line, number)| (number, line.quantity - line.shipped));
        let going: Vec<(usize, i64)> = lines.map_or_else(|| rest.collect(), <[_]>::to_vec);
        if repeats(going.iter().map(|(number, _)| *number)) {
            return false;
        }
        for (number, units) in &going {
            let line = number.checked_sub(1).and_then(|index| own.get(index));
            if line.is_none_or(|line| line.shipped + units > line.quantity) {
                return false;
            }
        }
        for (number, units) in going {
            let line = &mut self.orders[order].lines[number - 1];
            line.shipped += units;
            let product = &mut self.products[line.product];
            if product.tracked {
                product.shipped += units;
            }
        }
        let order = &mut self.orders[order];
        let all = order.lines.iter().all(|line| line.shipped == line.quantity);
        order.phase = if all { Phase::Shipped } else { Phase::PartShipped };
        true
    }

    pub(crate) fn deliver(&mut self, order: usize) -> bool {
        let order = &mut self.orders[order];
        let fine = order.phase == Phase::Shipped;
        if fine {
            order.phase = Phase::Delivered;
        }
        fine
    }

    pub(crate) fn take_back(
        &mut self,
        order: usize,
        lines: &[(usize, i64, Option<i64>)],
        elsewhere: bool,
    ) -> bool {
        if !self.orders[order].lives() || repeats(lines.iter().map(|(number, ..)| *number)) {
            return false;
        }
        let due = self.orders[order].due();
        let mut credits = 0;
        for (number, units, credit) in lines {
            let line = number.checked_sub(1).and_then(|index| self.orders[order].lines.get(index));
            let Some(line) = line.filter(|line| line.returned + units <= line.shipped) else {
                return false;
            };
            let credit = credit.unwrap_or((line.price * units).min(due - credits));
            credits += credit;
            if credits > due {
                return false;
            }
        }
        let excess = (self.kept(order) - (due - credits)).max(0);
        let can_go = self.paid_in(order).filter(|payment| elsewhere || payment.by_gateway);
        if can_go.map(Payment::left).sum::<i64>() < excess {
            return false;
        }
        self.orders[order].credited += credits;
        for (number, units, _) in lines {
            let line = &mut self.orders[order].lines[number - 1];
            line.returned += units;
            let product = &mut self.products[line.product];
            if product.tracked {
                product.returned += units;
            }
        }
        self.give_back(order, excess, |payment| {
            if elsewhere { Some(Way::Back) } else { payment.by_gateway.then_some(Way::Going) }
        });
        true
    }

    pub(crate) fn cancel(&mut self, who: Who, order: usize) -> bool {
        let fine = who.may_touch(self.orders[order].owner)
            && self.orders[order].phase == Phase::Placed
            && !self.has_open(order);
        if fine {
            self.end(order, Phase::Cancelled);
        }
        fine
    }

    pub(crate) fn expire(&mut self, order: usize, deadline: i64) -> bool {
        let fine = self.orders[order].phase == Phase::Placed
            && self.orders[order].expires == Some(deadline)
            && !self.has_open(order)
            && !self.is_paid(order);
        if fine {
            self.end(order, Phase::Expired);
        }
        fine
    }

    fn end(&mut self, order: usize, phase: Phase) {
        self.orders[order].phase = phase;
        self.orders[order].credited = self.orders[order].total;
        // What came another way somebody has to give back by hand.
        let all = self.kept(order);
        self.give_back(order, all, |payment| {
            Some(if payment.by_gateway { Way::Going } else { Way::Failed })
        });
    }

    /// From the oldest payment on.
    fn give_back(&mut self, order: usize, sum: i64, way: impl Fn(&Payment) -> Option<Way>) {
        let mut rest = sum;
        for payment in self.payments.iter_mut().filter(|payment| payment.order == order) {
            let Some(way) = way(payment) else { continue };
            let amount = payment.left().min(rest);
            if amount > 0 {
                payment.refunds.push(Refund { amount, way });
                rest -= amount;
            }
        }
    }

    // Payments.

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

fn repeats(numbers: impl Iterator<Item = usize>) -> bool {
    let mut numbers: Vec<usize> = numbers.collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len() < count
}

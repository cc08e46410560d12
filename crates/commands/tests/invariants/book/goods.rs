//! Products, stock and the goods of orders, as the bookkeeper notes them.

use super::{
    Asked, Basket, Book, Line, Order, Payment, Phase, Product, Refund, Shelf, WINDOW, Way, Who,
};

impl Book {
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
}

fn repeats(numbers: impl Iterator<Item = usize>) -> bool {
    let mut numbers: Vec<usize> = numbers.collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len() < count
}

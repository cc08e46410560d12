//! Which orders the goods of a return come from, and what is credited.
//!
//! A return does not name the invoice it cancels. It is accepted whole if that customer has
//! bought that code at least that many units more than already returned; it is taken from that
//! customer's purchases of that code, oldest first; and each order credits quantity × the
//! return's price, but never more than is left captured of that order.

use std::collections::{HashMap, VecDeque};

use super::plan::Order;

/// Units of one line of an order that come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReturnLine {
    /// Number of the order's line, from 1.
    pub(crate) line: u32,
    /// Units.
    pub(crate) quantity: i64,
    /// Pence given back for them.
    pub(crate) credit: i64,
}

/// What one row of a return takes from one order: one ReturnItems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index of the order.
    pub(crate) order: usize,
    /// Its product.
    pub(crate) code: u32,
    /// Lines touched, ascending.
    pub(crate) lines: Vec<ReturnLine>,
    /// Pence that the return asked for.
    pub(crate) asked: i64,
}

impl Piece {
    /// Pence credited over all lines.
    pub(crate) fn credit(&self) -> i64 {
        self.lines.iter().map(|line| line.credit).sum()
    }

    /// Units over all lines.
    pub(crate) fn quantity(&self) -> i64 {
        self.lines.iter().map(|line| line.quantity).sum()
    }
}

/// What customers have bought and not yet returned, as of the row that is being planned.
#[derive(Debug, Default)]
pub(crate) struct Purchases {
    by_customer_and_code: HashMap<(u32, u32), Bought>,
    left_captured: HashMap<usize, i64>,
}

#[derive(Debug, Default)]
struct Bought {
    units: i64,
    lines: VecDeque<BoughtLine>,
}

#[derive(Debug)]
struct BoughtLine {
    order: usize,
    line: u32,
    left: i64,
}

impl Purchases {
    /// Notes an order that was placed and paid; a guest's can't be returned.
    pub(crate) fn add(&mut self, index: usize, order: &Order) {
        let Some(customer) = order.customer else { return };
        self.left_captured.insert(index, order.total);
        for (line, number) in order.lines.iter().zip(1..) {
            let bought = self.by_customer_and_code.entry((customer, line.code)).or_default();
            bought.units += line.quantity;
            bought.lines.push_back(BoughtLine { order: index, line: number, left: line.quantity });
        }
    }

    /// Takes `quantity` units back at `price` pence, or says how many could be: then nothing
    /// is taken.
    pub(crate) fn take(
        &mut self,
        customer: u32,
        code: u32,
        quantity: i64,
        price: i64,
    ) -> Result<Vec<Piece>, i64> {
        let Some(bought) = self.by_customer_and_code.get_mut(&(customer, code)) else {
            return Err(0);
        };
        if bought.units < quantity {
            return Err(bought.units);
        }
        bought.units -= quantity;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut wanted = quantity;
        while wanted > 0 {
            let oldest =
                bought.lines.front_mut().expect("units is the sum of what lines have left");
            let units = wanted.min(oldest.left);
            let left_captured = self.left_captured.entry(oldest.order).or_default();
            let asked = units * price;
            let credit = asked.min(*left_captured);
            *left_captured -= credit;
            let line = ReturnLine { line: oldest.line, quantity: units, credit };
            match pieces.last_mut() {
                Some(piece) if piece.order == oldest.order => {
                    piece.lines.push(line);
                    piece.asked += asked;
                }
                _ => pieces.push(Piece { order: oldest.order, code, lines: vec![line], asked }),
            }
            wanted -= units;
            oldest.left -= units;
            if oldest.left == 0 {
                bought.lines.pop_front();
            }
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::plan::OrderLine;

    fn order(customer: u32, lines: &[(u32, i64, i64)]) -> Order {
        let lines: Vec<OrderLine> = lines
            .iter()
            .map(|&(code, quantity, price)| OrderLine { code, quantity, price })
            .collect();
        let total = lines.iter().map(|line| line.quantity * line.price).sum();
        Order { invoice: 0, customer: Some(customer), country: 0, first_row: 1, lines, total }
    }

    fn line(line: u32, quantity: i64, credit: i64) -> ReturnLine {
        ReturnLine { line, quantity, credit }
    }

    #[test]
    fn oldest_first_over_lines_and_orders() {
        let mut purchases = Purchases::default();
        purchases.add(0, &order(1, &[(7, 2, 100), (8, 1, 100), (7, 3, 100)]));
        purchases.add(1, &order(1, &[(7, 5, 90)]));
        let pieces = purchases.take(1, 7, 6, 80).unwrap();
        assert_eq!(pieces.len(), 2);
        assert_eq!(
            (pieces[0].order, &pieces[0].lines[..]),
            (0, &[line(1, 2, 160), line(3, 3, 240)][..])
        );
        assert_eq!((pieces[1].order, &pieces[1].lines[..]), (1, &[line(1, 1, 80)][..]));
        assert_eq!(purchases.take(1, 7, 5, 80), Err(4), "accepted whole or not at all");
        assert_eq!(purchases.take(1, 7, 4, 80).unwrap()[0].lines, [line(1, 4, 320)]);
        assert_eq!(purchases.take(1, 7, 1, 80), Err(0));
    }

    #[test]
    fn nobody_elses_goods_and_no_other_code() {
        let mut purchases = Purchases::default();
        purchases.add(0, &order(1, &[(7, 2, 100)]));
        assert_eq!(purchases.take(2, 7, 1, 100), Err(0));
        assert_eq!(purchases.take(1, 8, 1, 100), Err(0));
    }

    #[test]
    fn never_more_than_is_left_captured_of_the_order() {
        let mut purchases = Purchases::default();
        purchases.add(0, &order(1, &[(7, 2, 100), (8, 1, 50)]));
        let piece = &purchases.take(1, 7, 1, 220).unwrap()[0];
        assert_eq!((piece.credit(), piece.asked), (220, 220), "250 were captured");
        let piece = &purchases.take(1, 8, 1, 50).unwrap()[0];
        assert_eq!((piece.credit(), piece.asked), (30, 50));
        let piece = &purchases.take(1, 7, 1, 100).unwrap()[0];
        assert_eq!((piece.credit(), piece.quantity()), (0, 1), "the goods come back all the same");
    }
}

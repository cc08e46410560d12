//! Opening stock, and which commands must not overtake each other.

use std::collections::VecDeque;

use super::plan::{Action, Plan};

impl Plan {
    /// Calls `each` with (code, signed units) for what step `index` does to tracked stock.
    pub(crate) fn stock_moves(&self, index: usize, mut each: impl FnMut(u32, i64)) {
        match &self.steps[index].action {
            Action::AddProduct { .. } | Action::RecordPayment { .. } | Action::ShipOrder { .. } => {
            }
            Action::ReceiveStock { code, quantity } => each(*code, *quantity),
            Action::AdjustStock { adjustment } => {
                let adjustment = &self.adjustments[*adjustment];
                each(adjustment.code, adjustment.quantity);
            }
            Action::PlaceOrder { order } => {
                for line in &self.orders[*order].lines {
                    if self.products[line.code as usize].tracked {
                        each(line.code, -line.quantity);
                    }
                }
            }
            Action::ReturnItems { piece } => {
                let piece = &self.pieces[*piece];
                if self.products[piece.code as usize].tracked {
                    each(piece.code, piece.quantity());
                }
            }
        }
    }

    /// Sets each ReceiveStock to the smallest amount with which nothing goes below zero when
    /// the steps are carried out in order, and drops those that need none.
    pub(crate) fn set_opening_stock(&mut self) {
        let mut level = vec![0_i64; self.products.len()];
        let mut lowest = level.clone();
        for index in 0..self.steps.len() {
            self.stock_moves(index, |code, units| {
                let level = &mut level[code as usize];
                *level += units;
                lowest[code as usize] = lowest[code as usize].min(*level);
            });
        }
        self.steps.retain_mut(|step| match &mut step.action {
            Action::ReceiveStock { code, quantity } => {
                *quantity = -lowest[*code as usize];
                *quantity > 0
            }
            Action::AddProduct { .. }
            | Action::AdjustStock { .. }
            | Action::PlaceOrder { .. }
            | Action::RecordPayment { .. }
            | Action::ShipOrder { .. }
            | Action::ReturnItems { .. } => true,
        });
        for (code, product) in self.products.iter_mut().enumerate() {
            product.opening = -lowest[code];
            product.closing = level[code] - lowest[code];
        }
    }

    /// Sets each step's `after`.
    ///
    /// Many commands are under way at once, and one of them can fail (the database restarts)
    /// while later ones succeed; it is then sent again, late. With the smallest opening stock
    /// that could end in a dead end: A takes the last ten and fails, its goods' return is
    /// refused for want of A, and D takes the ten that the return would have brought back: now
    /// A can't be had any more. So a step D that can't live on what came in before I, but only
    /// with what I brings, is not sent before the last step A that takes stock ahead of I is in
    /// the journal.
    ///
    /// Then A, sent again, finds its stock: everything before A has been decided by then, and
    /// whatever D was accepted meanwhile does not live on anything that came in after A. So all
    /// that came in before A is at least all that is taken up to D, A's own units included.
    pub(crate) fn set_after(&mut self) {
        let mut lives: Vec<Life> = self.products.iter().map(|_| Life::default()).collect();
        for index in 0..self.steps.len() {
            let mut after = None;
            self.stock_moves(index, |code, units| {
                let life = &mut lives[code as usize];
                if units > 0 {
                    life.add(units);
                } else {
                    after = after.max(life.take(index, -units));
                }
            });
            self.steps[index].after = after;
        }
    }
}

/// What came into a stock and went out of it, as far as [`Plan::set_after`] has got.
#[derive(Debug, Default)]
struct Life {
    /// Units taken.
    taken: i64,
    /// Units that came in, as far as those taken need them.
    needed: i64,
    /// What came in beyond that, with the last step before it that takes.
    unneeded: VecDeque<(i64, Option<usize>)>,
    last_taken: Option<usize>,
    after: Option<usize>,
}

impl Life {
    fn add(&mut self, units: i64) {
        self.unneeded.push_back((units, self.last_taken));
    }

    /// Takes units; returns the step that must be in the journal before.
    fn take(&mut self, index: usize, units: i64) -> Option<usize> {
        self.taken += units;
        while self.needed < self.taken {
            let Some((units, last_taken)) = self.unneeded.pop_front() else {
                break; // Not in a plan: nothing goes below zero.
            };
            self.needed += units;
            self.after = last_taken;
        }
        self.last_taken = Some(index);
        self.after
    }
}

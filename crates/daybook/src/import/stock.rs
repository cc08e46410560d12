//! Opening stock, and which commands must not overtake each other.

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
    /// A can't be had any more. So D, which takes stock of a code, is not sent before A is in
    /// the journal, if A takes stock of that code and something between them adds to it.
    /// Then, when A is sent again (everything before it has been), stock of the code is what it
    /// was before A, less what was taken since by steps up to some k with nothing added
    /// between, plus what was added later: at least (level after k in order) + A's units.
    pub(crate) fn set_after(&mut self) {
        let mut last_taken: Vec<Option<usize>> = vec![None; self.products.len()];
        let mut taken_before_added: Vec<Option<usize>> = vec![None; self.products.len()];
        for index in 0..self.steps.len() {
            let mut after = None;
            let mut taken = Vec::new();
            self.stock_moves(index, |code, units| {
                if units > 0 {
                    taken_before_added[code as usize] = last_taken[code as usize];
                } else {
                    after = after.max(taken_before_added[code as usize]);
                    taken.push(code);
                }
            });
            for code in taken {
                last_taken[code as usize] = Some(index);
            }
            self.steps[index].after = after;
        }
    }
}

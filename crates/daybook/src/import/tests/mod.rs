//! Tests of the importer as a whole: what it plans, and that it gets there.

mod comparison;
mod planning;
mod sending;
mod whole_file;

use super::{
    plan::{Action, Plan},
    source::Contents,
};

/// The plan of a file with these rows.
fn plan_of(rows: &[&str]) -> Plan {
    let mut text = super::row::HEADER.join(",");
    for row in rows {
        text.push('\n');
        text.push_str(row);
    }
    Plan::new(Contents::read_from(text.as_bytes()).unwrap())
}

impl Plan {
    /// A step in words.
    fn describe(&self, index: usize) -> String {
        let step = &self.steps[index];
        let code = |code: u32| self.names.codes.text(code);
        let invoice = |order: usize| self.names.invoices.text(self.orders[order].invoice);
        let what = match &step.action {
            Action::AddProduct { code: number } => {
                let product = &self.products[*number as usize];
                let tracked = if product.tracked { "" } else { " untracked" };
                format!("{} {:?} {}{tracked}", code(*number), product.name, product.price)
            }
            Action::ReceiveStock { code: number, quantity } => {
                format!("{} {quantity}", code(*number))
            }
            Action::AdjustStock { adjustment } => {
                let adjustment = &self.adjustments[*adjustment];
                format!("{} {}", code(adjustment.code), adjustment.quantity)
            }
            Action::PlaceOrder { order } => {
                let lines: Vec<String> = self.orders[*order]
                    .lines
                    .iter()
                    .map(|line| format!("{}×{}@{}", line.quantity, code(line.code), line.price))
                    .collect();
                format!("{} {}", invoice(*order), lines.join(" "))
            }
            Action::RecordPayment { order } => {
                format!("{} {}", invoice(*order), self.orders[*order].total)
            }
            Action::ShipOrder { order } => invoice(*order).to_owned(),
            Action::ReturnItems { piece } => {
                let piece = &self.pieces[*piece];
                let lines: Vec<String> = piece
                    .lines
                    .iter()
                    .map(|line| format!("{}×#{}={}", line.quantity, line.line, line.credit))
                    .collect();
                format!("{} {}", invoice(piece.order), lines.join(" "))
            }
        };
        format!("{}:{}:{} {what}", step.key_row, step.action.name(), step.n)
    }

    /// All steps in words.
    fn described(&self) -> Vec<String> {
        (0..self.steps.len()).map(|index| self.describe(index)).collect()
    }

    /// Checks what must be true of any plan.
    fn check(&self) {
        assert_eq!(
            self.kinds.sum() + self.bad.len() as u64,
            u64::from(self.row_count),
            "every row is of one kind"
        );
        let mut keys = std::collections::HashSet::new();
        let mut level = vec![0_i64; self.products.len()];
        let mut lowest_after_opening = vec![i64::MAX; self.products.len()];
        for (index, step) in self.steps.iter().enumerate() {
            assert!(keys.insert((step.key_row, step.action.name(), step.n)), "a key of its own");
            assert!(step.after.is_none_or(|after| after < index));
            self.stock_moves(index, |code, units| {
                level[code as usize] += units;
                assert!(level[code as usize] >= 0, "step {index} oversells");
                let lowest = &mut lowest_after_opening[code as usize];
                *lowest = (*lowest).min(level[code as usize]);
            });
        }
        for (code, product) in self.products.iter().enumerate() {
            assert_eq!(level[code], product.closing);
            if product.opening > 0 {
                assert_eq!(lowest_after_opening[code], 0, "no smaller opening would do");
            }
        }
    }
}

//! Makes the plan of a file: every row becomes commands, or part of one, or is left out with a
//! reason, before the first command is sent.

use std::collections::HashMap;

use super::{
    plan::{
        Action, Adjustment, Difference, Kinds, Order, OrderLine, Plan, Product, Reason, Rounded,
        Skipped, Step,
    },
    returns::Purchases,
    row::{BadRow, Dictionary, Row, Series},
    source::Contents,
};

/// Most lines of an order (the default limit of PlaceOrder).
const MAX_LINES: usize = 2_000;
/// Greatest total of an order, pence: 2^53 − 1, the greatest integer of an event.
const MAX_TOTAL: i64 = (1 << 53) - 1;

/// Codes of services, for which no stock is kept; codes that begin with `gift_` too.
const SERVICES: [&str; 11] =
    ["POST", "DOT", "C2", "M", "m", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK"];

/// Whether stock is kept for a code.
fn is_tracked(code: &str) -> bool {
    !SERVICES.contains(&code) && !code.starts_with("gift_")
}

/// A sale or a free item; what is left of its series are stock adjustments.
fn is_order_line(row: &Row) -> bool {
    row.series == Series::Plain && (!row.price.is_zero() || row.customer.is_some())
}

impl Plan {
    /// Works out the plan of a file.
    pub(crate) fn new(contents: Contents) -> Self {
        let Contents { sha256, row_count, rows, bad, names } = contents;
        let mut planner = Planner::new(Plan {
            products: products(&rows, &names),
            orders: Vec::new(),
            adjustments: Vec::new(),
            pieces: Vec::new(),
            steps: Vec::new(),
            kinds: Kinds::default(),
            skipped: Vec::new(),
            differences: Vec::new(),
            rounded: Vec::new(),
            sha256,
            row_count,
            names,
            bad,
        });
        planner.gather_orders(&rows);
        for row in &rows {
            planner.row(row);
        }
        let mut plan = planner.plan;
        plan.bad.sort_by_key(|bad| bad.row);
        plan.set_opening_stock();
        plan.set_after();
        plan
    }
}

/// Codes are numbered in the order of their first rows.
fn products(rows: &[Row], names: &Dictionary) -> Vec<Product> {
    let mut products: Vec<Product> = Vec::with_capacity(names.codes.len());
    let mut has_name = vec![false; names.codes.len()];
    for row in rows {
        let code = row.code as usize;
        if code == products.len() {
            let text = names.codes.text(row.code);
            products.push(Product {
                name: text.to_owned(),
                price: 0,
                tracked: is_tracked(text),
                first_row: row.number,
                opening: 0,
                closing: 0,
            });
        }
        if let (false, Some(description)) = (has_name[code], row.description) {
            has_name[code] = true;
            names.descriptions.text(description).clone_into(&mut products[code].name);
            products[code].price = row.price.pence().max(0);
        }
    }
    products
}

/// What becomes of the lines of an invoice.
#[derive(Debug, Clone, Copy)]
enum Invoice {
    Ordered { order: usize },
    Refused(Reason),
}

/// The plan being made, row by row.
struct Planner {
    plan: Plan,
    invoices: HashMap<u32, Invoice>,
    /// Orders not yet placed; moved to the plan's when their first row is reached.
    purchases: Purchases,
    added: Vec<bool>,
    misfits: HashMap<u32, &'static str>,
}

impl Planner {
    fn new(plan: Plan) -> Self {
        let added = vec![false; plan.products.len()];
        Self {
            plan,
            invoices: HashMap::new(),
            purchases: Purchases::default(),
            added,
            misfits: HashMap::new(),
        }
    }

    /// Finds the order of each invoice: its rows need not stand together.
    fn gather_orders(&mut self, rows: &[Row]) {
        let mut drafts: HashMap<u32, usize> = HashMap::new();
        let mut orders: Vec<Order> = Vec::new();
        for row in rows.iter().filter(|row| is_order_line(row)) {
            let index = *drafts.entry(row.invoice).or_insert_with(|| {
                orders.push(Order {
                    invoice: row.invoice,
                    customer: row.customer,
                    country: row.country,
                    first_row: row.number,
                    lines: Vec::new(),
                    total: 0,
                });
                orders.len() - 1
            });
            let order = &mut orders[index];
            if row.customer != order.customer {
                self.misfits
                    .insert(row.number, "CustomerID is not that of the invoice's first row");
            } else if row.country != order.country {
                self.misfits.insert(row.number, "Country is not that of the invoice's first row");
            } else {
                let (quantity, price) = (row.quantity, row.price.pence());
                order.total = order.total.saturating_add(quantity.saturating_mul(price));
                order.lines.push(OrderLine { code: row.code, quantity, price });
            }
        }
        for order in orders {
            let invoice = order.invoice;
            let outcome = if order.lines.len() > MAX_LINES {
                Invoice::Refused(Reason::TooManyLines)
            } else if order.total > MAX_TOTAL {
                Invoice::Refused(Reason::TotalTooGreat)
            } else {
                self.plan.orders.push(order);
                Invoice::Ordered { order: self.plan.orders.len() - 1 }
            };
            self.invoices.insert(invoice, outcome);
        }
    }

    fn row(&mut self, row: &Row) {
        if let Some(reason) = self.misfits.get(&row.number) {
            self.plan.bad.push(BadRow { row: row.number, reason: (*reason).to_owned() });
            return;
        }
        if !row.price.is_whole_pence() {
            self.plan.rounded.push(Rounded {
                row: row.number,
                invoice: row.invoice,
                code: row.code,
                quantity: row.quantity,
                price: row.price,
            });
        }
        match row.series {
            Series::Plain if is_order_line(row) => {
                if row.price.is_zero() {
                    self.plan.kinds.free_item += 1;
                } else {
                    self.plan.kinds.sale += 1;
                }
                self.order_line(row);
            }
            Series::Plain => {
                self.plan.kinds.adjustment += 1;
                self.product(row.code, row);
                self.adjustment(row);
            }
            Series::Credit => {
                self.plan.kinds.returned += 1;
                self.product(row.code, row);
                self.returned(row);
            }
            Series::BadDebt => {
                self.plan.kinds.bad_debt += 1;
                self.product(row.code, row);
                self.skip(row, Reason::BadDebt, None);
            }
        }
    }

    fn order_line(&mut self, row: &Row) {
        let order = match self.invoices[&row.invoice] {
            Invoice::Refused(reason) => {
                self.product(row.code, row);
                self.skip(row, reason, None);
                return;
            }
            Invoice::Ordered { order } => order,
        };
        if self.plan.orders[order].first_row != row.number {
            return; // Placed already, with this line and its product.
        }
        for line in 0..self.plan.orders[order].lines.len() {
            self.product(self.plan.orders[order].lines[line].code, row);
        }
        self.step(Action::PlaceOrder { order }, row, row.number, 0);
        if self.plan.orders[order].total > 0 {
            self.step(Action::RecordPayment { order }, row, row.number, 0);
        }
        self.step(Action::ShipOrder { order }, row, row.number, 0);
        self.purchases.add(order, &self.plan.orders[order]);
    }

    fn adjustment(&mut self, row: &Row) {
        if !self.plan.products[row.code as usize].tracked {
            self.skip(row, Reason::AdjustmentOfService, None);
            return;
        }
        self.plan.adjustments.push(Adjustment {
            code: row.code,
            quantity: row.quantity,
            description: row.description,
        });
        let adjustment = self.plan.adjustments.len() - 1;
        self.step(Action::AdjustStock { adjustment }, row, row.number, 0);
    }

    fn returned(&mut self, row: &Row) {
        let Some(customer) = row.customer else {
            self.skip(row, Reason::ReturnByGuest, None);
            return;
        };
        match self.purchases.take(customer, row.code, -row.quantity, row.price.pence()) {
            Err(returnable) => self.skip(row, Reason::ReturnNotBought, Some(returnable)),
            Ok(pieces) => {
                for (piece, n) in pieces.into_iter().zip(0..) {
                    if piece.credit() != piece.asked {
                        self.plan.differences.push(Difference {
                            row: row.number,
                            invoice: row.invoice,
                            order: piece.order,
                            asked: piece.asked,
                            credited: piece.credit(),
                        });
                    }
                    self.plan.pieces.push(piece);
                    let piece = self.plan.pieces.len() - 1;
                    self.step(Action::ReturnItems { piece }, row, row.number, n);
                }
            }
        }
    }

    /// Adds the product at first sight, and its opening stock, whose amount comes last.
    fn product(&mut self, code: u32, at: &Row) {
        if std::mem::replace(&mut self.added[code as usize], true) {
            return;
        }
        let first_row = self.plan.products[code as usize].first_row;
        self.step(Action::AddProduct { code }, at, first_row, 0);
        if self.plan.products[code as usize].tracked {
            self.step(Action::ReceiveStock { code, quantity: 0 }, at, first_row, 0);
        }
    }

    fn step(&mut self, action: Action, at: &Row, key_row: u32, n: u32) {
        self.plan.steps.push(Step {
            action,
            key_row,
            n,
            row: at.number,
            at: at.at,
            invoice: at.invoice,
            after: None,
        });
    }

    fn skip(&mut self, row: &Row, reason: Reason, returnable: Option<i64>) {
        self.plan.skipped.push(Skipped {
            row: row.number,
            invoice: row.invoice,
            code: row.code,
            quantity: row.quantity,
            price: row.price,
            reason,
            returnable,
        });
    }
}

//! What an import will do, worked out from the whole file before the first command is sent.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{
    returns::{Piece, Purchases},
    row::{BadRow, Dictionary, Price, Row, Series},
    source::Contents,
};

/// Most lines of an order (the default limit of PlaceOrder).
pub(crate) const MAX_LINES: usize = 2_000;
/// Greatest total of an order, pence: 2^53 − 1, the greatest integer of an event.
const MAX_TOTAL: i64 = (1 << 53) - 1;

/// Codes of services, for which no stock is kept; codes that begin with `gift_` too.
const SERVICES: [&str; 11] =
    ["POST", "DOT", "C2", "M", "m", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK"];

/// Whether stock is kept for a code.
pub(crate) fn is_tracked(code: &str) -> bool {
    !SERVICES.contains(&code) && !code.starts_with("gift_")
}

/// A product as it is added.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    /// The first description that isn't blank, as written; the code if there is none.
    pub(crate) name: String,
    /// Pence, of the row of that description; 0 if there is none or it is negative.
    pub(crate) price: i64,
    /// Whether stock is kept.
    pub(crate) tracked: bool,
    /// Units received at first sight; 0 if not tracked.
    pub(crate) opening: i64,
    /// Units on hand after the last step; 0 if not tracked.
    pub(crate) closing: i64,
}

/// A line of an order.
#[derive(Debug, Clone)]
pub(crate) struct OrderLine {
    /// Its row.
    pub(crate) row: u32,
    /// Its product.
    pub(crate) code: u32,
    /// Units, above 0.
    pub(crate) quantity: i64,
    /// Pence a unit.
    pub(crate) price: i64,
}

/// An invoice's order; its lines are numbered from 1 as they stand here.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// Number of the invoice in the dictionary.
    pub(crate) invoice: u32,
    /// Its customer; `None` for a guest.
    pub(crate) customer: Option<u32>,
    /// Its country.
    pub(crate) country: u32,
    /// Time of its first row.
    pub(crate) at: DateTime<Utc>,
    /// Number of its first row.
    pub(crate) first_row: u32,
    /// Its lines in order of rows.
    pub(crate) lines: Vec<OrderLine>,
    /// Pence.
    pub(crate) total: i64,
}

/// A stock adjustment.
#[derive(Debug, Clone)]
pub(crate) struct Adjustment {
    /// Its product.
    pub(crate) code: u32,
    /// Signed units.
    pub(crate) quantity: i64,
    /// Its description; `None` if blank.
    pub(crate) description: Option<u32>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Adds a product.
    AddProduct { code: u32 },
    /// Receives its opening stock.
    ReceiveStock { code: u32, quantity: i64 },
    /// An adjustment row.
    AdjustStock { adjustment: usize },
    /// Places an invoice's order.
    PlaceOrder { order: usize },
    /// Records that it was paid.
    RecordPayment { order: usize },
    /// Ships it.
    ShipOrder { order: usize },
    /// Takes goods back to one order.
    ReturnItems { piece: usize },
}

impl Action {
    /// Names of the commands, in the order in which a report lists them.
    pub(crate) const NAMES: [&'static str; 7] = [
        "AddProduct",
        "ReceiveStock",
        "AdjustStock",
        "PlaceOrder",
        "RecordPayment",
        "ShipOrder",
        "ReturnItems",
    ];

    /// Name of the command.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AddProduct { .. } => "AddProduct",
            Self::ReceiveStock { .. } => "ReceiveStock",
            Self::AdjustStock { .. } => "AdjustStock",
            Self::PlaceOrder { .. } => "PlaceOrder",
            Self::RecordPayment { .. } => "RecordPayment",
            Self::ShipOrder { .. } => "ShipOrder",
            Self::ReturnItems { .. } => "ReturnItems",
        }
    }
}

/// A command with its place.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// What to do.
    pub(crate) action: Action,
    /// First row of the command, part of its key.
    pub(crate) key_row: u32,
    /// Last part of its key.
    pub(crate) n: u32,
    /// Row at which it is carried out: the first row of an order for all its products too.
    pub(crate) row: u32,
    /// When it happened.
    pub(crate) at: DateTime<Utc>,
    /// Invoice that it belongs to.
    pub(crate) invoice: u32,
    /// Index of a step that must have been decided before this one is sent.
    pub(crate) after: Option<usize>,
}

/// Why a readable row leads to no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// An adjustment of a code for which no stock is kept.
    AdjustmentOfService,
    /// A bad debt.
    BadDebt,
    /// A return without a customer.
    ReturnByGuest,
    /// A return of more than that customer has bought and not returned.
    ReturnNotBought,
    /// A line of an invoice with more lines than an order may have.
    TooManyLines,
    /// A line of an invoice with a greater total than an order may have.
    TotalTooGreat,
}

impl Reason {
    /// A sentence for a person.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::AdjustmentOfService => "stock adjustment of a code for which no stock is kept",
            Self::BadDebt => "bad debt: no sale, and Daybook has no ledger of debts",
            Self::ReturnByGuest => "return without a customer: nobody's purchase can be credited",
            Self::ReturnNotBought => "return of more than this customer has bought of this code",
            Self::TooManyLines => "an order has at most 2,000 lines",
            Self::TotalTooGreat => "the order's total is beyond 2^53 - 1 pence",
        }
    }
}

/// A row that leads to no command.
#[derive(Debug, Clone)]
pub(crate) struct Skipped {
    /// Its number.
    pub(crate) row: u32,
    /// Its invoice.
    pub(crate) invoice: u32,
    /// Its product.
    pub(crate) code: u32,
    /// Its units.
    pub(crate) quantity: i64,
    /// Its price.
    pub(crate) price: Price,
    /// Why.
    pub(crate) reason: Reason,
    /// Units that could have been returned, where that is the reason.
    pub(crate) returnable: Option<i64>,
}

/// A return that credits less than it says.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// Its row.
    pub(crate) row: u32,
    /// Its invoice.
    pub(crate) invoice: u32,
    /// The order it was taken from.
    pub(crate) order: usize,
    /// Pence it says.
    pub(crate) asked: i64,
    /// Pence credited: what was left captured of the order.
    pub(crate) credited: i64,
}

/// A row whose price is no whole number of pence.
#[derive(Debug, Clone)]
pub(crate) struct Rounded {
    /// Its row.
    pub(crate) row: u32,
    /// Its invoice.
    pub(crate) invoice: u32,
    /// Its product.
    pub(crate) code: u32,
    /// Its units.
    pub(crate) quantity: i64,
    /// The price in the file.
    pub(crate) price: Price,
}

/// Rows by kind; together with the bad rows, all rows of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Kinds {
    /// Lines of sales.
    pub(crate) sale: u64,
    /// Lines of sales at a price of 0.
    pub(crate) free_item: u64,
    /// Stock adjustments.
    pub(crate) adjustment: u64,
    /// Lines of returns.
    pub(crate) returned: u64,
    /// Bad debts.
    pub(crate) bad_debt: u64,
}

impl Kinds {
    /// All of them.
    pub(crate) fn sum(&self) -> u64 {
        self.sale + self.free_item + self.adjustment + self.returned + self.bad_debt
    }
}

/// Everything an import will do, and everything it leaves out.
#[derive(Debug)]
pub(crate) struct Plan {
    /// SHA-256 of the uncompressed file, lower-case hex.
    pub(crate) sha256: String,
    /// Rows of the file.
    pub(crate) row_count: u32,
    /// Texts of the columns.
    pub(crate) names: Dictionary,
    /// By code.
    pub(crate) products: Vec<Product>,
    /// In the order in which they are placed.
    pub(crate) orders: Vec<Order>,
    /// In order of rows.
    pub(crate) adjustments: Vec<Adjustment>,
    /// In order of rows.
    pub(crate) pieces: Vec<Piece>,
    /// All commands, in the order in which they are decided.
    pub(crate) steps: Vec<Step>,
    /// Rows by kind.
    pub(crate) kinds: Kinds,
    /// Rows that can't be used.
    pub(crate) bad: Vec<BadRow>,
    /// Rows that lead to no command, with the reason.
    pub(crate) skipped: Vec<Skipped>,
    /// Returns that credit less than they say.
    pub(crate) differences: Vec<Difference>,
    /// Rows whose price was rounded to pence.
    pub(crate) rounded: Vec<Rounded>,
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

fn products(rows: &[Row], names: &Dictionary) -> Vec<Product> {
    let mut described: Vec<Option<(u32, i64)>> = vec![None; names.codes.len()];
    for row in rows {
        let first = &mut described[row.code as usize];
        if let (None, Some(description)) = (*first, row.description) {
            *first = Some((description, row.price.pence().max(0)));
        }
    }
    (0..)
        .zip(described)
        .map(|(code, described)| {
            let code = names.codes.text(code);
            let (name, price) = match described {
                Some((description, price)) => (names.descriptions.text(description), price),
                None => (code, 0),
            };
            Product {
                name: name.to_owned(),
                price,
                tracked: is_tracked(code),
                opening: 0,
                closing: 0,
            }
        })
        .collect()
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
                    at: row.at,
                    first_row: row.number,
                    lines: Vec::new(),
                    total: 0,
                });
                orders.len() - 1
            });
            let order = &mut orders[index];
            if row.customer != order.customer {
                self.misfits.insert(row.number, "CustomerID is not that of the invoice's first row");
            } else if row.country != order.country {
                self.misfits.insert(row.number, "Country is not that of the invoice's first row");
            } else {
                let (quantity, price) = (row.quantity, row.price.pence());
                order.total = order.total.saturating_add(quantity.saturating_mul(price));
                order.lines.push(OrderLine { row: row.number, code: row.code, quantity, price });
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
                self.product(row.code, row, row.number);
                self.adjustment(row);
            }
            Series::Credit => {
                self.plan.kinds.returned += 1;
                self.product(row.code, row, row.number);
                self.returned(row);
            }
            Series::BadDebt => {
                self.plan.kinds.bad_debt += 1;
                self.product(row.code, row, row.number);
                self.skip(row, Reason::BadDebt, None);
            }
        }
    }

    fn order_line(&mut self, row: &Row) {
        let order = match self.invoices[&row.invoice] {
            Invoice::Refused(reason) => {
                self.product(row.code, row, row.number);
                self.skip(row, reason, None);
                return;
            }
            Invoice::Ordered { order } => order,
        };
        if self.plan.orders[order].first_row != row.number {
            return; // Placed already, with this line and its product.
        }
        let products: Vec<(u32, u32)> =
            self.plan.orders[order].lines.iter().map(|line| (line.code, line.row)).collect();
        for (code, first_row) in products {
            self.product(code, row, first_row);
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
    fn product(&mut self, code: u32, at: &Row, first_row: u32) {
        if std::mem::replace(&mut self.added[code as usize], true) {
            return;
        }
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

/// A sale or a free item; what is left of its series are stock adjustments.
fn is_order_line(row: &Row) -> bool {
    row.series == Series::Plain && (!row.price.is_zero() || row.customer.is_some())
}

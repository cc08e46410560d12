//! What an import will do: its commands in order, and what it leaves out.

use chrono::{DateTime, Utc};

use super::{
    returns::Piece,
    row::{BadRow, Dictionary, Price},
};

/// A product as it is added.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    /// The first description that isn't blank, as written; the code if there is none.
    pub(crate) name: String,
    /// Pence, of the row of that description; 0 if there is none or it is negative.
    pub(crate) price: i64,
    /// Whether stock is kept.
    pub(crate) tracked: bool,
    /// First row that has it.
    pub(crate) first_row: u32,
    /// Units received at first sight; 0 if not tracked.
    pub(crate) opening: i64,
    /// Units on hand after the last step; 0 if not tracked.
    pub(crate) closing: i64,
}

/// A line of an order.
#[derive(Debug, Clone)]
pub(crate) struct OrderLine {
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

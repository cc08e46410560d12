//! What an import did: as JSON for a program, and (in [`text`]) for a person.

mod text;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;

use super::{
    plan::{Action, Kinds, Plan, Reason},
    progress::per_second,
    row::BadRow,
    send::{Counts, Stopped, Tally, Unaccepted},
};

/// The report of one run. Money is in pence.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// SHA-256 of the uncompressed file.
    sha256: String,
    /// Whether every command was decided.
    complete: bool,
    /// Why not.
    stopped: Option<String>,
    rows: Rows,
    invoices: Invoices,
    commands: Vec<Commands>,
    /// Commands refused or failed: how many, and the first of them. Not counted are products
    /// that were there before.
    unaccepted_count: u64,
    unaccepted: Vec<Unaccepted>,
    totals: Totals,
    products: Products,
    bad_rows: Vec<BadRow>,
    skipped_by_reason: BTreeMap<Reason, u64>,
    skipped: Vec<SkippedRow>,
    return_differences: Vec<DifferenceRow>,
    rounded_prices: Vec<RoundedRow>,
    timing: Timing,
}

/// Rows by kind: they sum up to the rows of the file.
#[derive(Debug, Serialize)]
struct Rows {
    #[serde(flatten)]
    kinds: Kinds,
    bad: u64,
    sum: u64,
    of_file: u64,
}

/// Invoices, each counted once, by the first of these that it led to.
#[derive(Debug, Default, Serialize)]
struct Invoices {
    placed: u64,
    adjusted: u64,
    returned: u64,
    skipped: u64,
    sum: u64,
}

#[derive(Debug, Serialize)]
struct Commands {
    command: &'static str,
    planned: u64,
    #[serde(flatten)]
    counts: Counts,
}

/// What the file's commands come to when all are accepted.
#[derive(Debug, Default, Serialize)]
struct Totals {
    orders: u64,
    sales: i64,
    sold_units: i64,
    payments: u64,
    return_rows_accepted: u64,
    return_rows_refused: u64,
    returned_units: i64,
    returns_asked: i64,
    returns_credited: i64,
    returns_difference: i64,
    returns_refused: i64,
    bad_debt: i64,
}

#[derive(Debug, Serialize)]
struct Products {
    added: u64,
    tracked: u64,
    opening_units: i64,
    closing_units: i64,
}

#[derive(Debug, Serialize)]
struct SkippedRow {
    row: u32,
    invoice: String,
    code: String,
    quantity: i64,
    price: String,
    reason: Reason,
    returnable: Option<i64>,
}

#[derive(Debug, Serialize)]
struct DifferenceRow {
    row: u32,
    invoice: String,
    order: String,
    asked: i64,
    credited: i64,
}

#[derive(Debug, Serialize)]
struct RoundedRow {
    row: u32,
    invoice: String,
    code: String,
    quantity: i64,
    price: String,
}

#[derive(Debug, Serialize)]
struct Timing {
    read_seconds: f64,
    send_seconds: f64,
    total_seconds: f64,
    rows_per_second: f64,
    commands_per_second: f64,
    /// While sending, for each tenth of the file that was passed.
    rows_per_second_by_tenth: Vec<f64>,
    /// How often commands were sent again because the journal could not be written.
    rewinds: u64,
}

/// What the clock said.
#[derive(Debug)]
pub(crate) struct Took {
    /// Reading and planning.
    pub(crate) read: Duration,
    /// Sending.
    pub(crate) send: Duration,
    /// Rows/s by tenth of the file.
    pub(crate) by_tenth: Vec<f64>,
}

impl Report {
    /// Of a plan, what became of it, and how long it took.
    pub(crate) fn new(plan: &Plan, tally: Tally, took: Took) -> Self {
        let names = &plan.names;
        let total = (took.read + took.send).as_secs_f64();
        let mut skipped_by_reason = BTreeMap::new();
        for skipped in &plan.skipped {
            *skipped_by_reason.entry(skipped.reason).or_default() += 1;
        }
        Self {
            sha256: plan.sha256.clone(),
            complete: tally.stopped.is_none(),
            stopped: tally.stopped.as_ref().map(|stopped| match stopped {
                Stopped::Asked => "it was asked to stop".to_owned(),
                Stopped::Unavailable(error) => error.to_string(),
            }),
            rows: Rows {
                kinds: plan.kinds,
                bad: plan.bad.len() as u64,
                sum: plan.kinds.sum() + plan.bad.len() as u64,
                of_file: u64::from(plan.row_count),
            },
            invoices: invoices(plan),
            totals: totals(plan),
            products: Products {
                added: planned(plan, "AddProduct"),
                tracked: plan.products.iter().filter(|product| product.tracked).count() as u64,
                opening_units: plan.products.iter().map(|product| product.opening).sum(),
                closing_units: plan.products.iter().map(|product| product.closing).sum(),
            },
            bad_rows: plan.bad.clone(),
            skipped_by_reason,
            skipped: plan
                .skipped
                .iter()
                .map(|skipped| SkippedRow {
                    row: skipped.row,
                    invoice: names.invoices.text(skipped.invoice).to_owned(),
                    code: names.codes.text(skipped.code).to_owned(),
                    quantity: skipped.quantity,
                    price: skipped.price.to_string(),
                    reason: skipped.reason,
                    returnable: skipped.returnable,
                })
                .collect(),
            return_differences: plan
                .differences
                .iter()
                .map(|difference| DifferenceRow {
                    row: difference.row,
                    invoice: names.invoices.text(difference.invoice).to_owned(),
                    order: names.invoices.text(plan.orders[difference.order].invoice).to_owned(),
                    asked: difference.asked,
                    credited: difference.credited,
                })
                .collect(),
            rounded_prices: plan
                .rounded
                .iter()
                .map(|rounded| RoundedRow {
                    row: rounded.row,
                    invoice: names.invoices.text(rounded.invoice).to_owned(),
                    code: names.codes.text(rounded.code).to_owned(),
                    quantity: rounded.quantity,
                    price: rounded.price.to_string(),
                })
                .collect(),
            timing: Timing {
                read_seconds: took.read.as_secs_f64(),
                send_seconds: took.send.as_secs_f64(),
                total_seconds: total,
                rows_per_second: per_second(u64::from(plan.row_count), total),
                commands_per_second: per_second(tally.decided as u64, took.send.as_secs_f64()),
                rows_per_second_by_tenth: took.by_tenth,
                rewinds: tally.rewinds,
            },
            unaccepted_count: tally.unaccepted_count,
            unaccepted: tally.unaccepted,
            commands: Action::NAMES
                .into_iter()
                .map(|command| Commands {
                    command,
                    planned: planned(plan, command),
                    counts: tally.by_command.get(command).cloned().unwrap_or_default(),
                })
                .collect(),
        }
    }

    /// What went wrong, if anything did: not every command was decided, or some were not
    /// accepted.
    pub(crate) fn failure(&self) -> Option<String> {
        if let Some(stopped) = &self.stopped {
            return Some(format!("the import is not finished: {stopped}; run it again to go on"));
        }
        let count = self.unaccepted_count;
        (count > 0).then(|| format!("{} commands were not accepted", text::grouped(count)))
    }
}

fn planned(plan: &Plan, command: &str) -> u64 {
    plan.steps.iter().filter(|step| step.action.name() == command).count() as u64
}

fn invoices(plan: &Plan) -> Invoices {
    // 0 placed, 1 adjusted, 2 returned, 3 nothing
    let mut best: HashMap<u32, u8> = HashMap::new();
    let mut note = |invoice: u32, rank: u8| {
        let known = best.entry(invoice).or_insert(rank);
        *known = (*known).min(rank);
    };
    for skipped in &plan.skipped {
        note(skipped.invoice, 3);
    }
    for step in &plan.steps {
        match step.action {
            Action::PlaceOrder { .. } => note(step.invoice, 0),
            Action::AdjustStock { .. } => note(step.invoice, 1),
            Action::ReturnItems { .. } => note(step.invoice, 2),
            Action::AddProduct { .. }
            | Action::ReceiveStock { .. }
            | Action::RecordPayment { .. }
            | Action::ShipOrder { .. } => {}
        }
    }
    let of = |rank| best.values().filter(|known| **known == rank).count() as u64;
    Invoices {
        placed: of(0),
        adjusted: of(1),
        returned: of(2),
        skipped: of(3),
        sum: best.len() as u64,
    }
}

fn totals(plan: &Plan) -> Totals {
    let mut totals = Totals {
        orders: plan.orders.len() as u64,
        payments: planned(plan, "RecordPayment"),
        ..Totals::default()
    };
    for order in &plan.orders {
        totals.sales += order.total;
        totals.sold_units += order.lines.iter().map(|line| line.quantity).sum::<i64>();
    }
    for piece in &plan.pieces {
        totals.returned_units += piece.quantity();
        totals.returns_asked += piece.asked;
        totals.returns_credited += piece.credit();
    }
    totals.returns_difference = totals.returns_asked - totals.returns_credited;
    for skipped in &plan.skipped {
        let amount = skipped.quantity.saturating_mul(skipped.price.pence());
        match skipped.reason {
            Reason::ReturnByGuest | Reason::ReturnNotBought => {
                totals.return_rows_refused += 1;
                totals.returns_refused -= amount;
            }
            Reason::BadDebt => totals.bad_debt += amount,
            Reason::AdjustmentOfService | Reason::TooManyLines | Reason::TotalTooGreat => {}
        }
    }
    totals.return_rows_accepted = plan.kinds.returned - totals.return_rows_refused;
    totals
}

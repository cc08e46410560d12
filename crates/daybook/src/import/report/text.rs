//! The report as a person reads it.

use std::fmt;

use super::{Commands, Report, Rows, SkippedRow};

/// Most entries of a list that are shown; JSON has them all.
const MAX_SHOWN: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rows { kinds, bad, sum, of_file } = &self.rows;
        writeln!(f, "Import of UCI Online Retail, SHA-256 {}", self.sha256)?;
        if let Some(stopped) = &self.stopped {
            writeln!(f, "NOT FINISHED: {stopped}. Run the same command again to go on.")?;
        }
        writeln!(f, "\nRows")?;
        for (kind, count) in [
            ("sale lines", kinds.sale),
            ("free items", kinds.free_item),
            ("stock adjustments", kinds.adjustment),
            ("return lines", kinds.returned),
            ("bad debts", kinds.bad_debt),
            ("bad rows", *bad),
        ] {
            writeln!(f, "  {kind:<28}{:>12}", grouped(count))?;
        }
        let equal = if sum == of_file { "= rows of the file" } else { "≠ ROWS OF THE FILE" };
        writeln!(f, "  {:<28}{:>12}  {equal}", "sum", grouped(*sum))?;
        writeln!(
            f,
            "\nInvoices {}: {} placed, {} only adjusted stock, {} returned, {} skipped",
            grouped(self.invoices.sum),
            grouped(self.invoices.placed),
            grouped(self.invoices.adjusted),
            grouped(self.invoices.returned),
            grouped(self.invoices.skipped),
        )?;
        self.write_commands(f)?;
        self.write_totals(f)?;
        self.write_lists(f)?;
        let timing = &self.timing;
        writeln!(
            f,
            "\nTime {:.1} s ({:.1} s reading, {:.1} s sending): {:.0} rows/s, {:.0} commands/s",
            timing.total_seconds,
            timing.read_seconds,
            timing.send_seconds,
            timing.rows_per_second,
            timing.commands_per_second,
        )?;
        let tenths: Vec<String> =
            timing.rows_per_second_by_tenth.iter().map(|rate| format!("{rate:.0}")).collect();
        writeln!(f, "Rows/s by tenth of the file: {}", tenths.join(" "))
    }
}

impl Report {
    fn write_commands(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "Commands", "planned", "accepted", "repeated", "refused", "failed"
        )?;
        for Commands { command, planned, counts } in &self.commands {
            writeln!(
                f,
                "  {command:<14}{:>10}{:>10}{:>10}{:>10}{:>10}",
                grouped(*planned),
                grouped(counts.accepted),
                grouped(counts.repeated),
                grouped(counts.refused.values().sum()),
                grouped(counts.failed.values().sum()),
            )?;
        }
        for Commands { command, counts, .. } in &self.commands {
            for (code, count) in counts.refused.iter().chain(&counts.failed) {
                writeln!(f, "  {command} {code}: {}", grouped(*count))?;
            }
        }
        list(f, self.unaccepted_count, &self.unaccepted, |f, one| {
            writeln!(f, "  row {}: {} {}: {}", one.row, one.command, one.code, one.detail)
        })
    }

    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        writeln!(f, "\nTotals, GBP (all commands accepted)")?;
        for (what, pence) in [
            ("sales", totals.sales),
            ("returns credited", -totals.returns_credited),
            ("returns, not credited", -totals.returns_difference),
            ("returns refused", -totals.returns_refused),
            ("bad debt, skipped", totals.bad_debt),
        ] {
            writeln!(f, "  {what:<24}{:>16}", pounds(pence))?;
        }
        writeln!(
            f,
            "  {} orders, {} payments; {} return lines accepted, {} refused",
            grouped(totals.orders),
            grouped(totals.payments),
            grouped(totals.return_rows_accepted),
            grouped(totals.return_rows_refused),
        )?;
        writeln!(
            f,
            "  {} products, {} with stock: {} units at first, {} at the end",
            grouped(self.products.added),
            grouped(self.products.tracked),
            grouped(self.products.opening_units.unsigned_abs()),
            grouped(self.products.closing_units.unsigned_abs()),
        )
    }

    fn write_lists(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nBad rows: {}", grouped(self.bad_rows.len() as u64))?;
        list(f, self.bad_rows.len() as u64, &self.bad_rows, |f, bad| {
            writeln!(f, "  row {}: {}", bad.row, bad.reason)
        })?;
        writeln!(f, "Rows skipped: {}", grouped(self.skipped.len() as u64))?;
        for (reason, count) in &self.skipped_by_reason {
            writeln!(f, "  {}: {}", reason.text(), grouped(*count))?;
            let of_reason: Vec<&SkippedRow> =
                self.skipped.iter().filter(|skipped| skipped.reason == *reason).collect();
            list(f, of_reason.len() as u64, &of_reason, |f, row| {
                write!(
                    f,
                    "    row {}: invoice {}, {} × {} at {}",
                    row.row, row.invoice, row.quantity, row.code, row.price
                )?;
                match row.returnable {
                    Some(units) => writeln!(f, " ({units} can be returned)"),
                    None => writeln!(f),
                }
            })?;
        }
        writeln!(
            f,
            "Returns that credit less than they say: {}",
            grouped(self.return_differences.len() as u64)
        )?;
        list(f, self.return_differences.len() as u64, &self.return_differences, |f, row| {
            writeln!(
                f,
                "  row {}: {} says {}, order {} had {} left",
                row.row,
                row.invoice,
                pounds(row.asked),
                row.order,
                pounds(row.credited)
            )
        })?;
        writeln!(f, "Prices rounded to pence: {}", grouped(self.rounded_prices.len() as u64))?;
        list(f, self.rounded_prices.len() as u64, &self.rounded_prices, |f, row| {
            writeln!(
                f,
                "  row {}: invoice {}, {} × {} at {}",
                row.row, row.invoice, row.quantity, row.code, row.price
            )
        })
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    count: u64,
    all: &[T],
    mut each: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    let shown = all.len().min(MAX_SHOWN);
    for one in &all[..shown] {
        each(f, one)?;
    }
    let more = count - shown as u64;
    if more > 0 {
        writeln!(f, "    … and {} more (--report FILE lists them)", grouped(more))?;
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Pence as pounds: `-1,234.05`.
fn pounds(pence: i64) -> String {
    let sign = if pence < 0 { "-" } else { "" };
    let pence = pence.unsigned_abs();
    format!("{sign}{}.{:02}", grouped(pence / 100), pence % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(pounds(-1_106_206), "-11,062.06");
        assert_eq!(pounds(5), "0.05");
    }
}

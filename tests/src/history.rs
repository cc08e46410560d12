//! A long history, made in bulk for tests that need many events and no valid macs.

/// SQL that writes what a shop's commands would have written for so many orders, about fourteen
/// events each: the history that measurements use.
pub fn bulk_history(orders: u32) -> String {
    include_str!("../../crates/daybook/benches/fold/history.sql")
        .replace("$ORDERS", &orders.to_string())
}

//! The real file, where it is at hand: `DAYBOOK_UCI_FILE`, or beside the working copy.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use super::super::{
    plan::{Action, Plan, Reason},
    report::{Report, Took},
    send::Tally,
    source::Contents,
};

/// The real file, if there is one.
pub(super) fn real_file() -> Option<PathBuf> {
    let path = std::env::var_os("DAYBOOK_UCI_FILE").map_or_else(
        || {
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
            manifest.join("../../../shared/data/uci_online_retail.csv.gz")
        },
        PathBuf::from,
    );
    path.exists().then_some(path)
}

#[test]
fn the_known_totals_come_out() {
    let Some(path) = real_file() else { return };
    let plan = Plan::new(Contents::read(&path).unwrap());
    plan.check();
    assert_eq!(plan.row_count, 541_909);
    assert!(plan.bad.is_empty());
    assert_eq!(plan.kinds.sale, 530_103);
    assert_eq!(plan.kinds.free_item, 40);
    assert_eq!(plan.kinds.adjustment, 2_475);
    assert_eq!(plan.kinds.returned, 9_288);
    assert_eq!(plan.kinds.bad_debt, 3);
    assert_eq!(plan.names.invoices.len(), 25_900);
    assert_eq!(plan.names.codes.len(), 4_070);
    assert_eq!(plan.names.customers.len(), 4_372);
    assert_eq!(plan.names.countries.len(), 38);
    assert_eq!(plan.rounded.len(), 4);
    assert_eq!(plan.orders.iter().map(|order| order.lines.len()).max(), Some(1_114));
    assert_eq!(plan.orders.iter().map(|order| order.total).sum::<i64>(), 1_065_562_248);

    let of = |reason| plan.skipped.iter().filter(|row| row.reason == reason).count();
    assert_eq!(of(Reason::BadDebt), 3);
    assert_eq!(of(Reason::AdjustmentOfService), 11);
    let count = |name| plan.steps.iter().filter(|step| step.action.name() == name).count();
    assert_eq!(count("AddProduct"), 4_070);
    assert_eq!(count("AdjustStock"), 2_475 - 11);
    assert_eq!(count("PlaceOrder"), plan.orders.len());
    assert_eq!(count("ShipOrder"), plan.orders.len());

    let returned: i64 = plan.pieces.iter().map(|piece| piece.asked).sum();
    let refused: i64 = plan
        .skipped
        .iter()
        .filter(|row| matches!(row.reason, Reason::ReturnByGuest | Reason::ReturnNotBought))
        .map(|row| -row.quantity * row.price.pence())
        .sum();
    assert_eq!(returned + refused, 89_681_249, "returns of 896,812.49");

    let invoices: HashSet<u32> = plan
        .steps
        .iter()
        .filter(|step| {
            !matches!(step.action, Action::AddProduct { .. } | Action::ReceiveStock { .. })
        })
        .map(|step| step.invoice)
        .chain(plan.skipped.iter().map(|row| row.invoice))
        .collect();
    assert_eq!(invoices.len(), 25_900, "every invoice is accounted for");

    let took = Took { read: Duration::ZERO, send: Duration::ZERO, by_tenth: Vec::new() };
    let report = Report::new(&plan, Tally::default(), took);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rows"]["sum"], 541_909);
    assert_eq!(json["invoices"]["sum"], 25_900);
    assert_eq!(json["totals"]["sales"], 1_065_562_248);
    assert_eq!(json["totals"]["bad_debt"], -1_106_206);
    let text = report.to_string();
    assert!(text.contains("10,655,622.48"), "{text}");
}

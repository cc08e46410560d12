//! What is planned for every kind of row, and for the odd things that the real file has.

use super::{super::plan::Reason, plan_of};

const T: &str = "2010-12-01 08:26:00";

fn sale(invoice: &str, code: &str, quantity: i64, price: &str, customer: &str) -> String {
    format!("{invoice},{code},{code} NAME,{quantity},{T},{price},{customer},United Kingdom")
}

#[test]
fn an_invoice_is_placed_paid_and_shipped_at_its_first_row() {
    let plan = plan_of(&[
        &sale("1", "A", 6, "2.55", "17850.0"),
        &sale("1", "E", 2, "0.29", "17850.0"),
        &sale("1", "A", 6, "2.55", "17850.0"),
        &sale("2", "E", 1, "0.29", ""),
    ]);
    plan.check();
    assert_eq!(
        plan.described(),
        [
            "1:AddProduct:0 A \"A NAME\" 255",
            "1:ReceiveStock:0 A 12",
            "2:AddProduct:0 E \"E NAME\" 29",
            "2:ReceiveStock:0 E 3",
            "1:PlaceOrder:0 1 6×A@255 2×E@29 6×A@255",
            "1:RecordPayment:0 1 3118",
            "1:ShipOrder:0 1",
            "4:PlaceOrder:0 2 1×E@29",
            "4:RecordPayment:0 2 29",
            "4:ShipOrder:0 2",
        ]
    );
    assert_eq!(plan.orders[1].customer, None, "a guest");
}

#[test]
fn an_invoice_in_two_places_with_two_times_is_one_order_of_its_first_time() {
    let plan = plan_of(&[
        "542806,A,x,1,2011-02-01 12:00:00,1,1.0,UK",
        "542807,E,y,1,2011-02-01 12:00:00,1,2.0,UK",
        "542806,E,y,3,2011-02-01 12:01:00,1,1.0,UK",
    ]);
    plan.check();
    assert_eq!(plan.orders.len(), 2);
    assert_eq!(plan.orders[0].lines.len(), 2);
    let at: Vec<_> = plan.steps.iter().take(8).map(|step| step.at.to_rfc3339()).collect();
    assert_eq!(at, ["2011-02-01T12:00:00+00:00"; 8]);
    assert_eq!(
        plan.described()[..5],
        [
            "1:AddProduct:0 A \"x\" 100",
            "1:ReceiveStock:0 A 1",
            "2:AddProduct:0 E \"y\" 100",
            "2:ReceiveStock:0 E 4",
            "1:PlaceOrder:0 542806 1×A@100 3×E@100",
        ],
        "the product of row 3 is there before its order, though the file has it first in row 2"
    );
}

#[test]
fn free_items_and_orders_of_nothing() {
    let plan = plan_of(&[
        &sale("1", "A", 6, "0", "17850.0"),
        &sale("2", "A", 1, "2.55", "17850.0"),
        &sale("2", "M", 1, "0.0", "17850.0"),
    ]);
    plan.check();
    assert_eq!((plan.kinds.free_item, plan.kinds.sale, plan.kinds.adjustment), (2, 1, 0));
    assert_eq!(
        plan.described(),
        [
            "1:AddProduct:0 A \"A NAME\" 0",
            "1:ReceiveStock:0 A 7",
            "1:PlaceOrder:0 1 6×A@0",
            "1:ShipOrder:0 1",
            "3:AddProduct:0 M \"M NAME\" 0 untracked",
            "2:PlaceOrder:0 2 1×A@255 1×M@0",
            "2:RecordPayment:0 2 255",
            "2:ShipOrder:0 2",
        ]
    );
}

#[test]
fn adjustments_alone_and_within_a_guests_sale() {
    let plan = plan_of(&[
        "1,A,,56,2010-12-01 11:52:00,0,,UK",
        "2,E,thrown away,-4,2010-12-01 11:53:00,0,,UK",
        "3,A,?,-10,2010-12-01 11:54:00,0,,UK",
        "3,A,A NAME,2,2010-12-01 11:54:00,1.5,,UK",
        "4,DOT,,1,2010-12-01 11:55:00,0,,UK",
        "5,gift_0001_40,,30,2010-12-01 11:55:00,0,,UK",
    ]);
    plan.check();
    assert_eq!(plan.kinds.adjustment, 5);
    assert_eq!(
        plan.described(),
        [
            "1:AddProduct:0 A \"?\" 0",
            "1:AdjustStock:0 A 56",
            "2:AddProduct:0 E \"thrown away\" 0",
            "2:ReceiveStock:0 E 4",
            "2:AdjustStock:0 E -4",
            "3:AdjustStock:0 A -10",
            "4:PlaceOrder:0 3 2×A@150",
            "4:RecordPayment:0 3 300",
            "4:ShipOrder:0 3",
            "5:AddProduct:0 DOT \"DOT\" 0 untracked",
            "6:AddProduct:0 gift_0001_40 \"gift_0001_40\" 0 untracked",
        ],
        "the sale is placed at its own first row; a product without a description has its code"
    );
    let skipped: Vec<_> = plan.skipped.iter().map(|row| (row.row, row.reason)).collect();
    assert_eq!(skipped, [(5, Reason::AdjustmentOfService), (6, Reason::AdjustmentOfService)]);
}

#[test]
fn a_name_is_the_first_description_and_its_price() {
    let plan = plan_of(&[
        "1,A,,5,2010-12-01 11:52:00,0,,UK",
        "2,A,  ,5,2010-12-01 11:52:00,9.99,1.0,UK",
        "3,A,SOAP ,5,2010-12-01 11:52:00,2.5,1.0,UK",
        "4,A,SOAP,5,2010-12-01 11:52:00,3,1.0,UK",
    ]);
    assert_eq!(plan.described()[0], "1:AddProduct:0 A \"SOAP \" 250");
}

#[test]
fn codes_that_differ_by_case_are_different_products() {
    let plan = plan_of(&[&sale("1", "85123a", 1, "1", "1.0"), &sale("2", "85123A", 2, "1", "1.0")]);
    plan.check();
    assert_eq!(plan.products.len(), 2);
    assert_eq!((plan.products[0].opening, plan.products[1].opening), (1, 2));
}

#[test]
fn a_return_is_one_command_for_each_order_it_is_taken_from() {
    let plan = plan_of(&[
        &sale("1", "A", 2, "1", "1.0"),
        &sale("2", "A", 3, "2", "1.0"),
        &sale("C3", "A", -4, "2", "1.0"),
    ]);
    plan.check();
    assert_eq!(
        plan.described()[plan.steps.len() - 2..],
        ["3:ReturnItems:0 1 2×#1=200", "3:ReturnItems:1 2 2×#1=400"]
    );
    let differences: Vec<_> =
        plan.differences.iter().map(|row| (row.row, row.order, row.asked, row.credited)).collect();
    assert_eq!(differences, [(3, 0, 400, 200)], "invoice 1 had captured only 2.00");
}

#[test]
fn returns_that_are_refused_change_nothing() {
    let plan = plan_of(&[
        &sale("C1", "A", -1, "1", "1.0"),
        &sale("2", "A", 2, "1", "1.0"),
        &sale("C3", "A", -3, "1", "1.0"),
        &sale("C4", "A", -1, "1", "2.0"),
        &sale("C5", "A", -1, "1", ""),
        &sale("C6", "a", -1, "1", "1.0"),
        &sale("C7", "A", -2, "1", "1.0"),
    ]);
    plan.check();
    let skipped: Vec<_> =
        plan.skipped.iter().map(|row| (row.row, row.reason, row.returnable)).collect();
    assert_eq!(
        skipped,
        [
            (1, Reason::ReturnNotBought, Some(0)),
            (3, Reason::ReturnNotBought, Some(2)),
            (4, Reason::ReturnNotBought, Some(0)),
            (5, Reason::ReturnByGuest, None),
            (6, Reason::ReturnNotBought, Some(0)),
        ]
    );
    assert_eq!(plan.described().last().unwrap(), "7:ReturnItems:0 2 2×#1=200");
    assert_eq!(plan.products[0].opening, 2, "refused returns bring no stock");
}

#[test]
fn services_are_returned_too_but_not_into_stock() {
    let plan = plan_of(&[&sale("1", "POST", 2, "18", "1.0"), &sale("C2", "POST", -1, "18", "1.0")]);
    plan.check();
    assert_eq!(
        plan.described(),
        [
            "1:AddProduct:0 POST \"POST NAME\" 1800 untracked",
            "1:PlaceOrder:0 1 2×POST@1800",
            "1:RecordPayment:0 1 3600",
            "1:ShipOrder:0 1",
            "2:ReturnItems:0 1 1×#1=1800",
        ]
    );
}

#[test]
fn opening_stock_counts_on_returns_and_adjustments_only_when_they_come() {
    let plan = plan_of(&[
        &sale("1", "A", 80_995, "1.04", "1.0"),
        &sale("C2", "A", -80_995, "1.04", "1.0"),
        &sale("3", "A", 80_000, "1.04", "1.0"),
        "4,A,,5,2010-12-01 11:52:00,0,,UK",
        &sale("5", "A", 1_001, "1.04", "1.0"),
    ]);
    plan.check();
    assert_eq!((plan.products[0].opening, plan.products[0].closing), (80_996, 0));
    let place = |invoice: &str| {
        let name = format!("PlaceOrder:0 {invoice} ");
        (0..plan.steps.len()).find(|index| plan.describe(*index).contains(&name)).unwrap()
    };
    assert_eq!(plan.steps[place("1")].after, None);
    assert_eq!(plan.steps[place("3")].after, Some(place("1")), "goods that came back between");
    assert_eq!(plan.steps[place("5")].after, Some(place("3")));
}

#[test]
fn bad_debts_are_skipped_with_the_reason() {
    let plan = plan_of(&[
        "A563185,B,Adjust bad debt,1,2011-08-12 14:50:00,11062.06,,United Kingdom",
        "A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom",
    ]);
    plan.check();
    assert_eq!(plan.kinds.bad_debt, 2);
    assert_eq!(plan.described(), ["1:AddProduct:0 B \"Adjust bad debt\" 1106206 untracked"]);
    assert!(plan.skipped.iter().all(|row| row.reason == Reason::BadDebt));
}

#[test]
fn a_tenth_of_a_penny_is_nothing_and_is_listed() {
    let plan = plan_of(&[&sale("1", "PADS", 1, "0.001", "13952.0")]);
    plan.check();
    assert_eq!((plan.kinds.sale, plan.orders[0].total), (1, 0));
    assert_eq!(plan.rounded.iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
    assert!(!plan.described().iter().any(|step| step.contains("RecordPayment")));
}

#[test]
fn rows_that_contradict_their_invoice_are_bad() {
    let plan = plan_of(&[
        "1,A,x,1,2010-12-01 08:26:00,1,1.0,UK",
        "1,A,x,1,2010-12-01 08:26:00,1,2.0,UK",
        "1,A,x,1,2010-12-01 08:26:00,1,1.0,France",
        "1,A,\"x,1,2010-12-01 08:26:00,1,1.0,UK",
        "1,A,x,1,2010-12-01 08:26:00,1,1.0,UK",
    ]);
    plan.check();
    let bad: Vec<_> = plan.bad.iter().map(|bad| bad.row).collect();
    assert_eq!(bad, [2, 3, 4]);
    assert_eq!(plan.orders[0].lines.len(), 2);
}

#[test]
fn an_order_has_its_limits() {
    let rows: Vec<String> = (0..2001).map(|_| sale("1", "A", 1, "1", "1.0")).collect();
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let plan = plan_of(&rows);
    plan.check();
    assert_eq!((plan.orders.len(), plan.skipped.len()), (0, 2001));
    assert_eq!(plan.skipped[0].reason, Reason::TooManyLines);
    rows.pop();
    assert_eq!(plan_of(&rows).orders.len(), 1);
    let dear = sale("1", "A", 1_000_000_000, "9999999", "1.0");
    assert_eq!(plan_of(&[&dear]).skipped[0].reason, Reason::TotalTooGreat);
}

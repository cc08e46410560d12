//! What can be read, and how what can't be read is named.

use serde_json::{Value, json};

use super::*;

const ID: &str = "0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10";

fn bad(name: &str, body: &str) -> (Option<String>, String) {
    match Command::parse(name, body.as_bytes()) {
        Err(BadCommand { code: "invalid-command", field, detail }) => (field, detail),
        other => panic!("{body} gave {other:?}"),
    }
}

/// A good order with one member changed.
fn order_with(path: &str, value: Value) -> String {
    let mut order = json!({
        "currency": "GBP",
        "lines": [{ "sku": "A", "quantity": 1 }, { "sku": "B", "quantity": 2 }]
    });
    if let Some(place) = order.pointer_mut(path) {
        *place = value;
    } else {
        let (parent, name) = path.rsplit_once('/').unwrap();
        order.pointer_mut(parent).unwrap()[name] = value;
    }
    order.to_string()
}

fn field_of(path: &str, value: Value) -> String {
    let body = order_with(path, value);
    bad("PlaceOrder", &body).0.unwrap_or_else(|| panic!("no field named for {body}"))
}

#[test]
fn a_good_command_is_read_with_its_defaults() {
    let body = r#"{"sku":"BANK CHARGES","name":"Bank Charges","price":0,"currency":"GBP"}"#;
    let command = Command::parse("AddProduct", body.as_bytes()).unwrap();
    assert_eq!(
        command,
        Command::AddProduct(AddProduct {
            sku: Sku::new("BANK CHARGES").unwrap(),
            name: Name::new("Bank Charges").unwrap(),
            price: Amount::new(0).unwrap(),
            currency: Currency::new("GBP").unwrap(),
            tracked: true,
        })
    );
    let body = format!(r#"{{"order_id":"{ID}","lines":null}}"#);
    let Command::ShipOrder(ship) = Command::parse("ShipOrder", body.as_bytes()).unwrap() else {
        panic!("another command");
    };
    assert_eq!((ship.lines, ship.on_account), (None, false));
}

#[test]
fn the_wrong_field_is_named() {
    let cases = [
        ("/currency", json!("XXX"), "currency"),
        ("/currency", json!(826), "currency"),
        ("/lines", json!([]), "lines"),
        ("/lines", json!({}), "lines"),
        ("/lines/1/quantity", json!(0), "lines[1].quantity"),
        ("/lines/1/quantity", json!(-1), "lines[1].quantity"),
        ("/lines/1/quantity", json!(1.0), "lines[1].quantity"),
        ("/lines/1/quantity", json!("1"), "lines[1].quantity"),
        ("/lines/1/quantity", json!(9_007_199_254_740_992_i64), "lines[1].quantity"),
        ("/lines/1/quantity", json!(u64::MAX), "lines[1].quantity"),
        ("/lines/0/unit_price", json!(-1), "lines[0].unit_price"),
        ("/lines/0/sku", json!("a\"b"), "lines[0].sku"),
        ("/lines/0/sku", json!(""), "lines[0].sku"),
        ("/lines/0/sku", json!("x".repeat(65)), "lines[0].sku"),
        ("/lines/0/colour", json!("red"), "lines[0].colour"),
        ("/lines/0", json!(["A", 1]), "lines[0]"),
        ("/lines/0", json!(null), "lines[0]"),
        ("/colour", json!("red"), "colour"),
        ("/order_id", json!("7"), "order_id"),
        ("/country", json!(""), "country"),
        ("/country", json!("a\u{0}b"), "country"),
        ("/country", json!("a\nb"), "country"),
        ("/reference", json!("r".repeat(65)), "reference"),
        ("/expected_total", json!(9_007_199_254_740_992_i64), "expected_total"),
    ];
    for (path, value, field) in cases {
        assert_eq!(field_of(path, value.clone()), field, "{path} = {value}");
    }
}

#[test]
fn a_missing_or_repeated_field_is_named() {
    assert_eq!(
        bad("PlaceOrder", r#"{"lines":[{"sku":"A","quantity":1}]}"#),
        (Some("currency".into()), "missing field".into())
    );
    assert_eq!(
        bad("PlaceOrder", r#"{"currency":"GBP","lines":[{"sku":"A"}]}"#),
        (Some("lines[0].quantity".into()), "missing field".into())
    );
    assert_eq!(
        bad("DeliverOrder", &format!(r#"{{"order_id":"{ID}","order_id":"{ID}"}}"#)),
        (Some("order_id".into()), "duplicate field".into())
    );
    assert_eq!(
        bad("PlaceOrder", r#"{"currency":"GBP","lines":[{"sku":"A","sku":"A","quantity":1}]}"#),
        (Some("lines[0].sku".into()), "duplicate field".into())
    );
}

#[test]
fn numbers_are_integers_written_as_such() {
    let price = |text: &str| format!(r#"{{"sku":"A","currency":"GBP","price":{text}}}"#);
    let rule = "expected whole minor units from 0 to 9007199254740991";
    for text in
        ["1.0", "1e3", "-1", "-0", "9007199254740992", "18446744073709551616", "1e999", "\"1\""]
    {
        let (field, detail) = bad("ChangePrice", &price(text));
        assert_eq!(field.as_deref(), Some("price"), "{text}");
        assert!(detail == rule || detail.contains("number out of range"), "{text}: {detail}");
    }
    for text in ["0", "9007199254740991"] {
        Command::parse("ChangePrice", price(text).as_bytes()).unwrap();
    }
    for text in ["NaN", "Infinity", "0x10", "01", "+1", "1_000"] {
        assert!(bad("ChangePrice", &price(text)).1.starts_with("not JSON"), "{text}");
    }
}

#[test]
fn what_is_not_json_is_called_so() {
    for body in ["", "{", "{\"sku\":", "\u{feff}{}", "{'sku':1}"] {
        assert!(bad("ChangePrice", body).1.starts_with("not JSON"), "{body:?}");
    }
    for body in ["null", "[]", "7", "\"x\"", "[\"A\",1,\"GBP\"]"] {
        assert_eq!(bad("ChangePrice", body), (None, "expected an object".into()), "{body}");
    }
    let after = format!(r#"{{"order_id":"{ID}"}} {{}}"#);
    assert_eq!(bad("DeliverOrder", &after), (None, "not JSON: trailing characters".into()));
    let latin_1 = [b"{\"sku\":\"caf".as_slice(), b"\xe9\"}"].concat();
    let refused = Command::parse("ChangePrice", &latin_1).unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("sku"));
    assert!(refused.detail.starts_with("not JSON"), "{refused}");
}

#[test]
fn lone_surrogates_are_refused_by_field() {
    for text in [r"\ud800", r"\udc00", r"\ud83d x", r"\ud83d\u0041"] {
        let body = format!(r#"{{"order_id":"{ID}","reason":"{text}"}}"#);
        let (field, detail) = bad("CancelOrder", &body);
        assert_eq!(field.as_deref(), Some("reason"), "{text}");
        assert!(detail.starts_with("not JSON"), "{text}: {detail}");
    }
    let body = format!(r#"{{"order_id":"{ID}","reason":"\ud83d\ude00"}}"#);
    Command::parse("CancelOrder", body.as_bytes()).unwrap();
}

#[test]
fn deep_nesting_ends_early() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for body in [deep.clone(), format!(r#"{{"lines":{deep}}}"#), format!(r#"{{"x":{deep}}}"#)] {
            assert!(Command::parse("PlaceOrder", body.as_bytes()).is_err());
        }
    }
}

#[test]
fn card_numbers_are_refused_and_never_repeated() {
    let card = "4242 4242 4242 4242";
    let bodies = [
        (
            "ChargePayment",
            json!({
                "order_id": ID, "amount": 1, "currency": "GBP",
                "gateway_token": "4242424242424242"
            }),
            Some("gateway_token"),
        ),
        (
            "CancelOrder",
            json!({ "order_id": ID, "reason": format!("card {card}") }),
            Some("reason"),
        ),
        (
            "RecordPayment",
            json!({
                "order_id": ID, "amount": 1, "currency": "GBP", "method": "card", "reference": card
            }),
            Some("reference"),
        ),
        ("PlaceOrder", json!({ "currency": card, "lines": [] }), Some("currency")),
        ("ChangePrice", json!({ "sku": "A", "price": card, "currency": "GBP" }), Some("price")),
        ("ReturnItems", json!({ "order_id": ID, "lines": [], "refund": card }), Some("refund")),
        ("DeliverOrder", json!({ "order_id": card }), Some("order_id")),
        ("DeliverOrder", json!({ card: 1 }), None),
    ];
    for (name, body, field) in bodies {
        let refused = Command::parse(name, body.to_string().as_bytes()).unwrap_err();
        assert_eq!(refused.field.as_deref(), field, "{refused}");
        let said = format!("{refused:?}");
        assert!(!said.contains("4242"), "{said}");
    }
}

#[test]
fn what_a_client_sent_is_not_sent_back() {
    let secret = "s3cr3t".repeat(1_000);
    for body in [
        json!({ "sku": secret, "price": 1, "currency": "GBP" }),
        json!({ "sku": "A", "price": secret, "currency": "GBP" }),
        json!({ "sku": "A", "price": 1, "currency": secret }),
        json!({ (secret.clone()): 1 }),
    ] {
        let refused = Command::parse("ChangePrice", body.to_string().as_bytes()).unwrap_err();
        assert!(!format!("{refused:?}").contains("s3cr3t"), "{refused}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let body = json!({
        "order_id": ID, "amount": 1, "currency": "GBP", "gateway_token": "tok_secret"
    });
    let command = Command::parse("ChargePayment", body.to_string().as_bytes()).unwrap();
    assert!(!format!("{command:?}").contains("tok_secret"));
    for token in ["", "two words", "tok\n", "tök", &"t".repeat(256)] {
        assert!(GatewayToken::new(token).is_err(), "{token}");
    }
}

#[test]
fn what_only_the_backend_sends_is_unknown_to_clients() {
    for name in [
        "RecordGatewayPayment",
        "RecordDispute",
        "RecordPaymentOutcome",
        "RecordRefundOutcome",
        "ExpireOrder",
        "Nonsense",
        "",
    ] {
        let refused = Command::parse(name, b"{}").unwrap_err();
        assert_eq!((refused.code, refused.field), ("unknown-command", None), "{name}");
    }
}

#[test]
fn what_a_gateway_says_is_cleaned() {
    assert_eq!(&*Said::from("no\u{0} funds\n").domain(), "no funds");
    assert_eq!(Said::from("x".repeat(300)).domain().len(), 200);
    assert!(!Said::from("card 4242424242424242 declined").domain().contains("4242"));
}

#[test]
fn times_are_in_utc_with_microseconds() {
    let time: Time = serde_json::from_str(r#""2011-12-09T13:50:00.5+01:00""#).unwrap();
    assert_eq!(time.to_string(), "2011-12-09T12:50:00.500000Z");
    assert!(serde_json::from_str::<Time>(r#""2011-12-09""#).is_err());
}

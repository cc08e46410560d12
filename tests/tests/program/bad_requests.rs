//! Requests that must be refused with a problem that names the fault, and leave no trace.

use daybook_tests::{Answer, Client, Shop, problem_code};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

/// A request that is wrong in one way.
struct Bad {
    what: &'static str,
    command: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What `field` must be; empty: the request as a whole is wrong.
    field: &'static str,
}

fn bad(what: &'static str, command: &'static str, body: &str, field: &'static str) -> Bad {
    let body = body.as_bytes().to_vec();
    Bad { what, command, body, status: 400, code: "invalid-command", field }
}

/// PlaceOrder with these members beside the currency.
fn placing(what: &'static str, members: &str, field: &'static str) -> Bad {
    bad(what, "PlaceOrder", &format!(r#"{{"currency":"GBP",{members}}}"#), field)
}

/// ChargePayment with this amount.
fn charging(what: &'static str, amount: &str) -> Bad {
    let order = Uuid::nil();
    let body = format!(
        r#"{{"order_id":"{order}","amount":{amount},"currency":"GBP","gateway_token":"tok_success"}}"#
    );
    bad(what, "ChargePayment", &body, "amount")
}

fn bad_bodies() -> Vec<Bad> {
    let line = r#""lines":[{"sku":"MUG","quantity":1}]"#;
    vec![
        bad("cut short", "PlaceOrder", r#"{"currency":"GBP","lines":[{"sku""#, "lines[0]"),
        bad("no JSON", "PlaceOrder", "currency=GBP", ""),
        bad("empty", "PlaceOrder", "", ""),
        bad("more after it", "PlaceOrder", &format!("{{\"currency\":\"GBP\",{line}}} {{}}"), ""),
        bad("an array", "PlaceOrder", "[]", ""),
        bad("nested a thousand deep", "PlaceOrder", &"[".repeat(1000), ""),
        Bad { body: vec![b'{', 0xff, 0xfe, b'}'], ..bad("no UTF-8", "PlaceOrder", "", "") },
        placing(
            "a word as quantity",
            r#""lines":[{"sku":"MUG","quantity":"two"}]"#,
            "lines[0].quantity",
        ),
        placing("half a unit", r#""lines":[{"sku":"MUG","quantity":1.5}]"#, "lines[0].quantity"),
        placing("true units", r#""lines":[{"sku":"MUG","quantity":true}]"#, "lines[0].quantity"),
        placing("a number as sku", r#""lines":[{"sku":7,"quantity":1}]"#, "lines[0].sku"),
        placing("lines that are no list", r#""lines":{"sku":"MUG","quantity":1}"#, "lines"),
        placing("no lines at all", r#""expected_total":0"#, "lines"),
        placing("an empty list of lines", r#""lines":[]"#, "lines"),
        placing("no quantity", r#""lines":[{"sku":"MUG"}]"#, "lines[0].quantity"),
        placing("an id that is no UUID", &format!(r#""order_id":"first",{line}"#), "order_id"),
        placing("an unknown field", &format!(r#""colour":"red",{line}"#), "colour"),
        placing(
            "an unknown field below",
            r#""lines":[{"sku":"MUG","quantity":1,"colour":1}]"#,
            "lines[0].colour",
        ),
        placing("a field twice", &format!(r#""currency":"GBP",{line}"#), "currency"),
        placing(
            "negative units",
            r#""lines":[{"sku":"MUG","quantity":1},{"sku":"MUG","quantity":-1}]"#,
            "lines[1].quantity",
        ),
        placing("zero units", r#""lines":[{"sku":"MUG","quantity":0}]"#, "lines[0].quantity"),
        placing(
            "units beyond 2^53",
            r#""lines":[{"sku":"MUG","quantity":9007199254740993}]"#,
            "lines[0].quantity",
        ),
        placing(
            "units beyond 2^64",
            r#""lines":[{"sku":"MUG","quantity":99999999999999999999}]"#,
            "lines[0].quantity",
        ),
        bad(
            "an unknown currency",
            "PlaceOrder",
            &format!(r#"{{"currency":"XXQ",{line}}}"#),
            "currency",
        ),
        bad(
            "a currency in small letters",
            "PlaceOrder",
            &format!(r#"{{"currency":"gbp",{line}}}"#),
            "currency",
        ),
        charging("an amount beyond 2^53", "9007199254740993"),
        charging("an amount beyond 2^63", "9223372036854775808"),
        charging("an amount beyond every number", "1e999"),
        charging("a negative amount", "-1"),
        charging("an amount of nothing", "0"),
        charging("pounds and pence", "12.50"),
        bad(
            "a card's number",
            "ChargePayment",
            r#"{"order_id":"00000000-0000-0000-0000-000000000000","amount":1,"currency":"GBP","gateway_token":"4242424242424242"}"#,
            "gateway_token",
        ),
        bad(
            "a price beyond 2^53",
            "AddProduct",
            r#"{"sku":"A","name":"a","price":9007199254740992,"currency":"GBP"}"#,
            "price",
        ),
        bad(
            "U+0000 in a name",
            "AddProduct",
            r#"{"sku":"A","name":"a\u0000b","price":1,"currency":"GBP"}"#,
            "name",
        ),
        bad(
            "U+0000 in a sku",
            "AddProduct",
            r#"{"sku":"A\u0000","name":"a","price":1,"currency":"GBP"}"#,
            "sku",
        ),
        bad(
            "a lone surrogate in a name",
            "AddProduct",
            r#"{"sku":"A","name":"a\ud800","price":1,"currency":"GBP"}"#,
            "name",
        ),
        bad(
            "the second half of one alone",
            "AddProduct",
            r#"{"sku":"A","name":"\udc00","price":1,"currency":"GBP"}"#,
            "name",
        ),
        bad(
            "U+0000 in a reason",
            "AdjustStock",
            r#"{"sku":"MUG","quantity":1,"reason":"\u0000"}"#,
            "reason",
        ),
        bad("no units received", "ReceiveStock", r#"{"sku":"MUG","quantity":0}"#, "quantity"),
        bad(
            "an adjustment of nothing",
            "AdjustStock",
            r#"{"sku":"MUG","quantity":0,"reason":"count"}"#,
            "quantity",
        ),
        Bad {
            status: 404,
            code: "unknown-command",
            ..bad("an unknown command", "MakeCoffee", "{}", "name")
        },
        Bad {
            status: 404,
            code: "unknown-command",
            ..bad("a command of the backend's own", "ExpireOrder", "{}", "name")
        },
    ]
}

async fn send(client: &Client, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let path = format!("/v1/commands/{command}");
    client.send(Method::POST, &path, headers, body.to_vec()).await.expect("an answer comes")
}

/// Checks that it is a problem, and returns its `field`.
#[track_caller]
fn problem(what: &str, answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{what}: {}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(problem_code(answer), code, "{what}: {}", answer.text);
    let body = answer.json();
    assert_eq!(body["status"], status, "{what}");
    for member in ["title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: no {member}");
    }
    body["field"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_bad_request_is_a_problem_that_names_the_field_and_appends_nothing() {
    let shop = Shop::open(10).await;
    let head = shop.installation.head().await;

    let mut faults = Vec::new();
    for (number, bad) in bad_bodies().into_iter().enumerate() {
        let key = format!("bad-{number}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let answer = send(&shop.operator, bad.command, &headers, &bad.body).await;
        let field = problem(bad.what, &answer, bad.status, bad.code);
        if field != bad.field {
            faults.push(format!("{}: not {:?}: {}", bad.what, bad.field, answer.text));
        }
        // A request that was never a command leaves its key unused.
        let path = format!("/v1/commands/by-key/{key}");
        assert_eq!(shop.operator.get(&path).await.status, 404, "{}", bad.what);
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert_eq!(shop.installation.head().await, head, "nothing was appended");
    shop.installation.check_journal().await;
}

#[tokio::test]
async fn headers_bodies_and_keys_are_checked_before_anything_happens() {
    let shop = Shop::open(10).await;
    let head = shop.installation.head().await;
    let order = json!({"currency": "GBP", "lines": [{"sku": "MUG", "quantity": 1}]}).to_string();
    let order = order.as_bytes();
    let json = ("content-type", "application/json");

    let answer = send(&shop.customer, "PlaceOrder", &[json], order).await;
    assert_eq!(problem("no key", &answer, 400, "missing-field"), "Idempotency-Key");
    for wrong in ["", "two words", &"k".repeat(256)] {
        let headers = [json, ("idempotency-key", wrong)];
        let answer = send(&shop.customer, "PlaceOrder", &headers, order).await;
        assert_eq!(problem(wrong, &answer, 400, "invalid-request"), "Idempotency-Key");
    }
    for (name, value, field) in [("if-match", "3", "If-Match"), ("prefer", "wait=soon", "Prefer")] {
        let headers = [json, ("idempotency-key", "h"), (name, value)];
        let answer = send(&shop.customer, "PlaceOrder", &headers, order).await;
        assert_eq!(problem(name, &answer, 400, "invalid-request"), field);
    }

    let key = ("idempotency-key", "k");
    let mut huge = br#"{"currency":"GBP","reference":""#.to_vec();
    huge.resize(4 << 20, b'x');
    let answer = send(&shop.operator, "PlaceOrder", &[json, key], &huge).await;
    problem("a huge body", &answer, 413, "body-too-large");
    assert!(answer.json()["limit"].as_u64().is_some_and(|limit| limit < 4 << 20));

    let text = ("content-type", "text/plain");
    let answer = send(&shop.customer, "PlaceOrder", &[text, key], order).await;
    problem("a body of another type", &answer, 415, "unsupported-media-type");

    for (what, key_text) in [("no key", ""), ("a made-up key", "dbk_aaaaaaaa_bbbbbbbbbbbb")] {
        let nobody = shop.server.client(key_text);
        let answer = send(&nobody, "PlaceOrder", &[json, key], order).await;
        problem(what, &answer, 401, "unauthenticated");
        assert!(answer.headers.contains_key("www-authenticate"), "{what}");
    }

    let analyst = shop.installation.key(daybook_tests::Role::Analyst).await;
    let answer = send(&shop.server.client(&analyst), "PlaceOrder", &[json, key], order).await;
    problem("an analyst", &answer, 403, "forbidden");
    let product = br#"{"sku":"A","name":"a","price":1,"currency":"GBP"}"#;
    let answer = send(&shop.customer, "AddProduct", &[json, key], product).await;
    problem("a customer who adds a product", &answer, 403, "forbidden");

    assert_eq!(shop.installation.head().await, head, "nothing was appended");
    // None of it used the key up.
    let answer = send(&shop.customer, "PlaceOrder", &[json, key], order).await.ok();
    assert!(!answer.headers.contains_key("idempotency-replayed"));
}

#[tokio::test]
async fn a_customer_names_neither_the_price_nor_another_customer() {
    let shop = Shop::open(10).await;
    let head = shop.installation.head().await;
    let cheap = json!({
        "currency": "GBP", "lines": [{"sku": "MUG", "quantity": 1, "unit_price": 1}],
    });
    let answer = shop.customer.once("PlaceOrder", &cheap).await;
    assert!([400, 403, 422].contains(&answer.status), "{answer:?}");
    let other = json!({
        "currency": "GBP", "customer_id": Uuid::new_v4(), "lines": [{"sku": "MUG", "quantity": 1}],
    });
    let answer = shop.customer.once("PlaceOrder", &other).await;
    assert!([400, 403, 422].contains(&answer.status), "{answer:?}");
    assert_eq!(shop.installation.head().await, head, "nothing was appended");
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong_with_the_values() {
    let shop = Shop::open(3).await;
    let head = shop.installation.head().await;

    let unknown = json!({
        "currency": "GBP", "lines": [{"sku": "MUG", "quantity": 1}, {"sku": "NOPE", "quantity": 1}],
    });
    let answer = shop.customer.once("PlaceOrder", &unknown).await;
    problem("an unknown sku", &answer, 422, "product-unknown");
    assert!(answer.text.contains("NOPE"), "{}", answer.text);

    let many = json!({"currency": "GBP", "lines": [{"sku": "MUG", "quantity": 4}]});
    let answer = shop.customer.once("PlaceOrder", &many).await;
    problem("too many", &answer, 422, "out-of-stock");
    let missing = json!([{"sku": "MUG", "wanted": 4, "available": 3}]);
    assert_eq!(answer.json()["missing"], missing, "{}", answer.text);

    let surprise = json!({
        "currency": "GBP", "expected_total": 1000, "lines": [{"sku": "MUG", "quantity": 1}],
    });
    let answer = shop.customer.once("PlaceOrder", &surprise).await;
    problem("another total", &answer, 422, "total-differs");
    assert_eq!(answer.json()["expected"], 1000);
    assert_eq!(answer.json()["actual"], 1250);

    let euros = json!({"currency": "EUR", "lines": [{"sku": "MUG", "quantity": 1}]});
    let answer = shop.customer.once("PlaceOrder", &euros).await;
    problem("another currency", &answer, 422, "currency-differs");

    assert_eq!(shop.installation.head().await, head, "nothing was appended");
}

//! The listener: limits for slow and large clients, and an end that loses nothing.

use std::time::{Duration, Instant};

use daybook_api::Limits;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::kit::{Api, send};

/// What the server sends until it closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
    end.expect("the server closes the connection").ok();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn who_looks_after_the_shop_needs_no_key_and_has_a_listener_apart() {
    let api = Api::start().await;
    assert_eq!(api.get("/readyz", "").await.ok(), json!({"ready": true}));
    api.get("/metrics", &api.operator).await.problem(404, "not-found");
    let ready = api.operations("/readyz").await.ok();
    assert_eq!(ready["parts"]["postgresql"], json!({"state": "ok", "required": true}));
    assert_eq!(ready["parts"]["read_database"], json!(null), "the read models have none");
    let metrics = api.operations("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.contains("daybook_http_requests_total"), "{}", metrics.text);
    for other in ["/v1/operator/orders", "/openapi.json"] {
        api.operations(other).await.problem(404, "not-found");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_read_model_that_an_event_has_stopped_is_shown_and_the_process_stays_ready() {
    let api = Api::start().await;
    api.project();
    assert_eq!(api.operations("/readyz").await.ok()["stopped_projections"], json!([]));
    let poison = json!({"sku": "P", "name": "poison", "price": 250, "currency": "GBP"});
    let added = send(api.command("AddProduct", "add", &poison)).await.ok();
    let position: i64 = added["position"].as_str().unwrap().parse().unwrap();
    let stopped = async {
        loop {
            let ready = api.operations("/readyz").await.ok();
            if ready["stopped_projections"] != json!([]) {
                break ready;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_mins(1), stopped).await.unwrap();
    assert_eq!(ready["ready"], true);
    let stopped = &ready["stopped_projections"][0];
    assert_eq!(
        (&stopped["projection"], &stopped["state"], &stopped["position"], &stopped["event"]),
        (
            &json!("offers"),
            &json!("active"),
            &json!(position - 1),
            &json!({"position": position, "type": "ProductAdded"})
        )
    );
    assert!(stopped["error"].as_str().unwrap().contains("this can not be offered"), "{stopped}");
    assert_eq!(ready["stopped_projections"][1], json!(null), "no other is stopped");
    // The others go on.
    let stock = json!({"sku": "P", "quantity": 3});
    send(api.command("ReceiveStock", "stock", &stock)).await.ok();
    let request = api.request(reqwest::Method::GET, "/v1/operator/stock/P", &api.operator);
    let request = request.header("daybook-min-position", api.head().await.to_string());
    assert_eq!(send(request.header("prefer", "wait=25")).await.ok()["on_hand"], 3);
    api.stop().await;
}

#[tokio::test]
async fn a_request_that_was_accepted_is_finished_before_the_server_ends() {
    let mut api = Api::start().await;
    api.product("A", 3).await;
    let order_id = api.order("A", "order").await;
    let charge = json!({
        "order_id": order_id, "amount": 250, "currency": "GBP", "gateway_token": "tok_1",
    });
    let waiting = api.command_of(&api.customer, "ChargePayment", "charge", &charge);
    let waiting = tokio::spawn(send(waiting.header("prefer", "wait=30")));
    // In flight once its events are there.
    while !api.events().await.iter().any(|e| e.kind == "PaymentRequested") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    api.begin_shutdown();
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 202, "the wait is cut short, the answer is not");
    api.shut_down().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(api.address).await.is_err(), "nobody listens any more");
    api.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_let_go() {
    let limits = Limits { header_wait: Duration::from_millis(300), ..Limits::default() };
    let api = Api::start_with(limits).await;
    for begun in ["", "G", "GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = TcpStream::connect(api.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(!answer.contains(" 200 "), "{begun:?} {answer}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_body_is_told_so() {
    let limits = Limits { body_wait: Duration::from_millis(300), ..Limits::default() };
    let api = Api::start_with(limits).await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST /v1/commands/AddProduct HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\
         connection: close\r\n\r\n{{",
        api.operator
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("/problems/body-too-slow"), "{answer}");
    api.stop().await;
}

#[tokio::test]
async fn headers_beyond_the_limit_are_431() {
    let api = Api::start().await;
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(40_000));
    // The server may answer and close before everything is written.
    stream.write_all(head.as_bytes()).await.ok();
    let answer = until_closed(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(api.get("/livez", "").await.status, 200, "others are served");
    api.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_room() {
    let api = Api::start_with(Limits { connections: 1, ..Limits::default() }).await;
    let held = TcpStream::connect(api.address).await.unwrap();
    let mut second = TcpStream::connect(api.address).await.unwrap();
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    second.write_all(request).await.unwrap();
    let mut first_byte = [0; 1];
    let early =
        tokio::time::timeout(Duration::from_millis(300), second.read(&mut first_byte)).await;
    assert!(early.is_err(), "there is room for one");
    drop(held);
    assert!(until_closed(&mut second).await.starts_with("HTTP/1.1 200 "));
    api.stop().await;
}

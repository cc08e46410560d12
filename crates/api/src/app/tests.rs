//! Requests that need no service to be answered: PostgreSQL is out of reach here.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use daybook_commands::{SealToken, Shop};
use daybook_projection::{Catalogue, ReadPositions};
use deadpool_postgres::{Manager, Pool};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tokio_postgres::NoTls;

use super::*;

struct NoSeal;

impl SealToken for NoSeal {
    fn seal(&self, _payment_id: Uuid, _token: &str) -> Vec<u8> {
        Vec::new()
    }
}

fn deps() -> ApiDeps {
    let config: tokio_postgres::Config = "host=127.0.0.1 port=1 user=nobody".parse().unwrap();
    let pool = Pool::builder(Manager::new(config.clone(), NoTls)).build().unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
    let catalogue = Catalogue::load(&folder).unwrap();
    let (positions, _never_run) = ReadPositions::new(config);
    let (queries, _never_run) = Queries::new(pool.clone(), positions);
    queries.assume(&catalogue);
    ApiDeps {
        shop: Shop::new(HashMap::new(), Arc::new(NoSeal), Vec::new()),
        reader: Reader::new(pool.clone()),
        heads: Heads::default(),
        keys: ApiKeys::new(pool.clone()),
        tokens: daybook_identity::TokenSealer::new([7; 32]),
        queries,
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        pool,
        checks: Vec::new(),
        limits: Limits::default(),
    }
}

fn api() -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + 'static {
    of(Door::Public)
}

fn of(door: Door) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + 'static {
    filter(Arc::new(App::new(deps(), CancellationToken::new())), door)
}

type Answer = warp::http::Response<Bytes>;

async fn ask(method: &str, path: &str) -> Answer {
    warp::test::request().method(method).path(path).reply(&api()).await
}

async fn ask_operations(method: &str, path: &str) -> Answer {
    warp::test::request().method(method).path(path).reply(&of(Door::Operations)).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

fn assert_problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem = json_of(answer);
    assert_eq!(problem["type"], format!("/problems/{code}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    problem
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_and_the_headers_that_protect_it() {
    let (one, other) = (ask("GET", "/livez").await, ask("GET", "/nowhere").await);
    for answer in [&one, &other] {
        assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
    assert_ne!(one.headers()["x-request-id"], other.headers()["x-request-id"]);
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_what_is_allowed() {
    assert_problem(&ask("GET", "/nowhere").await, 404, "not-found");
    assert_problem(&ask("GET", "/v1/web/../operator").await, 404, "not-found");
    let wrong = ask("DELETE", "/v1/events").await;
    assert_problem(&wrong, 405, "method-not-allowed");
    assert_eq!(wrong.headers()[header::ALLOW], "GET, HEAD");
    let wrong = ask("GET", "/v1/commands/PlaceOrder").await;
    assert_eq!(wrong.headers()[header::ALLOW], "POST");
    assert_problem(&ask("BREW", "/livez").await, 405, "method-not-allowed");
}

#[tokio::test]
async fn every_route_of_the_shop_asks_for_a_key_before_anything_else() {
    let document = json_of(&ask("GET", "/openapi.json").await);
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"] == serde_json::json!([]) {
                continue;
            }
            let path = path.replace(['{', '}'], "");
            let none = ask(&method.to_uppercase(), &path).await;
            assert_problem(&none, 401, "unauthenticated");
            assert!(none.headers().contains_key(header::WWW_AUTHENTICATE), "{path}");
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
    assert_problem(&ask("POST", "/v1/commands/Nope").await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_text_that_can_t_be_a_key_is_refused_without_a_database() {
    for wrong in ["Bearer x", "Basic dTpw", "Bearer", "x", "Bearer dbk_00000000_"] {
        let answer = warp::test::request()
            .path("/v1/events")
            .header("authorization", wrong)
            .reply(&api())
            .await;
        assert_problem(&answer, 401, "unauthenticated");
        let how = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(how.contains("invalid_token"), "{wrong}");
    }
}

#[tokio::test]
async fn without_a_database_a_request_is_503_and_the_process_alive_but_not_ready() {
    let key = format!("Bearer dbk_00000000_{}", "A".repeat(43));
    let answer =
        warp::test::request().path("/v1/events").header("authorization", key).reply(&api()).await;
    let problem = assert_problem(&answer, 503, "unavailable");
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    assert!(!problem.to_string().contains("127.0.0.1"), "internal text stays inside");

    let ready = ask("GET", "/readyz").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(json_of(&ready), serde_json::json!({"ready": false}));
    let ready = ask_operations("GET", "/readyz").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(json_of(&ready)["parts"]["postgresql"]["state"], "unreachable");
    assert_eq!(ask("GET", "/livez").await.status(), 200);
}

#[tokio::test]
async fn the_document_describes_every_operation_and_every_reference_in_it_leads_somewhere() {
    let answer = ask("GET", "/openapi.json").await;
    let document = json_of(&answer);
    assert_eq!(document["openapi"], "3.1.1");

    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            assert!(operation["summary"].is_string(), "{path}");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let parameter = match parameter["$ref"].as_str() {
                    Some(to) => document.pointer(&to[1..]).unwrap(),
                    None => parameter,
                };
                assert!(parameter["description"].is_string(), "{path} {parameter}");
                assert!(parameter["schema"].is_object(), "{path} {parameter}");
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");

    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in references {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }

    let etag = answer.headers()[header::ETAG].to_str().unwrap();
    let again = warp::test::request()
        .path("/openapi.json")
        .header("if-none-match", etag)
        .reply(&api())
        .await;
    assert_eq!((again.status().as_u16(), again.body().len()), (304, 0));
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(to) if name == "$ref" => found.push(to.clone()),
                    other => collect_references(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_command_is_shown_with_bodies_an_answer_and_every_refusal() {
    let document = json_of(&ask("GET", "/openapi.json").await);
    let commands = daybook_commands::catalogue();
    assert!(commands.len() >= 14);
    for command in commands {
        let path = format!("/v1/commands/{}", command.name);
        let operation = &document["paths"][&path]["post"];
        let bodies = &operation["requestBody"]["content"]["application/json"]["examples"];
        let shown: Vec<&Value> =
            bodies.as_object().unwrap().values().map(|example| &example["value"]).collect();
        let wanted: Vec<&Value> = command.examples.iter().map(|example| &example.body).collect();
        assert_eq!(shown, wanted, "{path}");

        let status = if command.accepted.open { "202" } else { "200" };
        let answer = &operation["responses"][status]["content"]["application/json"]["example"];
        assert_eq!(answer["result"], command.accepted.result, "{path}");
        assert!(!answer["streams"].as_array().unwrap().is_empty(), "{path}");

        let refused = &operation["responses"]["422"];
        let examples = &refused["content"]["application/problem+json"]["examples"];
        assert_eq!(examples.as_object().unwrap().len(), command.refusals.len(), "{path}");
        for refusal in command.refusals {
            let problem = &examples[&refusal.code]["value"];
            assert_eq!(problem["type"], format!("/problems/{}", refusal.code), "{path}");
            assert_eq!(problem["status"], 422);
            for (name, value) in refusal.values.as_object().unwrap() {
                assert_eq!(&problem[name], value, "{path} {}", refusal.code);
            }
            let text = refused["description"].as_str().unwrap();
            assert!(text.contains(&format!("`{}`", refusal.code)), "{path}");
        }
        assert!(refused["description"].as_str().unwrap().contains("`key-reused`"));
    }
}

#[tokio::test]
async fn the_documentation_is_one_page_without_scripts_and_kinds_of_problems_have_theirs() {
    let docs = ask("GET", "/docs").await;
    assert_eq!(docs.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let page = std::str::from_utf8(docs.body()).unwrap();
    assert!(page.contains("/v1/commands/PlaceOrder") && !page.contains("<script"));
    assert_eq!(json_of(&ask("GET", "/problems/stale").await)["status"], 503);
    let refusal = json_of(&ask("GET", "/problems/out-of-stock").await);
    assert_eq!(
        (&refusal["status"], &refusal["type"]),
        (&422.into(), &"/problems/out-of-stock".into())
    );
    assert!(refusal["help"].is_string() && refusal["example"]["missing"].is_array());
    assert_problem(&ask("GET", "/problems/made-up").await, 404, "not-found");
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_on_no_other_listener_than_that_of_operations() {
    let metrics = ask_operations("GET", "/metrics").await;
    assert_eq!(metrics.status(), 200);
    let media_type = metrics.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert!(media_type.starts_with("text/plain"));
    assert_problem(&ask("GET", "/metrics").await, 404, "not-found");
    // and nothing else is there
    assert_eq!(ask_operations("GET", "/livez").await.status(), 200);
    for other in ["/v1/events", "/v1/operator/orders", "/openapi.json", "/docs"] {
        assert_problem(&ask_operations("GET", other).await, 404, "not-found");
    }
    assert_problem(&ask_operations("POST", "/v1/commands/PlaceOrder").await, 404, "not-found");
}

fn pieces(pieces: Vec<&'static str>) -> Body {
    Box::pin(futures::stream::iter(pieces).map(|piece| Ok(Bytes::from(piece))))
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_no_further() {
    let minute = Duration::from_mins(1);
    let whole = read(pieces(vec!["ab", "cd"]), 4, minute).await.unwrap();
    assert_eq!(whole, "abcd");
    let long = read(pieces(vec!["ab", "cde"]), 4, minute).await;
    assert!(matches!(long, Err(Failure::TooLarge { limit: 4 })));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let slow = read(Box::pin(futures::stream::pending()), 4, Duration::from_secs(30)).await;
    assert!(matches!(slow, Err(Failure::TooSlow)));
}

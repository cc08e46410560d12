//! The description follows what is declared, with PostgreSQL's types, and answers keep to it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Api, Live, send};

async fn document(api: &Api) -> Value {
    api.get("/openapi.json", "").await.ok()
}

/// Whether a value is what a schema of our kind says.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let schema = match schema["$ref"].as_str() {
        Some(to) => document.pointer(&to[1..]).expect("a reference leads somewhere"),
        None => schema,
    };
    let names = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
        _ => return schema.as_object().is_some_and(|schema| !schema.contains_key("properties")),
    };
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() && names.contains(&"integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let inside = match value {
        Value::Array(items) => items.iter().all(|item| fits(document, &schema["items"], item)),
        Value::Object(members) if schema["properties"].is_object() => {
            let known = schema["properties"].as_object().unwrap();
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| members.contains_key(name.as_str().unwrap()))
                && members.iter().all(|(name, member)| {
                    known.get(name).is_some_and(|s| fits(document, s, member))
                })
        }
        _ => true,
    };
    names.contains(&name) && inside
}

#[tokio::test]
async fn answers_are_described_with_the_types_that_postgresql_reports() {
    let api = Api::start().await;
    let document = document(&api).await;
    let item = &document["components"]["schemas"]["OperatorOffersItem"];
    assert_eq!(
        *item,
        json!({
            "type": "object",
            "required": ["sku", "price", "was", "name", "history"],
            "properties": {
                "sku": {"type": "string"},
                "price": {"type": "integer", "format": "int64",
                    "description": "in minor units of the currency"},
                "was": {"type": ["integer", "null"], "format": "int64"},
                "name": {"type": "string"},
                "history": {"description": "newest last"},
            },
        })
    );
    // An outer join makes null what its table never has null.
    let next = &document["components"]["schemas"]["OperatorOffersNextItem"]["properties"];
    assert_eq!(next["next_sku"], json!({"type": ["string", "null"]}));
    let price = json!({"type": ["integer", "null"], "format": "int64"});
    let prices = json!({"type": ["array", "null"], "items": price});
    assert_eq!(next["prices"], prices);
    let parameters = &document["paths"]["/v1/operator/offers"]["get"]["parameters"];
    let limit = parameters.as_array().unwrap().iter().find(|p| p["name"] == "limit").unwrap();
    assert_eq!(
        (&limit["schema"]["maximum"], &limit["schema"]["default"]),
        (&500.into(), &50.into())
    );
    let list = &document["paths"]["/v1/operator/offers"]["get"]["responses"]["200"];
    let content = list["content"].as_object().unwrap();
    let types: Vec<&str> = content.keys().map(String::as_str).collect();
    assert_eq!(types, ["application/json", "application/x-ndjson", "text/csv"]);
    let page = json!({"$ref": "#/components/schemas/OperatorOffersPage"});
    assert_eq!(content["application/json"]["schema"], page);
    assert!(list["headers"]["Link"].is_object());
    let live = &document["paths"]["/v1/operator/offers/live"]["get"];
    assert!(live["responses"]["200"]["content"]["text/event-stream"].is_object());
    assert_eq!(live["operationId"], "operator_offers_live");
    assert!(document["paths"].get("/v1/operator/offers-total/live").is_none());
    api.stop().await;
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let api = Api::start().await;
    api.project();
    api.product("A", 10).await;
    let order_id = api.order("A", "order").await;
    let head = api.head().await;
    let document = document(&api).await;
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        let key = match operation["x-roles"].as_array().map(Vec::as_slice).unwrap_or_default() {
            roles if roles.contains(&json!("customer")) => &api.customer,
            roles if roles.contains(&json!("operator")) => &api.operator,
            _ => continue,
        };
        if operation["tags"][0] != "Queries" || path.ends_with("/live") {
            continue;
        }
        let path = path.replace("{order_id}", &order_id).replace("{sku}", "A");
        let request = api
            .request(reqwest::Method::GET, &path, key)
            .header("daybook-min-position", api.shown(&path, head))
            .header("prefer", "wait=25");
        let answer = send(request).await;
        let content = &operation["responses"]["200"]["content"]["application/json"];
        if answer.status == 200 {
            let body = answer.json();
            assert!(fits(&document, &content["schema"], &body), "{path}: {body}");
            asked += 1;
        }
    }
    assert!(asked >= 8, "{asked}");
    let wrong = json!({"items": [{"sku": 1}], "next": null});
    let page = json!({"$ref": "#/components/schemas/OperatorOffersPage"});
    assert!(!fits(&document, &page, &wrong), "this test sees what does not fit");
    api.stop().await;
}

#[tokio::test]
async fn routes_and_description_follow_what_is_declared_without_a_restart() {
    let api = Api::start().await;
    api.project();
    let path = "/v1/operator/all-offers";
    api.get(path, &api.operator).await.problem(404, "not-found");
    let follow = |path: &str| api.request(reqwest::Method::GET, path, &api.operator);
    let mut moved = Live::open(follow("/v1/operator/offers/live")).await;
    moved.next().await.unwrap();

    api.change_offers(|toml| toml.replace("\"/v1/operator/offers\"", &format!("\"{path}\""))).await;
    let changed = async {
        while api.get(path, &api.operator).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), changed).await.expect("the route appears");
    api.get("/v1/operator/offers", &api.operator).await.problem(404, "not-found");
    let document = document(&api).await;
    assert!(document["paths"].get("/v1/operator/offers").is_none());
    let item = &document["components"]["schemas"]["OperatorOffersItem"];
    assert_eq!(item["properties"]["price"]["format"], "int64");
    assert!(api.get("/docs", "").await.text.contains(path));
    let last = moved.next().await.unwrap();
    assert_eq!((last.name.as_str(), last.json()), ("end", json!({"reason": "query-changed"})));
    api.stop().await;
}

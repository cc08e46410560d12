//! Checks a JSON value against a JSON Schema (2020-12), as far as the commands' schemas use it. A
//! keyword that is not known here fails the test, so that none is passed over.

use regex::Regex;
use serde_json::Value;
use uuid::Uuid;

/// What is wrong with the value, each with its place; nothing, if it keeps to the schema.
pub(super) fn check(schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    visit(schema, value, "", &mut wrong);
    wrong
}

fn visit(schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let Value::Object(keywords) = schema else { panic!("{schema} is no schema") };
    for (keyword, rule) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "writeOnly" => true,
            "type" => types(rule).iter().any(|kind| is_a(kind, value)),
            "const" => value == rule,
            "enum" => list(rule).contains(value),
            "minimum" => number(value).is_none_or(|n| number(rule).is_some_and(|least| n >= least)),
            "maximum" => number(value).is_none_or(|n| number(rule).is_some_and(|most| n <= most)),
            "minLength" => length(value).is_none_or(|n| Some(n) >= rule.as_u64()),
            "maxLength" => length(value).is_none_or(|n| Some(n) <= rule.as_u64()),
            "minItems" => {
                value.as_array().is_none_or(|items| Some(items.len() as u64) >= rule.as_u64())
            }
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "format" => {
                value.as_str().is_none_or(|text| match rule.as_str() {
                    Some("uuid") => text.parse::<Uuid>().is_ok(),
                    other => panic!("unknown format {other:?}"),
                }) || rule == "uint32"
            }
            "not" => !check(rule, value).is_empty(),
            "anyOf" => list(rule).iter().any(|one| check(one, value).is_empty()),
            "oneOf" => list(rule).iter().filter(|one| check(one, value).is_empty()).count() == 1,
            "required" => value.as_object().is_none_or(|members| {
                list(rule).iter().all(|name| members.contains_key(name.as_str().unwrap()))
            }),
            "additionalProperties" => {
                assert_eq!(rule, false, "only closed objects are known here");
                let known = &schema["properties"];
                value.as_object().is_none_or(|m| m.keys().all(|name| !known[name].is_null()))
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(name) {
                        visit(schema, member, &format!("{place}/{name}"), wrong);
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    visit(rule, item, &format!("{place}/{index}"), wrong);
                }
                true
            }
            other => panic!("unknown keyword {other}"),
        };
        if !holds {
            wrong.push(format!("{place}: {keyword}"));
        }
    }
}

fn types(rule: &Value) -> Vec<&str> {
    match rule {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("unknown type {other}"),
    }
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().expect("a list")
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

//! What is shown to those who write a client is so.

use std::collections::BTreeSet;

use super::{schema::check, *};
use crate::wire::Command;

#[test]
fn every_body_that_is_shown_keeps_to_its_schema_and_can_be_read() {
    for command in catalogue() {
        assert!(!command.examples.is_empty(), "{}", command.name);
        for Example { title, body } in &command.examples {
            let wrong = check(&command.schema, body);
            assert_eq!(wrong, [""; 0], "{} {title}", command.name);
            let read = Command::parse(command.name, body.to_string().as_bytes());
            assert_eq!(read.unwrap().name(), command.name, "{title}");
        }
        let titles: BTreeSet<&str> = command.examples.iter().map(|e| e.title).collect();
        assert_eq!(titles.len(), command.examples.len(), "{}", command.name);
    }
}

#[test]
fn what_the_schema_excludes_can_t_be_read_either() {
    for command in catalogue() {
        let body = &command.examples[0].body;
        let mut broken = vec![json!([]), json!("x"), json!(null)];
        let mut more = body.clone();
        more["colour"] = json!("red");
        broken.push(more);
        for name in command.schema["required"].as_array().unwrap() {
            let mut less = body.clone();
            less.as_object_mut().unwrap().remove(name.as_str().unwrap());
            broken.push(less);
        }
        for (name, member) in body.as_object().unwrap() {
            for other in [json!({}), json!(-1.5), json!(true), json!("\u{1}")] {
                let mut wrong = body.clone();
                wrong[name] = other;
                if wrong[name] != *member && member.is_boolean() != wrong[name].is_boolean() {
                    broken.push(wrong);
                }
            }
        }
        for body in broken {
            assert!(!check(&command.schema, &body).is_empty(), "{} {body}", command.name);
            let read = Command::parse(command.name, body.to_string().as_bytes());
            assert!(read.is_err(), "{} {body}", command.name);
        }
    }
}

#[test]
fn every_kind_of_refusal_is_met_by_some_command_and_shown_by_its_code() {
    let known = refusals();
    let codes: Vec<&str> = known.iter().map(|info| info.refusal.code.as_str()).collect();
    assert!(codes.is_sorted(), "{codes:?}");
    let mut shown = BTreeSet::new();
    for command in catalogue() {
        assert!(!command.refusals.is_empty(), "{}", command.name);
        let own: BTreeSet<&str> = command.refusals.iter().map(|r| r.code.as_str()).collect();
        assert_eq!(own.len(), command.refusals.len(), "{} lists one twice", command.name);
        shown.extend(own.into_iter().map(str::to_owned));
    }
    assert_eq!(shown.iter().map(String::as_str).collect::<Vec<_>>(), codes);
    for info in &known {
        assert!(!info.refusal.values.as_object().unwrap().is_empty(), "{}", info.refusal.code);
        assert!(!info.help.is_empty() && info.refusal.detail.ends_with('.'));
    }
}

//! The stored form of an outcome: what an idempotency record remembers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::Refusal,
    submission::{Accepted, Verdict},
};

/// `outcome` column of `journal.commands`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Accepted { streams: Vec<(String, i32)>, result: Value, open: bool },
    Refused(Refusal),
}

/// The same, of a verdict that stays where it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Accepted { streams: &'a [(String, i32)], result: &'a Value, open: bool },
    Refused(&'a Refusal),
}

/// JSON text to store for a verdict.
pub(crate) fn to_json(verdict: &Verdict) -> String {
    let record = match verdict {
        Verdict::Accepted(Accepted { position: _, streams, result, open }) => {
            Written::Accepted { streams, result, open: *open }
        }
        Verdict::Refused(refusal) => Written::Refused(refusal),
    };
    serde_json::to_string(&record).expect("a record has string keys only")
}

/// The verdict that a record remembers; `None` if it is damaged.
pub(crate) fn verdict(position: Option<i64>, outcome: Value) -> Option<Verdict> {
    Some(match serde_json::from_value(outcome).ok()? {
        Record::Accepted { streams, result, open } => {
            Verdict::Accepted(Accepted { position: position?, streams, result, open })
        }
        Record::Refused(refusal) => Verdict::Refused(refusal),
    })
}

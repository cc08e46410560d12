//! The stored form of an outcome: what an idempotency record remembers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::Refusal,
    submission::{Accepted, Verdict},
};

/// `outcome` column of `journal.commands`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Accepted { streams: Vec<(String, i32)>, result: Value, open: bool },
    Refused(Refusal),
}

/// JSON text to store for a verdict.
pub(crate) fn to_json(verdict: &Verdict) -> String {
    let record = match verdict {
        Verdict::Accepted(a) => {
            Record::Accepted { streams: a.streams.clone(), result: a.result.clone(), open: a.open }
        }
        Verdict::Refused(refusal) => Record::Refused(refusal.clone()),
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

//! One question that somebody follows, and its newest answer.

use std::{collections::HashMap, sync::Arc};

use daybook_projection::{Answer, AnswerShape, DeclaredQuery, PrincipalScope};
use serde_json::Value;
use tokio::sync::{Mutex, Notify, watch};

use super::{Asked, Question};
use crate::{format, positions::Positions, queries};

/// What followers see. They take it when they are ready to, so a slow one misses what was between.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Position of the newest evaluation.
    pub(crate) checked: i64,
    /// The newest answer.
    pub(crate) shown: Option<Shown>,
    /// Why there will be no more.
    pub(crate) end: Option<&'static str>,
}

/// An answer as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Counts the answers of this group.
    pub(crate) serial: u64,
    /// Where it was found first: since then it has not changed.
    pub(crate) position: i64,
    /// The answer's JSON, on one line.
    pub(crate) body: Arc<str>,
}

/// A question with those who follow its answer.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) question: Question,
    pub(super) query: DeclaredQuery,
    pub(super) parameters: HashMap<String, String>,
    /// Key of the row that it is about, if it is about one.
    pub(super) row: Option<String>,
    /// Positions as its followers see them.
    pub(super) positions: Positions,
    /// Told when the answer may have changed.
    pub(super) dirty: Notify,
    /// Held by the one who asks for the first answer.
    pub(super) first: Mutex<()>,
    pub(super) state: watch::Sender<State>,
}

impl Group {
    pub(super) fn new(asked: Asked, query: &DeclaredQuery) -> Self {
        let Asked { question, positions, row } = asked;
        Self {
            parameters: question.parameters.clone().into_iter().collect(),
            question,
            query: query.clone(),
            row,
            positions,
            dirty: Notify::new(),
            first: Mutex::new(()),
            state: watch::Sender::default(),
        }
    }

    pub(super) fn scope(&self) -> PrincipalScope {
        PrincipalScope {
            customer_id: self.question.customer_id,
            partner_id: self.question.partner_id,
        }
    }

    /// Whether its answer can be changed by one row alone.
    pub(super) fn is_bound(&self) -> bool {
        self.row.is_some() && self.query.answer == AnswerShape::One
    }

    /// Whether nobody follows it.
    pub(super) fn is_unused(&self) -> bool {
        self.state.receiver_count() == 0
    }

    /// The projection has moved to a position: the answer is to be looked at again.
    pub(super) fn touch(&self, position: i64) {
        self.state.send_if_modified(|state| {
            // After a restore positions begin again: what is found then is no older answer.
            if position < state.checked {
                state.checked = 0;
            }
            false
        });
        self.dirty.notify_one();
    }

    /// Shows an answer to those who follow, if it is another than before. One that was found before
    /// a newer one is left aside.
    pub(super) fn offer(&self, answer: Answer) {
        let position = answer.position;
        let body = format::one_line(&queries::body(self.query.answer, answer));
        self.state.send_if_modified(|state| {
            if position < state.checked {
                return false;
            }
            state.checked = position;
            if state.shown.as_ref().is_some_and(|shown| *shown.body == *body) {
                return false;
            }
            let serial = state.shown.as_ref().map_or(1, |shown| shown.serial + 1);
            state.shown = Some(Shown { serial, position, body: body.into() });
            true
        });
    }

    /// There will be no more answers.
    pub(super) fn end(&self, reason: &'static str) {
        self.state.send_modify(|state| state.end = Some(reason));
    }
}

/// A key as a change names it, a JSON array, as the text of its one column. `None` for a key of
/// several columns.
pub(super) fn key_of_change(key: &str) -> Option<String> {
    let columns: Vec<Value> = serde_json::from_str(key).ok()?;
    match columns.as_slice() {
        [Value::String(text)] => Some(text.clone()),
        [other] => Some(other.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use daybook_projection::Catalogue;

    use super::*;

    fn group() -> Group {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&folder).unwrap();
        let mut queries = catalogue.projections().iter().flat_map(|p| &p.queries);
        let query = queries.find(|query| query.answer == AnswerShape::One).unwrap();
        let question = Question {
            query: query.name.clone(),
            tenant: 1,
            customer_id: None,
            partner_id: None,
            parameters: [].into(),
        };
        Group::new(Asked { question, positions: Positions::default(), row: None }, query)
    }

    fn answer(json: &str, position: i64) -> Answer {
        Answer { json: json.to_owned(), position, next: None }
    }

    fn shown(group: &Group) -> (u64, i64, String, i64) {
        let state = group.state.borrow();
        let shown = state.shown.as_ref().unwrap();
        (shown.serial, shown.position, shown.body.to_string(), state.checked)
    }

    #[test]
    fn an_answer_is_shown_when_it_is_another_and_no_older_one_replaces_it() {
        let group = group();
        let mut follower = group.state.subscribe();
        group.offer(answer("{\"a\":\n1}", 5));
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        group.offer(answer("{\"a\":\n1}", 8));
        assert!(!follower.has_changed().unwrap(), "the same, though the position has moved");
        assert_eq!(shown(&group), (1, 5, "{\"a\": 1}".to_owned(), 8));
        group.offer(answer("{}", 7));
        assert!(!follower.has_changed().unwrap(), "found before what is shown");
        group.offer(answer("{}", 9));
        assert!(follower.has_changed().unwrap());
        assert_eq!(shown(&group), (2, 9, "{}".to_owned(), 9));
    }

    #[test]
    fn after_a_restore_positions_begin_again() {
        let group = group();
        group.offer(answer("{}", 9));
        group.touch(3);
        group.offer(answer("[]", 3));
        assert_eq!(shown(&group), (2, 3, "[]".to_owned(), 3));
    }

    #[test]
    fn a_key_of_one_column_is_compared_as_text() {
        assert_eq!(key_of_change("[\"A b\"]").as_deref(), Some("A b"));
        assert_eq!(key_of_change("[7]").as_deref(), Some("7"));
        for wrong in ["[]", "[\"a\", \"b\"]", "\"a\"", "["] {
            assert_eq!(key_of_change(wrong), None, "{wrong}");
        }
    }
}

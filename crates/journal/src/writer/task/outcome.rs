//! What became of a batch that was sent: callers are answered, or their commands are decided again.

use super::{ALONE_AFTER_BATCHES, Flight, WriterTask, finish};
use crate::{
    model::Model,
    submission::{Outcome, SubmitError},
    writer::{
        Item, NotReady,
        batch::Batch,
        session::{Appended, Session, SessionError, TakenKey},
    },
};

impl<M: Model> WriterTask<M> {
    /// The first batch that was sent is in the journal: the next one goes, then callers are
    /// answered.
    pub(super) fn has_committed<'s>(
        &mut self,
        session: &'s Session,
        flight: &mut Flight<'s>,
        position: i64,
    ) {
        if let Flight::Appending(appends) = flight {
            appends.pop_front();
            if appends.is_empty() {
                *flight = Flight::Nothing;
            }
        }
        let Some(mut sent) = self.sent.pop_front() else { return };
        let changed = std::mem::take(&mut sent.changed);
        let names: Vec<String> = match &self.snapshots {
            Some(_) => changed.keys().cloned().collect(),
            None => Vec::new(),
        };
        debug_assert_eq!(position, sent.end().position);
        if !changed.is_empty() {
            // A refusal alone says nothing: no clock is compared for it.
            self.condition.clear();
        }
        self.cache.commit(changed, sent.end().clone());
        if self.locked_for == 0 && matches!(flight, Flight::Nothing) {
            self.send(session, flight);
        }
        self.answer(sent);
        self.offer_snapshots(&names);
        self.cache.shrink(self.queue.needed_since());
    }

    /// Answers the callers of a batch that has committed.
    fn answer(&self, batch: Batch<M>) {
        let position = batch.end().position;
        self.committed.send_if_modified(|head| {
            let moved = *head != position;
            *head = position;
            moved
        });
        metrics::histogram!("daybook_journal_batch_commands")
            .record(f64::from(u32::try_from(batch.answers.len()).unwrap_or(u32::MAX)));
        for (item, answer) in batch.items.into_iter().zip(batch.answers) {
            item.answer(answer.into_outcome());
        }
    }

    /// The first batch that was sent is not in the journal, and so those behind it aren't either:
    /// they were decided on what it would have left, and named a head that doesn't exist. (Only
    /// one behind a batch without events may have found its head, and then it stands.)
    pub(super) async fn has_failed(
        &mut self,
        flight: Flight<'_>,
        failed: Appended,
    ) -> Result<(), SessionError> {
        let Some(first) = self.sent.pop_front() else { return Ok(()) };
        let mut items = Vec::new();
        if let Flight::Appending(appends) = flight {
            for mut append in appends.into_iter().skip(1) {
                let result = match finish(&mut append).await {
                    Ok(result) => result,
                    Err(error) => {
                        // What it came to is unknown: all of them are asked again.
                        self.recall();
                        self.queue.put_back(items.into_iter());
                        self.queue.put_back(first.items.into_iter());
                        return Err(error);
                    }
                };
                let Some(mut batch) = self.sent.pop_front() else { continue };
                if let Appended::At(_) = result {
                    let changed = std::mem::take(&mut batch.changed);
                    self.cache.commit(changed, batch.end().clone());
                    self.answer(batch);
                } else {
                    items.append(&mut batch.items);
                }
            }
        }
        self.recall();
        self.queue.put_back(items.into_iter());
        match failed {
            Appended::At(_) => {}
            Appended::Behind => {
                metrics::counter!("daybook_journal_head_missed_total").increment(1);
                self.locked_for = ALONE_AFTER_BATCHES;
                self.queue.put_back(first.items.into_iter());
            }
            Appended::Taken(taken) => self.answer_taken(first.items, &taken),
            Appended::ClockAhead(reason) => {
                tracing::error!(%reason, "commands are refused until the clocks agree");
                self.condition.set(NotReady::ClockAhead);
                for item in first.items {
                    item.answer(Err(SubmitError::Unavailable(reason.clone())));
                }
            }
            Appended::Refused(reason) => self.halve(first.items, &reason),
        }
        Ok(())
    }

    /// Answers those whose keys have records; the others are decided again.
    fn answer_taken(&mut self, items: Vec<Item<M::Command>>, taken: &[TakenKey]) {
        let mut others = Vec::new();
        for item in items {
            let key = &item.submission.key;
            let record = taken.iter().find(|t| t.principal == key.principal && t.key == key.key);
            let Some(record) = record else {
                others.push(item);
                continue;
            };
            let answer = if record.fingerprint != key.fingerprint {
                Err(SubmitError::KeyReused)
            } else if let Some(verdict) = &record.verdict {
                Ok(Outcome { verdict: verdict.clone(), repeated: true })
            } else {
                let damaged = format!("idempotency record {:?} is damaged", key.key);
                Err(SubmitError::Corrupt(damaged))
            };
            item.answer(answer);
        }
        self.queue.put_back(others.into_iter());
    }

    /// PostgreSQL refused a batch for its data: it is halved until the guilty command stands
    /// alone.
    fn halve(&mut self, items: Vec<Item<M::Command>>, reason: &str) {
        let refused = items.len();
        if refused > 1 {
            self.pieces.push_front(refused - refused / 2);
            self.pieces.push_front(refused / 2);
            self.queue.put_back(items.into_iter());
            return;
        }
        for item in items {
            tracing::warn!(%reason, "a command's data was refused by the database");
            let refused = "the database refused its data".to_owned();
            item.answer(Err(SubmitError::Unstorable(refused)));
        }
    }
}

//! What has been handed to the producer, and what Kafka has acknowledged of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{error::FeedError, trouble::Trouble};

/// Events of one tenant with consecutive positions, handed over with consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    tenant: i32,
    /// Number and position of the first event.
    number: usize,
    position: i64,
    /// Number of the last event.
    last_number: usize,
}

/// Progress of one producer. Every record has a number, from 1 in the order of handing over.
#[derive(Debug, Default)]
pub(super) struct State {
    handed: usize,
    acknowledged: usize,
    runs: VecDeque<Run>,
    /// Last acknowledged position of each tenant.
    pub(super) positions: HashMap<i32, i64>,
    /// Offset after the last acknowledged record, and whose event it is.
    pub(super) reached: Option<(i64, (i32, i64))>,
    failure: Option<String>,
}

impl State {
    /// Announces `count` consecutive events before they are handed over; their first number.
    fn announce(&mut self, tenant: i32, position: i64, count: usize) -> usize {
        let number = self.handed + 1;
        self.handed += count;
        self.runs.push_back(Run { tenant, number, position, last_number: self.handed });
        number
    }

    /// Takes an acknowledgement into account.
    fn acknowledge(&mut self, number: usize, offset: i64) -> Result<(), String> {
        let run = self.runs.front().copied();
        let run = run
            .filter(|_| number == self.acknowledged + 1)
            .ok_or_else(|| format!("record {number} acknowledged after {}", self.acknowledged))?;
        // A broker that lost its log, or whose topic was made anew, takes any sequence number.
        if let Some((next, _)) = self.reached.filter(|(next, _)| offset < *next) {
            return Err(format!(
                "the topic lost its end or was made anew: offset {offset} given out after {}",
                next - 1
            ));
        }
        self.acknowledged = number;
        let ahead = i64::try_from(number - run.number).expect("a run is short");
        let position = run.position + ahead;
        self.positions.insert(run.tenant, position);
        self.reached = Some((offset + 1, (run.tenant, position)));
        if number == run.last_number {
            self.runs.pop_front();
        }
        Ok(())
    }
}

/// Context of the relay's producer.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// Woken by acknowledgements.
    pub(super) acknowledged: Notify,
    /// Cancelled when a delivery fails: nothing may be handed over any more.
    pub(super) failed: CancellationToken,
    trouble: Trouble,
}

impl Progress {
    /// Of a producer that goes on from these positions.
    pub(super) fn new(what: &str, positions: HashMap<i32, i64>) -> Self {
        Self {
            state: Mutex::new(State { positions, ..State::default() }),
            acknowledged: Notify::new(),
            failed: CancellationToken::new(),
            trouble: Trouble::new(what),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while holding it")
    }

    /// Announces `count` consecutive events before they are handed over; their first number.
    pub(super) fn announce(&self, tenant: i32, position: i64, count: usize) -> usize {
        self.state().announce(tenant, position, count)
    }

    /// Records acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.state().acknowledged
    }

    /// Waits for a delivery to fail; why.
    pub(super) async fn failure(&self) -> FeedError {
        self.failed.cancelled().await;
        FeedError::KafkaFatal(self.state().failure.clone().unwrap_or_default())
    }

    fn fail(&self, reason: String) {
        self.state().failure.get_or_insert(reason);
        self.failed.cancel();
    }
}

/// Shared with the producer, which wants to own its context.
#[derive(Debug)]
pub(super) struct Acknowledgements(pub(super) std::sync::Arc<Progress>);

impl ClientContext for Acknowledgements {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.trouble.report(&format_args!("{error} ({reason})"));
    }
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let taken = match result {
            Ok(record) => self.0.state().acknowledge(number, record.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        match taken {
            Ok(()) => {
                self.0.trouble.over();
                self.0.acknowledged.notify_one();
            }
            Err(reason) => self.0.fail(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_move_positions_and_offset() {
        let mut state = State::default();
        assert_eq!(state.announce(1, 11, 2), 1);
        assert_eq!(state.announce(2, 1, 1), 3);
        state.acknowledge(1, 100).unwrap();
        assert_eq!(state.positions, HashMap::from([(1, 11)]));
        state.acknowledge(2, 101).unwrap();
        // Another relay's record may stand between.
        state.acknowledge(3, 105).unwrap();
        assert_eq!(state.positions, HashMap::from([(1, 12), (2, 1)]));
        assert_eq!(state.reached, Some((106, (2, 1))));
        assert!(state.runs.is_empty());
    }

    #[test]
    fn acknowledgements_out_of_order_are_refused() {
        let mut state = State::default();
        state.announce(1, 1, 3);
        state.acknowledge(1, 0).unwrap();
        assert!(state.acknowledge(3, 2).is_err());
        assert!(state.acknowledge(1, 0).is_err());
        assert!(State::default().acknowledge(1, 0).is_err());
    }

    #[test]
    fn offsets_that_go_back_tell_of_a_lost_topic() {
        let mut state = State::default();
        state.announce(1, 1, 2);
        state.acknowledge(1, 7).unwrap();
        assert!(state.acknowledge(2, 0).unwrap_err().contains("made anew"));
        assert_eq!(state.positions, HashMap::from([(1, 1)]));
    }
}

//! Who follows how much: limits, and the end of streams whose API key has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use daybook_identity::{ApiKeys, Principal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{limits::Limits, problem::Failure};

/// How often it is looked which keys have ended: one question for all streams. Together with the
/// time that it takes, streams end within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// All streams of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<Taken>>,
    /// Told when a key is new here: it may have ended while it was still believed.
    new_key: Arc<Notify>,
    streams: usize,
    streams_of_principal: usize,
}

#[derive(Default)]
struct Taken {
    streams: usize,
    by_principal: HashMap<(i32, String), usize>,
    by_key: HashMap<String, KeyInUse>,
}

struct KeyInUse {
    streams: usize,
    ended: CancellationToken,
}

/// The place of one stream; given back when it is dropped.
pub(crate) struct Place {
    places: Places,
    principal: (i32, String),
    key: String,
    ended: CancellationToken,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            taken: Arc::default(),
            new_key: Arc::default(),
            streams: limits.streams,
            streams_of_principal: limits.streams_of_principal,
        }
    }

    /// A place for one more stream. `key` is the public part of the API key that asks.
    pub(crate) fn take(&self, principal: &Principal, key: &str) -> Result<Place, Failure> {
        let mut taken = self.lock();
        if taken.streams >= self.streams {
            return Err(Failure::Busy { limit: "streams", at_most: self.streams });
        }
        let principal = (principal.tenant, principal.id.clone());
        let own = taken.by_principal.entry(principal.clone()).or_default();
        if *own >= self.streams_of_principal {
            return Err(Failure::TooManyStreams { at_most: self.streams_of_principal });
        }
        *own += 1;
        taken.streams += 1;
        let in_use = taken.by_key.entry(key.to_owned()).or_insert_with(|| {
            self.new_key.notify_one();
            KeyInUse { streams: 0, ended: CancellationToken::new() }
        });
        in_use.streams += 1;
        let ended = in_use.ended.clone();
        gauge(taken.streams);
        Ok(Place { places: self.clone(), principal, key: key.to_owned(), ended })
    }

    /// Ends the streams of keys that have ended, until shutdown.
    pub(super) async fn watch_keys(&self, keys: &ApiKeys, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.new_key.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let in_use: Vec<String> = self.lock().by_key.keys().cloned().collect();
            if in_use.is_empty() {
                continue;
            }
            let ended = match keys.ended(&in_use).await {
                Ok(ended) => ended,
                Err(error) => {
                    // Without a database there is nothing new to be seen either.
                    tracing::debug!(%error, "it can't be looked which keys have ended");
                    continue;
                }
            };
            let mut taken = self.lock();
            for key in ended {
                if let Some(in_use) = taken.by_key.remove(&key) {
                    in_use.ended.cancel();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no code panics while holding it")
    }
}

impl Place {
    /// Completes when the key has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.streams -= 1;
        if let Some(own) = taken.by_principal.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                taken.by_principal.remove(&self.principal);
            }
        }
        // A key that has ended is no longer there.
        if let Some(in_use) = taken.by_key.get_mut(&self.key)
            && !self.ended.is_cancelled()
        {
            in_use.streams -= 1;
            if in_use.streams == 0 {
                taken.by_key.remove(&self.key);
            }
        }
        gauge(taken.streams);
    }
}

fn gauge(streams: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    metrics::gauge!("daybook_live_streams").set(streams as f64);
}

#[cfg(test)]
mod tests {
    use daybook_identity::Role;

    use super::*;

    fn principal(id: &str) -> Principal {
        Principal { tenant: 1, id: id.to_owned(), role: Role::Operator, subject: None }
    }

    #[test]
    fn places_are_limited_in_all_and_by_principal_and_given_back() {
        let limits = Limits { streams: 3, streams_of_principal: 2, ..Limits::default() };
        let places = Places::new(&limits);
        let first = places.take(&principal("a"), "k1").unwrap();
        let second = places.take(&principal("a"), "k2").unwrap();
        assert!(matches!(
            places.take(&principal("a"), "k1"),
            Err(Failure::TooManyStreams { at_most: 2 })
        ));
        let third = places.take(&principal("b"), "k3").unwrap();
        assert!(matches!(
            places.take(&principal("c"), "k4"),
            Err(Failure::Busy { limit: "streams", at_most: 3 })
        ));
        drop((first, second));
        places.take(&principal("c"), "k4").unwrap();
        drop(third);
        let taken = places.lock();
        assert_eq!((taken.streams, taken.by_principal.len(), taken.by_key.len()), (0, 0, 0));
    }
}

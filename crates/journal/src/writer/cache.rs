//! States of streams as of the head that the writer has seen.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lru::LruCache;

use super::session::ReadEvent;
use crate::model::CorruptEvent;

/// The journal's end as the writer knows it: a position and the mac of the event there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: i64,
    pub(super) mac: Option<Vec<u8>>,
    pub(super) recorded_at: Option<DateTime<Utc>>,
}

/// One stream at the head.
#[derive(Debug)]
pub(super) struct Cached<S> {
    /// Version of its last event, 0 without events.
    pub(super) version: i32,
    /// Position of its last event applied here, 0 without events.
    pub(super) position: i64,
    /// `Err` where an event of it could not be folded.
    pub(super) state: Result<Option<Arc<S>>, CorruptEvent>,
}

impl<S> Clone for Cached<S> {
    fn clone(&self) -> Self {
        Self { version: self.version, position: self.position, state: self.state.clone() }
    }
}

impl<S> Default for Cached<S> {
    fn default() -> Self {
        Self { version: 0, position: 0, state: Ok(None) }
    }
}

/// Streams by name, all of them as of one head.
pub(super) struct Cache<S> {
    head: Head,
    streams: LruCache<String, Cached<S>>,
    limit: usize,
}

impl<S: Clone> Cache<S> {
    pub(super) fn new(limit: usize) -> Self {
        Self { head: Head::default(), streams: LruCache::unbounded(), limit: limit.max(1) }
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.head = Head::default();
    }

    /// Starts at another head, knowing no stream.
    pub(super) fn restart(&mut self, head: Head) {
        self.streams.clear();
        self.head = head;
    }

    /// A stream that is known, whatever its condition.
    pub(super) fn peek(&mut self, stream: &str) -> Option<&Cached<S>> {
        self.streams.get(stream)
    }

    /// Starts a stream anew, its events to follow from version 1.
    pub(super) fn begin(&mut self, stream: String) {
        self.streams.put(stream, Cached::default());
    }

    /// Applies an event to its stream if that is known and has not seen it.
    pub(super) fn fold(
        &mut self,
        event: &ReadEvent,
        evolve: impl FnOnce(Option<S>) -> Result<S, CorruptEvent>,
    ) -> Result<(), CorruptEvent> {
        let Some(cached) = self.streams.peek_mut(&event.stream) else { return Ok(()) };
        if event.position <= cached.position {
            return Ok(());
        }
        cached.version = event.version;
        cached.position = event.position;
        let before = match &mut cached.state {
            Ok(state) => state.take(),
            // Broken before: it stays broken, and has been reported.
            Err(_) => return Ok(()),
        };
        match evolve(before.map(Arc::unwrap_or_clone)) {
            Ok(state) => {
                cached.state = Ok(Some(Arc::new(state)));
                Ok(())
            }
            Err(error) => {
                cached.state = Err(error.clone());
                Err(error)
            }
        }
    }

    pub(super) fn advance(&mut self, head: Head) {
        if head.position > self.head.position {
            self.head = head;
        }
    }

    /// Takes over what a batch that has committed left behind. Only here streams fall out, so that
    /// a batch never loses what it has read, however much that is.
    pub(super) fn commit(&mut self, changed: Vec<(String, Cached<S>)>, head: Head) {
        for (stream, cached) in changed {
            self.streams.put(stream, cached);
        }
        while self.streams.len() > self.limit {
            self.streams.pop_lru();
        }
        self.head = head;
    }
}

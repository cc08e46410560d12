//! States of streams as of the head that the writer has seen.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lru::LruCache;

use super::session::{ReadEvent, ReadSnapshot};
use crate::model::{CorruptEvent, Model};

/// What an entry takes beside its state and twice its name, bytes.
const ENTRY_BYTES: usize = 160;

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
    /// Version of the newest snapshot that this process has read or offered.
    pub(super) snapshot: i32,
}

impl<S> Clone for Cached<S> {
    fn clone(&self) -> Self {
        Self {
            version: self.version,
            position: self.position,
            state: self.state.clone(),
            snapshot: self.snapshot,
        }
    }
}

impl<S> Default for Cached<S> {
    fn default() -> Self {
        Self { version: 0, position: 0, state: Ok(None), snapshot: 0 }
    }
}

struct Entry<S> {
    cached: Cached<S>,
    bytes: usize,
    /// The cache's time when it was last asked for.
    used: u64,
}

/// Streams by name, all of them as of one head.
pub(super) struct Cache<M: Model> {
    model: Arc<M>,
    head: Head,
    streams: LruCache<String, Entry<M::State>>,
    bytes: usize,
    limit: usize,
    time: u64,
}

impl<M: Model> Cache<M> {
    pub(super) fn new(model: Arc<M>, limit: usize) -> Self {
        Self {
            model,
            head: Head::default(),
            streams: LruCache::unbounded(),
            bytes: 0,
            limit,
            time: 0,
        }
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Starts at another head, knowing no stream.
    pub(super) fn restart(&mut self, head: Head) {
        self.streams.clear();
        self.bytes = 0;
        self.head = head;
    }

    /// Lets time pass; streams asked for from now on are younger than what it returns.
    pub(super) fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// A stream that is known, whatever its condition.
    pub(super) fn get(&mut self, stream: &str) -> Option<&Cached<M::State>> {
        let entry = self.streams.get_mut(stream)?;
        entry.used = self.time;
        Some(&entry.cached)
    }

    fn put(&mut self, stream: String, cached: Cached<M::State>) {
        let bytes = self.weigh(&stream, &cached);
        self.bytes += bytes;
        let entry = Entry { cached, bytes, used: self.time };
        if let Some((_, replaced)) = self.streams.push(stream, entry) {
            self.bytes -= replaced.bytes;
        }
    }

    fn weigh(&self, stream: &str, cached: &Cached<M::State>) -> usize {
        let state = match &cached.state {
            Ok(Some(state)) => self.model.weight(state),
            Ok(None) | Err(_) => 0,
        };
        ENTRY_BYTES + 2 * stream.len() + state
    }

    /// Starts a stream anew, its events to follow: from version 1, or behind its snapshot.
    pub(super) fn begin(&mut self, stream: String, snapshot: Option<(ReadSnapshot, M::State)>) {
        let cached = snapshot.map_or_else(Cached::default, |(read, state)| Cached {
            version: read.version,
            position: read.position,
            state: Ok(Some(Arc::new(state))),
            snapshot: read.version,
        });
        self.put(stream, cached);
    }

    /// Applies an event to its stream if that is known and has not seen it. Without the event's
    /// data the stream is forgotten.
    pub(super) fn fold(&mut self, event: &ReadEvent) -> Result<(), CorruptEvent> {
        let Some(entry) = self.streams.peek_mut(&event.stream) else { return Ok(()) };
        let cached = &mut entry.cached;
        if event.position <= cached.position {
            return Ok(());
        }
        let Some(data) = &event.data else {
            self.forget(&event.stream);
            return Ok(());
        };
        cached.version = event.version;
        cached.position = event.position;
        let before = match &mut cached.state {
            Ok(state) => state.take(),
            // Broken before: it stays broken, and has been reported.
            Err(_) => return Ok(()),
        };
        let after =
            self.model.decode(&event.kind, event.schema_version, data).and_then(|decoded| {
                self.model.evolve(&event.stream, before.map(Arc::unwrap_or_clone), &decoded)
            });
        match after {
            Ok(state) => {
                let weight = self.model.weight(&state);
                cached.state = Ok(Some(Arc::new(state)));
                let bytes = ENTRY_BYTES + 2 * event.stream.len() + weight;
                self.bytes = self.bytes - entry.bytes + bytes;
                entry.bytes = bytes;
                Ok(())
            }
            Err(error) => {
                cached.state = Err(error.clone());
                Err(error)
            }
        }
    }

    /// Makes a stream unknown: it is read again when it is needed.
    pub(super) fn forget(&mut self, stream: &str) {
        if let Some(gone) = self.streams.pop(stream) {
            self.bytes -= gone.bytes;
        }
    }

    pub(super) fn advance(&mut self, head: Head) {
        if head.position > self.head.position {
            self.head = head;
        }
    }

    /// Takes over what a batch that has committed left behind.
    pub(super) fn commit(
        &mut self,
        changed: impl IntoIterator<Item = (String, Cached<M::State>)>,
        head: Head,
    ) {
        for (stream, cached) in changed {
            self.put(stream, cached);
        }
        self.head = head;
    }

    /// Lets the least recently used streams go that are beyond the limit and that nobody has asked
    /// for since `needed`.
    pub(super) fn shrink(&mut self, needed: u64) {
        while self.bytes > self.limit {
            match self.streams.peek_lru() {
                Some((_, oldest)) if oldest.used < needed => {}
                Some(_) | None => return,
            }
            if let Some((_, gone)) = self.streams.pop_lru() {
                self.bytes -= gone.bytes;
            }
        }
    }

    /// If a stream has grown by so many events since its newest snapshot, its condition; from then
    /// on that counts as its snapshot.
    pub(super) fn due_for_snapshot(
        &mut self,
        stream: &str,
        events: i32,
    ) -> Option<Cached<M::State>> {
        let cached = &mut self.streams.peek_mut(stream)?.cached;
        if cached.version - cached.snapshot < events {
            return None;
        }
        cached.snapshot = cached.version;
        Some(cached.clone())
    }
}

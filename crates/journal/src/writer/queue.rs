//! Commands that have been received and not decided, in order, and what they wait for.

use std::collections::{HashSet, VecDeque};

use super::{Item, batch::View};
use crate::model::{Loaded, Model};

/// A command that waits.
struct Waiting<C> {
    item: Item<C>,
    /// Whether everything it reads is in memory, as far as it can say what it reads.
    warm: bool,
    /// The cache's time when its streams were first asked for; `None`: not yet.
    since: Option<u64>,
    /// Streams that it turned out to need beyond what the model said.
    also: Vec<String>,
}

/// Commands in the order in which they are to be decided.
pub(super) struct Queue<C> {
    waiting: VecDeque<Waiting<C>>,
}

impl<C> Default for Queue<C> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<C: Send + Sync + 'static> Queue<C> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push_back(&mut self, item: Item<C>) {
        self.waiting.push_back(Waiting { item, warm: false, since: None, also: Vec::new() });
    }

    /// Puts commands back, in their order, before all others.
    pub(super) fn put_back(&mut self, items: impl DoubleEndedIterator<Item = Item<C>>) {
        for item in items.rev() {
            let waiting = Waiting { item, warm: false, since: None, also: Vec::new() };
            self.waiting.push_front(waiting);
        }
    }

    /// Puts the first one back because it also needs this stream.
    pub(super) fn put_back_cold(&mut self, item: Item<C>, stream: String) {
        let waiting = Waiting { item, warm: false, since: None, also: vec![stream] };
        self.waiting.push_front(waiting);
    }

    /// Takes the first command if everything it reads is in memory.
    pub(super) fn pop_warm(&mut self) -> Option<Item<C>> {
        if !self.has_warm() {
            return None;
        }
        self.waiting.pop_front().map(|first| first.item)
    }

    pub(super) fn has_warm(&self) -> bool {
        self.waiting.front().is_some_and(|first| first.warm)
    }

    /// What was in memory is gone: every command is looked at anew.
    pub(super) fn forget(&mut self) {
        for waiting in &mut self.waiting {
            waiting.warm = false;
        }
    }

    /// Drops those whose callers no longer wait.
    pub(super) fn drop_abandoned(&mut self) {
        self.waiting.retain(|waiting| !waiting.item.reply.is_closed());
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The cache's time since which streams have been asked for by commands that still wait.
    pub(super) fn needed_since(&self) -> u64 {
        self.waiting.iter().map_while(|waiting| waiting.since).min().unwrap_or(u64::MAX)
    }

    /// Looks up what the first `limit` commands read, and returns the names of the streams among
    /// it that are not in memory.
    pub(super) fn scan<M>(&mut self, view: &mut View<'_, M>, limit: usize) -> Vec<String>
    where
        M: Model<Command = C>,
    {
        let now = view.tick();
        let mut cold = Vec::new();
        let mut seen = HashSet::new();
        for waiting in self.waiting.iter_mut().take(limit).filter(|waiting| !waiting.warm) {
            waiting.since.get_or_insert(now);
            let mut loaded = Loaded::default();
            let mut also = waiting.also.clone();
            let mut missing = false;
            // Follows the names through what is in memory; asks again only after they grew.
            loop {
                let mut grew = false;
                let mut names = view.reads(&waiting.item.submission.command, &loaded);
                if names.len() > view.streams_per_command() {
                    // It will be refused for that when it is decided on.
                    missing = false;
                    break;
                }
                names.append(&mut also);
                for stream in names {
                    if loaded.contains(&stream) {
                        continue;
                    }
                    if let Some(cached) = view.get(&stream) {
                        // One that can't be folded is reported when it is decided on.
                        let state = cached.state.clone().unwrap_or(None);
                        loaded.insert(stream, state);
                        grew = true;
                    } else {
                        missing = true;
                        if seen.insert(stream.clone()) {
                            cold.push(stream);
                        }
                    }
                }
                if !grew {
                    break;
                }
            }
            waiting.warm = !missing;
        }
        cold
    }
}

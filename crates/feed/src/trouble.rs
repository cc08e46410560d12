//! Says that something fails, and that it works again: once each, however often it is tried.

use std::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// State of one thing that can fail for a while.
#[derive(Debug)]
pub(crate) struct Trouble {
    what: String,
    failing: AtomicBool,
}

impl Trouble {
    /// Nothing wrong yet with `what`, a few words for the log.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), failing: AtomicBool::new(false) }
    }

    /// It failed: a warning the first time, for those who debug from then on.
    pub(crate) fn report(&self, error: &dyn Display) {
        if self.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "{} still failing", self.what);
        } else {
            tracing::warn!(%error, "{} failing; trying again until it works", self.what);
        }
    }

    /// It works.
    pub(crate) fn over(&self) {
        // Read first: this is called per record, and a read alone does not bounce the cache line.
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("{} works again", self.what);
        }
    }
}

/// Pauses between tries, growing from a quarter of a second to five seconds.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_anew() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), Backoff::FIRST);
    }
}

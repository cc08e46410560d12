//! What one subscriber is sent: answers, signs of life, and why it ends (WHATWG HTML §9.2).

use std::{fmt::Write as _, time::Duration};

use futures::{Stream, stream};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{group::State, places::Place};
use crate::positions::Positions;

/// Silence after which a comment is sent, so that nobody on the way takes the stream for dead.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time after which a client should come back, milliseconds: the least, and how much more at most,
/// so that not all come back at once.
const RETRY_MS: u128 = 1_000;
const RETRY_SPREAD_MS: u128 = 4_000;
/// Names what `retry` can't: whether coming back is of any use.
pub(crate) const SHUTDOWN: &str = "shutdown";
pub(crate) const KEY_ENDED: &str = "key-ended";

struct Subscriber {
    answers: watch::Receiver<State>,
    place: Place,
    positions: Positions,
    shutdown: CancellationToken,
    /// Sent first.
    opening: Option<String>,
    /// Number of the last answer sent.
    serial: u64,
    heard: Instant,
    ended: bool,
}

/// The answers as server-sent events. One that is current since `seen` or before isn't sent again.
pub(super) fn events(
    mut answers: watch::Receiver<State>,
    place: Place,
    seen: Option<i64>,
    positions: Positions,
    shutdown: CancellationToken,
) -> impl Stream<Item = String> {
    let (mut opening, mut serial) = (retry(), 0);
    if let Some(shown) = &answers.borrow_and_update().shown {
        serial = shown.serial;
        if seen.is_none_or(|seen| seen < shown.position) {
            opening.push_str(&event(&positions.show(shown.position), &shown.body));
        } else {
            opening.push_str(BEAT);
        }
    }
    let subscriber = Subscriber {
        answers,
        place,
        positions,
        shutdown,
        opening: Some(opening),
        serial,
        heard: Instant::now(),
        ended: false,
    };
    stream::unfold(subscriber, async |mut subscriber| {
        let text = subscriber.next().await?;
        subscriber.heard = Instant::now();
        Some((text, subscriber))
    })
}

/// A sign of life.
pub(crate) const BEAT: &str = ":\n\n";

impl Subscriber {
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        loop {
            tokio::select! {
                biased;
                () = self.place.ended() => return Some(self.end(KEY_ENDED)),
                () = self.shutdown.cancelled() => return Some(self.end(SHUTDOWN)),
                changed = self.answers.changed() => {
                    if changed.is_err() {
                        return Some(self.end(SHUTDOWN));
                    }
                    let state = self.answers.borrow_and_update();
                    if let Some(reason) = state.end {
                        drop(state);
                        return Some(self.end(reason));
                    }
                    if let Some(shown) = state.shown.as_ref().filter(|s| s.serial != self.serial) {
                        self.serial = shown.serial;
                        let id = self.positions.show(shown.position);
                        return Some(event(&id, &shown.body));
                    }
                }
                () = tokio::time::sleep_until(self.heard + HEARTBEAT) => {
                    return Some(BEAT.to_owned());
                }
            }
        }
    }

    /// The last event.
    fn end(&mut self, reason: &str) -> String {
        self.ended = true;
        last(reason)
    }
}

/// The event that says why there are no more, and when to come back.
pub(crate) fn last(reason: &str) -> String {
    let mut text = retry();
    write!(text, "event: end\ndata: {{\"reason\":\"{reason}\"}}\n\n")
        .expect("writing to a string can't fail");
    text
}

fn event(id: &str, body: &str) -> String {
    format!("id: {id}\ndata: {body}\n\n")
}

/// When to come back.
pub(crate) fn retry() -> String {
    format!("retry: {}\n\n", RETRY_MS + Uuid::new_v4().as_u128() % RETRY_SPREAD_MS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daybook_identity::{Principal, Role};
    use futures::StreamExt;

    use super::*;
    use crate::{
        limits::Limits,
        live::{group::Shown, places::Places},
    };

    struct Followed {
        group: watch::Sender<State>,
        shutdown: CancellationToken,
        places: Places,
    }

    impl Followed {
        fn new() -> Self {
            let followed = Self {
                group: watch::Sender::default(),
                shutdown: CancellationToken::new(),
                places: Places::new(&Limits::default()),
            };
            followed.show(1, 5, "{}");
            followed
        }

        fn show(&self, serial: u64, position: i64, body: &str) {
            let shown = Some(Shown { serial, position, body: Arc::from(body) });
            self.group.send_replace(State { checked: position, shown, end: None });
        }

        fn follow(&self, seen: Option<i64>) -> std::pin::Pin<Box<impl Stream<Item = String>>> {
            let principal =
                Principal { tenant: 1, id: "a".to_owned(), role: Role::Operator, subject: None };
            let place = self.places.take(&principal, "k").unwrap();
            let (answers, shutdown) = (self.group.subscribe(), self.shutdown.clone());
            Box::pin(events(answers, place, seen, Positions::default(), shutdown))
        }
    }

    /// Without the time to come back after, which is drawn.
    fn told(text: Option<String>) -> String {
        let text = text.unwrap();
        let Some(rest) = text.strip_prefix("retry: ") else { return text };
        let (ms, rest) = rest.split_once("\n\n").unwrap();
        assert!((1_000..5_000).contains(&ms.parse::<u32>().unwrap()));
        rest.to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn the_current_answer_comes_first_then_each_that_is_another_and_signs_of_life() {
        let followed = Followed::new();
        let mut events = followed.follow(None);
        assert_eq!(told(events.next().await), "id: 5\ndata: {}\n\n");
        let quiet = Instant::now();
        assert_eq!(told(events.next().await), ":\n\n");
        assert_eq!(quiet.elapsed(), HEARTBEAT);
        followed.show(2, 7, "[1]");
        assert_eq!(told(events.next().await), "id: 7\ndata: [1]\n\n");
        // checked again, and the same
        followed.show(2, 7, "[1]");
        assert_eq!(told(events.next().await), ":\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_subscriber_is_sent_the_newest_answer_only() {
        let followed = Followed::new();
        let mut events = followed.follow(None);
        events.next().await.unwrap();
        for serial in 2..1_000 {
            followed.show(serial, 10, &serial.to_string());
        }
        assert_eq!(told(events.next().await), "id: 10\ndata: 999\n\n");
        assert_eq!(told(events.next().await), ":\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_not_sent_again() {
        let followed = Followed::new();
        for (seen, first) in
            [(Some(4), "id: 5\ndata: {}\n\n"), (Some(5), ":\n\n"), (Some(9), ":\n\n")]
        {
            assert_eq!(told(followed.follow(seen).next().await), first);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_event_says_why_there_are_no_more() {
        let end = |reason: &str| format!("event: end\ndata: {{\"reason\":\"{reason}\"}}\n\n");
        let followed = Followed::new();
        let mut events = followed.follow(None);
        events.next().await.unwrap();
        followed.group.send_modify(|state| state.end = Some("gone"));
        assert_eq!(told(events.next().await), end("gone"));
        assert_eq!(events.next().await, None);

        let followed = Followed::new();
        let mut events = followed.follow(None);
        events.next().await.unwrap();
        followed.shutdown.cancel();
        assert_eq!(told(events.next().await), end("shutdown"));
        assert_eq!(events.next().await, None);
    }
}

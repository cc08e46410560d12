//! `GET /v1/events/live`: the journal as it grows, as server-sent events (WHATWG HTML §9.2).

use std::{fmt::Write as _, pin::Pin, time::Duration};

use daybook_identity::Principal;
use daybook_journal::{JournalError, Page, StoredEvent};
use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::{Selection, count_sent, encode, invalid};
use crate::{
    app::{App, Request, set_position},
    format,
    live::{self, Place},
    positions::{Positions, Sought},
    problem::{Failure, Part},
    request,
};

/// Bytes after which a piece is sent: in memory are one page of events and one piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Why a stream ends, beside [`live::SHUTDOWN`] and [`live::KEY_ENDED`].
const COMPLETE: &str = "complete";
const TOO_SLOW: &str = "too-slow";
const ANOTHER_HISTORY: &str = "another-history";
const FAILED: &str = "failed";

/// Begins to follow the journal: after the last event that the client has, after a position, or
/// from now on.
pub(crate) async fn follow(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    format::check(&request.headers, live::EVENT_STREAM)?;
    let Selection { after, filter } = Selection::take(request::query(&request.query)?)?;
    let last = last_event_id(request)?;
    let head = app.reader.head(principal.tenant).await?;
    let after = last.or(after).unwrap_or(head);
    if after > head {
        // Waiting for the journal to get there would leave out whatever comes before.
        return Err(beyond(last.is_some(), head));
    }
    let place = app.hub.place(principal, request::bearer(&request.headers).unwrap_or_default())?;
    let pages = app.reader.follow_pages(principal.tenant, after, filter, &app.heads);
    let positions = request.positions.clone();
    let follower = Follower {
        pages: Box::pin(pages),
        events: Vec::new().into_iter(),
        reached: after,
        told: after,
        opening: true,
        heard: Instant::now(),
        handed: None,
        // Sooner than the connection is cut: who reads on meanwhile is told why.
        patience: app.limits.write_wait / 2,
        place,
        positions: positions.clone(),
        shutdown: app.shutdown.clone(),
        ended: false,
    };
    let mut response = live::response(follower.sent());
    set_position(&mut response, &positions, after);
    Ok(response)
}

/// The position in `Last-Event-ID`. One that is none is refused: events would be left out.
fn last_event_id(request: &Request) -> Result<Option<i64>, Failure> {
    let Some(given) = request.headers.get("last-event-id") else { return Ok(None) };
    let given = given.to_str().map(str::trim).unwrap_or_default();
    match request.positions.read(given) {
        Some(Sought::Position(position)) => Ok(Some(position)),
        Some(Sought::Elsewhere) | None => {
            Err(header("Last-Event-ID is the id of an event of this journal.".to_owned()))
        }
    }
}

fn beyond(of_header: bool, head: i64) -> Failure {
    let detail = format!(
        "The journal ends at position {head}. If you were sent a later one, it has another \
         history since (a restore): read it anew."
    );
    if of_header { header(detail) } else { invalid("after", detail) }
}

fn header(detail: String) -> Failure {
    Failure::Invalid { part: Part::Header, field: "last-event-id".to_owned(), detail }
}

type Pages = Pin<Box<dyn Stream<Item = Result<Page, JournalError>> + Send>>;

/// One client's stream.
struct Follower {
    pages: Pages,
    /// Events of the last page that are not sent yet.
    events: std::vec::IntoIter<StoredEvent>,
    /// Up to here everything was looked at, and what is not in `events` was sent.
    reached: i64,
    /// The newest position that the client knows.
    told: i64,
    opening: bool,
    heard: Instant,
    /// When the last piece was handed over that may still be on its way.
    handed: Option<Instant>,
    /// Time in which a piece must be taken.
    patience: Duration,
    place: Place,
    positions: Positions,
    shutdown: CancellationToken,
    ended: bool,
}

impl Follower {
    /// What is sent, each piece made when the connection has room for it.
    fn sent(self) -> impl Stream<Item = String> {
        stream::unfold(self, async |mut follower| {
            let text = follower.next().await?;
            follower.heard = Instant::now();
            follower.handed = Some(follower.heard);
            Some((text, follower))
        })
    }

    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        // Asked again at once where the connection has taken the last piece.
        if self.handed.take().is_some_and(|handed| handed.elapsed() > self.patience) {
            metrics::counter!("daybook_live_too_slow_total").increment(1);
            return Some(self.end(TOO_SLOW));
        }
        if std::mem::take(&mut self.opening) {
            // A client that comes back before there was an event goes on from here too.
            return Some(format!("{}{}", live::retry(), self.progress()));
        }
        let beat = self.heard + live::HEARTBEAT;
        let found = tokio::select! {
            biased;
            () = self.place.ended() => Err(live::KEY_ENDED),
            () = self.shutdown.cancelled() => Err(live::SHUTDOWN),
            found = piece(&mut self.pages, &mut self.events, &mut self.reached, &self.positions) =>
                found.map(Some),
            () = tokio::time::sleep_until(beat) => Ok(None),
        };
        match found {
            Ok(Some((text, last))) => {
                self.told = last;
                Some(text)
            }
            Ok(None) if self.reached > self.told => Some(self.progress()),
            Ok(None) => Some(live::BEAT.to_owned()),
            Err(reason) => Some(self.end(reason)),
        }
    }

    /// Says how far was looked, without an event: a client that comes back goes on from there.
    fn progress(&mut self) -> String {
        self.told = self.reached;
        format!("id: {}\n\n", self.positions.show(self.reached))
    }

    fn end(&mut self, reason: &'static str) -> String {
        self.ended = true;
        live::last(reason)
    }
}

/// The next events that there are, and the last one's position; or why there are no more. Given up
/// in the middle, it loses nothing.
async fn piece(
    pages: &mut Pages,
    events: &mut std::vec::IntoIter<StoredEvent>,
    reached: &mut i64,
    positions: &Positions,
) -> Result<(String, i64), &'static str> {
    while events.as_slice().is_empty() {
        match pages.next().await {
            None => return Err(COMPLETE),
            Some(Ok(page)) => {
                *reached = page.reached;
                *events = page.events.into_iter();
            }
            Some(Err(JournalError::AnotherHistory)) => return Err(ANOTHER_HISTORY),
            Some(Err(error)) => {
                tracing::error!(%error, "the journal can't be followed");
                return Err(FAILED);
            }
        }
    }
    let (mut text, mut last, before) = (String::new(), 0, events.len());
    while text.len() < PIECE_BYTES
        && let Some(event) = events.next()
    {
        let data = encode(&event).map_err(|failure| {
            tracing::error!(?failure, "an event can't be sent");
            FAILED
        })?;
        last = event.position;
        write!(text, "id: {}\ndata: {data}\n\n", positions.show(last))
            .expect("writing to a string can't fail");
    }
    count_sent("/v1/events/live", before - events.len());
    Ok((text, last))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use daybook_identity::Role;

    use super::*;
    use crate::{limits::Limits, live::Places};

    const PATIENCE: Duration = Duration::from_secs(15);

    fn page(position: i64, reached: i64) -> Page {
        let at = DateTime::from_timestamp_micros(0).unwrap();
        let event = StoredEvent {
            tenant: 1,
            position,
            stream: "stock-A".to_owned(),
            version: 1,
            kind: "StockReceived".to_owned(),
            schema_version: 1,
            data: "{}".to_owned(),
            meta: "{}".to_owned(),
            occurred_at: at,
            recorded_at: at,
            mac: vec![0; 33],
        };
        let events = if position > 0 { vec![event] } else { Vec::new() };
        Page { events, reached }
    }

    fn follow(
        pages: impl Stream<Item = Result<Page, JournalError>> + Send + 'static,
    ) -> Pin<Box<impl Stream<Item = String>>> {
        let principal =
            Principal { tenant: 1, id: "a".to_owned(), role: Role::Operator, subject: None };
        let follower = Follower {
            pages: Box::pin(pages),
            events: Vec::new().into_iter(),
            reached: 4,
            told: 4,
            opening: true,
            heard: Instant::now(),
            handed: None,
            patience: PATIENCE,
            place: Places::new(&Limits::default()).take(&principal, "k").unwrap(),
            positions: Positions::default(),
            shutdown: CancellationToken::new(),
            ended: false,
        };
        Box::pin(follower.sent())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_what_is_sent_is_told_so_and_no_more() {
        let mut sent = follow(stream::iter((5..).map(|n| Ok(page(n, n)))));
        assert!(sent.next().await.unwrap().ends_with("id: 4\n\n"));
        tokio::time::advance(PATIENCE).await;
        assert!(sent.next().await.unwrap().starts_with("id: 5\ndata: {"), "slow, and in time");
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        let end = sent.next().await.unwrap();
        assert!(end.ends_with("event: end\ndata: {\"reason\":\"too-slow\"}\n\n"), "{end}");
        assert_eq!(sent.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_lets_nothing_through_still_tells_how_far_it_looked() {
        let looked = stream::iter([Ok(page(0, 900)), Ok(page(0, 1_000))]);
        let mut sent = follow(looked.chain(stream::pending()));
        sent.next().await.unwrap();
        let quiet = Instant::now();
        assert_eq!(sent.next().await.unwrap(), "id: 1000\n\n");
        assert_eq!(quiet.elapsed(), live::HEARTBEAT);
        assert_eq!(sent.next().await.unwrap(), live::BEAT);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_range_or_with_the_history() {
        let reason = async |pages: Vec<Result<Page, JournalError>>| {
            let mut sent = follow(stream::iter(pages));
            let texts: Vec<String> = sent.by_ref().collect().await;
            texts.last().unwrap().split_once("reason\":\"").unwrap().1.replace("\"}\n\n", "")
        };
        assert_eq!(reason(vec![Ok(page(5, 5))]).await, COMPLETE);
        assert_eq!(reason(vec![Err(JournalError::AnotherHistory)]).await, ANOTHER_HISTORY);
        assert_eq!(reason(vec![Err(JournalError::DamagedCopy)]).await, FAILED);
        let mut damaged = page(5, 5);
        damaged.events[0].data = "{".to_owned();
        assert_eq!(reason(vec![Ok(damaged)]).await, FAILED);
    }
}

//! `GET /v1/streams/<stream>` and `GET /v1/events`: the journal as it stands, and as it grows.

mod live;

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_identity::Principal;
use daybook_journal::{Direction, EventFilter, StoredEvent, StreamRange};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use uuid::Uuid;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    app::{App, Request, json, set_position},
    body,
    problem::{Failure, Part},
    request,
};

/// Events on a page unless the client says otherwise.
const DEFAULT_PAGE: i64 = 1_000;
/// Types that one request may name.
const MAX_TYPES: usize = 100;
/// Media type of one JSON value a line.
const NDJSON: &str = "application/x-ndjson";

pub(crate) use live::follow;

/// An event as it is sent.
#[derive(Serialize)]
struct Event<'a> {
    position: i64,
    stream: &'a str,
    version: i32,
    r#type: &'a str,
    schema_version: i16,
    occurred_at: String,
    recorded_at: String,
    data: &'a RawValue,
    meta: &'a RawValue,
}

fn encode(event: &StoredEvent) -> Result<String, Failure> {
    let damaged = |error: serde_json::Error| {
        Failure::Internal(format!("event {} can't be sent: {error}", event.position))
    };
    serde_json::to_string(&Event {
        position: event.position,
        stream: &event.stream,
        version: event.version,
        r#type: &event.kind,
        schema_version: event.schema_version,
        occurred_at: time(event.occurred_at),
        recorded_at: time(event.recorded_at),
        data: serde_json::from_str(&event.data).map_err(damaged)?,
        meta: serde_json::from_str(&event.meta).map_err(damaged)?,
    })
    .map_err(damaged)
}

fn count_sent(route: &'static str, events: usize) {
    metrics::counter!("daybook_http_events_sent_total", "route" => route)
        .increment(u64::try_from(events).unwrap_or(0));
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One page of a stream, from either end, sent as it is read.
pub(crate) async fn stream(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let name = &request.path["stream"];
    let mut parameters = request::query(&request.query)?;
    let from = request::number(&mut parameters, "from_version", 1..=i32::MAX)?;
    let direction = parameters.remove("direction").map(|text| direction(&text)).transpose()?;
    let limit = limit(&mut parameters, app.limits.page_events)?;
    request::none_left(&parameters)?;
    if name.contains('\0') {
        return Err(Failure::NotFound);
    }

    // Where it ends now says what the page will hold: versions have no gap and events stay.
    let end = app.reader.stream_end(principal.tenant, name).await?.ok_or(Failure::NotFound)?;
    let direction = direction.unwrap_or_default();
    let span = Span::new(direction, from, limit, end.version);
    let next = json!(span.next.map(|version| version.to_string()));
    let mut response = if span.count == 0 {
        json(StatusCode::OK, format!(r#"{{"items":[],"next":{next}}}"#))
    } else {
        // An event is ready where its page is: a piece is at most one page.
        let pieces = app
            .reader
            .read_stream(
                principal.tenant,
                name,
                StreamRange { direction, from_version: Some(span.first), limit: Some(span.count) },
            )
            .ready_chunks(as_length(app.limits.page_events))
            .enumerate()
            .map(|(number, events)| {
                let mut text = String::new();
                for (place, event) in events.into_iter().enumerate() {
                    let first = number == 0 && place == 0;
                    text.push_str(if first { r#"{"items":["# } else { "," });
                    text.push_str(&encode(&event?)?);
                }
                Ok(text)
            })
            .chain(stream::once(async move { Ok(format!(r#"],"next":{next}}}"#)) }));
        body::flowing(pieces, "application/json").await?
    };
    set_position(&mut response, &request.positions, end.position);
    Ok(response)
}

/// What a page of a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    /// First version.
    first: i32,
    /// How many.
    count: i64,
    /// First version of the next page.
    next: Option<i32>,
}

impl Span {
    /// At most `limit` events from a version on, of a stream that ends at `end`.
    fn new(direction: Direction, from: Option<i32>, limit: i64, end: i32) -> Self {
        match direction {
            Direction::Forward => {
                let first = from.unwrap_or(1);
                let count = (i64::from(end) - i64::from(first) + 1).clamp(0, limit);
                let next = i64::from(first) + count;
                let next = (count > 0 && next <= i64::from(end)).then_some(next);
                Self { first, count, next: next.and_then(|next| i32::try_from(next).ok()) }
            }
            Direction::Backward => {
                let first = from.unwrap_or(end).min(end);
                let count = i64::from(first).min(limit);
                let next = Some(i64::from(first) - count).filter(|next| *next > 0);
                Self { first, count, next: next.and_then(|next| i32::try_from(next).ok()) }
            }
        }
    }
}

fn direction(text: &str) -> Result<Direction, Failure> {
    match text {
        "forward" => Ok(Direction::Forward),
        "backward" => Ok(Direction::Backward),
        _ => Err(invalid("direction", "direction is forward or backward.".to_owned())),
    }
}

/// All events, as NDJSON, sent as they are read. `Daybook-Position` is how far it looks: the
/// `after` of the next page, even where the filter lets nothing through.
pub(crate) async fn events(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let mut parameters = request::query(&request.query)?;
    let limit = limit(&mut parameters, app.limits.replay_events)?;
    let Selection { after, mut filter } = Selection::take(parameters)?;
    let after = after.unwrap_or(0);

    // The head first: everything up to it is visible to the reads that follow.
    let head = app.reader.head(principal.tenant).await?;
    let end = head.min(filter.until.unwrap_or(i64::MAX));
    filter.until = Some(end);
    let most = limit.max(app.limits.scan_positions);
    let reached = app.reader.page_end(principal.tenant, after, limit, most, &filter).await?;
    filter.until = Some(reached);
    let pieces = app.reader.read_pages(principal.tenant, after, filter).map(|page| {
        let (page, mut text) = (page?, String::new());
        for event in &page.events {
            text.push_str(&encode(event)?);
            text.push('\n');
        }
        count_sent("/v1/events", page.events.len());
        Ok(text)
    });
    let mut response = body::flowing(pieces, NDJSON).await?;
    set_position(&mut response, &request.positions, reached);
    let headers = response.headers_mut();
    if reached < end {
        let next = next_page(&request.query, reached);
        if let Ok(link) = HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")) {
            headers.insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// Which events are asked for.
struct Selection {
    /// Only those after this position.
    after: Option<i64>,
    filter: EventFilter,
}

impl Selection {
    /// What the parameters say, which must be these and no others.
    fn take(mut parameters: HashMap<String, String>) -> Result<Self, Failure> {
        let after = request::number(&mut parameters, "after", 0..=i64::MAX)?;
        let until = request::number(&mut parameters, "until", 0..=i64::MAX)?;
        let kinds = parameters.remove("types").map(|list| types(&list)).transpose()?;
        let stream_prefix = parameters.remove("stream_prefix");
        let correlation =
            parameters.remove("correlation").map(|id| correlation(&id)).transpose()?;
        request::none_left(&parameters)?;
        if stream_prefix.as_ref().is_some_and(|prefix| prefix.contains('\0')) {
            return Err(invalid("stream_prefix", "No stream's name holds U+0000.".to_owned()));
        }
        let kinds = kinds.unwrap_or_default();
        Ok(Self { after, filter: EventFilter { kinds, stream_prefix, correlation, until } })
    }
}

/// The same request, going on after a position.
fn next_page(query: &str, after: i64) -> String {
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "after");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("after", &after.to_string())
        .finish();
    format!("/v1/events?{query}")
}

fn limit(parameters: &mut HashMap<String, String>, most: i64) -> Result<i64, Failure> {
    Ok(request::number(parameters, "limit", 1..=most)?.unwrap_or(DEFAULT_PAGE.min(most)))
}

fn correlation(id: &str) -> Result<Uuid, Failure> {
    id.parse().map_err(|_error| {
        invalid("correlation", "correlation is the UUID that X-Request-Id carried.".to_owned())
    })
}

fn invalid(field: &str, detail: String) -> Failure {
    Failure::Invalid { part: Part::Query, field: field.to_owned(), detail }
}

fn as_length(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Comma-separated event types, each one that exists.
fn types(list: &str) -> Result<Vec<String>, Failure> {
    let kinds: Vec<String> = list.split(',').map(|kind| kind.trim().to_owned()).collect();
    if kinds.len() > MAX_TYPES {
        return Err(invalid("types", format!("At most {MAX_TYPES} types.")));
    }
    let known = daybook_commands::event_types();
    match kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        None => Ok(kinds),
        Some(_) => Err(invalid("types", format!("Event types are {}.", known.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_sent_as_it_is_stored() {
        let at = DateTime::from_timestamp_micros(1_291_191_960_000_001).unwrap();
        let event = StoredEvent {
            tenant: 1,
            position: 7,
            stream: "stock-A".to_owned(),
            version: 2,
            kind: "StockReceived".to_owned(),
            schema_version: 1,
            data: r#"{"sku": "A", "quantity": 5}"#.to_owned(),
            meta: r#"{"actor": "backend"}"#.to_owned(),
            occurred_at: at,
            recorded_at: at,
            mac: vec![0; 33],
        };
        assert_eq!(
            encode(&event).unwrap(),
            r#"{"position":7,"stream":"stock-A","version":2,"type":"StockReceived","schema_version":1,"occurred_at":"2010-12-01T08:26:00.000001Z","recorded_at":"2010-12-01T08:26:00.000001Z","data":{"sku": "A", "quantity": 5},"meta":{"actor": "backend"}}"#
        );
        let damaged = StoredEvent { data: "{".to_owned(), ..event };
        assert!(matches!(encode(&damaged), Err(Failure::Internal(_))));
    }

    #[test]
    fn a_page_of_a_stream_goes_on_where_it_stopped_from_either_end() {
        let span = |direction, from, limit| {
            let Span { first, count, next } = Span::new(direction, from, limit, 5);
            (first, count, next)
        };
        assert_eq!(span(Direction::Forward, None, 2), (1, 2, Some(3)));
        assert_eq!(span(Direction::Forward, Some(3), 2), (3, 2, Some(5)));
        assert_eq!(span(Direction::Forward, Some(5), 2), (5, 1, None));
        assert_eq!(span(Direction::Forward, Some(9), 2), (9, 0, None));
        assert_eq!(span(Direction::Forward, Some(i32::MAX), 2), (i32::MAX, 0, None));
        assert_eq!(span(Direction::Backward, None, 2), (5, 2, Some(3)));
        assert_eq!(span(Direction::Backward, Some(3), 2), (3, 2, Some(1)));
        assert_eq!(span(Direction::Backward, Some(1), 2), (1, 1, None));
        assert_eq!(span(Direction::Backward, Some(9), 9), (5, 5, None));
    }

    #[test]
    fn the_next_page_keeps_the_filter() {
        assert_eq!(
            next_page("types=OrderPlaced&after=3&stream_prefix=order-%26", 12),
            "/v1/events?types=OrderPlaced&stream_prefix=order-%26&after=12"
        );
    }

    #[test]
    fn a_type_that_does_not_exist_is_refused_by_name_of_the_parameter() {
        assert_eq!(types("OrderPlaced, OrderPaid").unwrap(), ["OrderPlaced", "OrderPaid"]);
        for wrong in ["", "OrderPlaced,", "orderplaced", &"OrderPaid,".repeat(101)] {
            assert!(matches!(
                types(wrong),
                Err(Failure::Invalid { part: Part::Query, field, .. }) if field == "types"
            ));
        }
    }
}

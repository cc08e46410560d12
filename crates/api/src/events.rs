//! `GET /v1/streams/<stream>` and `GET /v1/events`: the journal as it stands.

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_identity::Principal;
use daybook_journal::{EventFilter, StoredEvent};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    app::{App, Request, json, set_position},
    problem::{Failure, Part},
    request,
};

/// Events on a page unless the client says otherwise.
const DEFAULT_PAGE: i64 = 1_000;
/// Types that one request may name.
const MAX_TYPES: usize = 100;
/// Media type of one JSON value a line.
const NDJSON: &str = "application/x-ndjson";

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

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One page of a stream, oldest first.
pub(crate) async fn stream(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let stream = &request.path["stream"];
    let mut parameters = request::query(&request.query)?;
    let from = request::number(&mut parameters, "from_version", 1..=i32::MAX)?.unwrap_or(1);
    let limit = limit(app, &mut parameters)?;
    request::none_left(&parameters)?;
    if stream.contains('\0') {
        return Err(Failure::NotFound);
    }

    // One more than asked for says whether there is more.
    let mut events = app.reader.stream(principal.tenant, stream, from, limit + 1).await?;
    if events.is_empty() && (from == 1 || !exists(app, principal.tenant, stream).await?) {
        return Err(Failure::NotFound);
    }
    let next = events.get(as_length(limit)).map(|event| event.version);
    events.truncate(as_length(limit));
    let items = events.iter().map(encode).collect::<Result<Vec<_>, _>>()?.join(",");
    let next = json!(next.map(|version| version.to_string()));
    let mut response = json(StatusCode::OK, format!(r#"{{"items":[{items}],"next":{next}}}"#));
    if let Some(last) = events.last() {
        set_position(&mut response, last.position);
    }
    Ok(response)
}

async fn exists(app: &App, tenant: i32, stream: &str) -> Result<bool, Failure> {
    Ok(!app.reader.stream(tenant, stream, 1, 1).await?.is_empty())
}

/// One page of all events, as NDJSON. `Daybook-Position` is how far it has looked: the `after` of
/// the next page, even where the filter lets nothing through.
pub(crate) async fn events(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let mut parameters = request::query(&request.query)?;
    let after = request::number(&mut parameters, "after", 0..=i64::MAX)?.unwrap_or(0);
    let limit = limit(app, &mut parameters)?;
    let kinds = parameters.remove("types").map(|list| types(&list)).transpose()?;
    let stream_prefix = parameters.remove("stream_prefix");
    request::none_left(&parameters)?;
    if stream_prefix.as_ref().is_some_and(|prefix| prefix.contains('\0')) {
        return Err(Failure::Invalid {
            part: Part::Query,
            field: "stream_prefix".to_owned(),
            detail: "No stream's name holds U+0000.".to_owned(),
        });
    }

    // The head first: everything up to it is visible to the read that follows.
    let head = app.reader.head(principal.tenant).await?;
    let filter = EventFilter {
        kinds: kinds.unwrap_or_default(),
        stream_prefix,
        until: Some(head),
        ..EventFilter::default()
    };
    let events = app.reader.events(principal.tenant, after, limit, &filter).await?;
    let full = events.len() == as_length(limit);
    let reached = match events.last() {
        Some(last) if full => last.position,
        Some(_) | None => head.max(after),
    };
    let mut body = String::new();
    for event in &events {
        body.push_str(&encode(event)?);
        body.push('\n');
    }
    let mut response = Response::new(body.into());
    set_position(&mut response, reached);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    if full {
        let next = next_page(&request.query, reached);
        if let Ok(link) = HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")) {
            headers.insert(header::LINK, link);
        }
    }
    Ok(response)
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

fn limit(
    app: &App,
    parameters: &mut std::collections::HashMap<String, String>,
) -> Result<i64, Failure> {
    let most = app.limits.page_events;
    Ok(request::number(parameters, "limit", 1..=most)?.unwrap_or(DEFAULT_PAGE.min(most)))
}

fn as_length(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Comma-separated event types, each one that exists.
fn types(list: &str) -> Result<Vec<String>, Failure> {
    let invalid =
        |detail: String| Failure::Invalid { part: Part::Query, field: "types".to_owned(), detail };
    let kinds: Vec<String> = list.split(',').map(|kind| kind.trim().to_owned()).collect();
    if kinds.len() > MAX_TYPES {
        return Err(invalid(format!("At most {MAX_TYPES} types.")));
    }
    let known = daybook_commands::event_types();
    match kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        None => Ok(kinds),
        Some(_) => Err(invalid(format!("Event types are {}.", known.join(", ")))),
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

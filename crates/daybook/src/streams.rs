//! `daybook streams …`: the journal on the command line.

use std::{
    io::{self, Write},
    pin::pin,
};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use daybook_journal::{
    Direction, EventFilter, Heads, JournalError, Reader, StoredEvent, StreamRange,
};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Streams,
    config::Settings,
    database::{self, Login},
    wiring,
};

/// Lines that are written together at most.
const LINES_AT_ONCE: usize = 500;

/// Does what `daybook streams` is asked. Whoever reads the output may stop reading: that is no
/// error.
pub(crate) async fn run(settings: &Settings, command: Streams) -> anyhow::Result<()> {
    let done = match command {
        Streams::Show { stream, backward, from, limit, json } => {
            let direction = if backward { Direction::Backward } else { Direction::Forward };
            let range = StreamRange { direction, from_version: from, limit };
            show(settings, &stream, range, json).await
        }
        Streams::List { prefix, after, limit } => list(settings, &prefix, &after, limit).await,
        Streams::Tail { from, types, prefix, correlation, json } => {
            let filter =
                EventFilter { kinds: types, stream_prefix: prefix, correlation, until: None };
            tail(settings, from, filter, json).await
        }
    };
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// Refuses event types that there are none of, by name.
pub(crate) fn all_known(kinds: &[String]) -> anyhow::Result<()> {
    let known = daybook_commands::event_types();
    if let Some(unknown) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        anyhow::bail!("there is no event type {unknown:?}; there are {}", known.join(", "));
    }
    Ok(())
}

/// Whether whoever read the output has stopped.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

async fn show(
    settings: &Settings,
    stream: &str,
    range: StreamRange,
    json: bool,
) -> anyhow::Result<()> {
    let reader = Reader::new(wiring::pool(settings, database::config(settings, Login::Serve)?)?);
    let tenant = wiring::tenant(&reader, settings).await?;
    let end = reader.stream_end(tenant.id, stream).await?.with_context(|| {
        let kind = stream.split_inclusive('-').next().unwrap_or_default();
        format!(
            "tenant {} has no stream {stream:?}; `daybook streams list --prefix {kind}` shows \
             which there are",
            tenant.name
        )
    })?;
    if let Some(from) = range.from_version
        && range.direction == Direction::Forward
        && from > end.version
    {
        anyhow::bail!("stream {stream:?} ends at version {}: give a lesser --from", end.version);
    }
    print(reader.read_stream(tenant.id, stream, range), json).await
}

async fn list(settings: &Settings, prefix: &str, after: &str, limit: i64) -> anyhow::Result<()> {
    let reader = Reader::new(wiring::pool(settings, database::config(settings, Login::Serve)?)?);
    let tenant = wiring::tenant(&reader, settings).await?;
    let ends = reader.streams(tenant.id, prefix, after, limit).await?;
    let mut out = io::stdout().lock();
    for end in ends {
        writeln!(
            out,
            "{:50} version {:>9}  position {:>11}  {}",
            end.stream,
            end.version,
            end.position,
            time(end.recorded_at)
        )?;
    }
    Ok(())
}

async fn tail(
    settings: &Settings,
    from: Option<i64>,
    filter: EventFilter,
    json: bool,
) -> anyhow::Result<()> {
    let reader = Reader::new(wiring::pool(settings, database::config(settings, Login::Serve)?)?);
    let tenant = wiring::tenant(&reader, settings).await?;
    all_known(&filter.kinds)?;
    let after = match from {
        Some(first) => first - 1,
        None => reader.head(tenant.id).await?,
    };
    let (heads, listening) = Heads::new(database::config(settings, Login::Serve)?, reader.clone());
    let stop = CancellationToken::new();
    let _stop_with_me = stop.clone().drop_guard();
    tokio::spawn(listening.run(stop));
    tokio::select! {
        done = print(reader.follow(tenant.id, after, filter, &heads), json) => done,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

/// Prints events as they come. A line is out before the next event is waited for.
async fn print(
    events: impl Stream<Item = Result<StoredEvent, JournalError>>,
    json: bool,
) -> anyhow::Result<()> {
    // Many at once where they are ready, so that a long history is not a system call a line.
    let mut ready = pin!(events.ready_chunks(LINES_AT_ONCE).map(Ok::<_, anyhow::Error>));
    while let Some(events) = ready.try_next().await? {
        let mut text = String::new();
        for event in events {
            text.push_str(&line(&event?, json)?);
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// An event as `/v1/events` sends it.
#[derive(Serialize)]
struct Line<'a> {
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

/// One event as a line, without its end.
pub(crate) fn line(event: &StoredEvent, json: bool) -> anyhow::Result<String> {
    if !json {
        return Ok(format!(
            "{:>8}  {}  {} {}  {}  {}",
            event.position,
            time(event.recorded_at),
            event.stream,
            event.version,
            event.kind,
            event.data
        ));
    }
    let broken = || format!("event {} can't be printed", event.position);
    serde_json::to_string(&Line {
        position: event.position,
        stream: &event.stream,
        version: event.version,
        r#type: &event.kind,
        schema_version: event.schema_version,
        occurred_at: time(event.occurred_at),
        recorded_at: time(event.recorded_at),
        data: serde_json::from_str(&event.data).with_context(broken)?,
        meta: serde_json::from_str(&event.meta).with_context(broken)?,
    })
    .with_context(broken)
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> StoredEvent {
        let at = DateTime::from_timestamp_micros(1_291_191_960_000_001).unwrap();
        StoredEvent {
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
        }
    }

    #[test]
    fn a_line_is_for_people_or_for_programs() {
        assert_eq!(
            line(&event(), false).unwrap(),
            "       7  2010-12-01T08:26:00.000001Z  stock-A 2  StockReceived  \
             {\"sku\": \"A\", \"quantity\": 5}"
        );
        let json: serde_json::Value = serde_json::from_str(&line(&event(), true).unwrap()).unwrap();
        assert_eq!(json["data"]["quantity"], 5);
        assert_eq!(json["type"], "StockReceived");
        let damaged = StoredEvent { data: "{".to_owned(), ..event() };
        assert!(line(&damaged, true).unwrap_err().to_string().contains("event 7"));
    }

    #[test]
    fn only_a_broken_pipe_is_no_error() {
        let broken = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&broken));
        assert!(!is_broken_pipe(&anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull))));
        assert!(!is_broken_pipe(&anyhow::anyhow!("something else")));
    }
}

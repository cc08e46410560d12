//! What the service says about itself: alive, ready, metrics, its description.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use daybook_projection::{Queries, QueryError, Stopped};
use deadpool_postgres::Pool;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::app;

/// Longest that PostgreSQL may take to answer before the service counts as not ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer of PostgreSQL is believed, so that nobody can load it through `/readyz`.
const BELIEVE_FOR: Duration = Duration::from_millis(500);

/// A part of the process whose state `/readyz` shows.
#[derive(Clone)]
pub struct Check {
    /// Its name, as `writer`.
    pub name: &'static str,
    /// Whether the process is unready without it.
    pub required: bool,
    /// Its state now; the error is a word for a person without internal details. Quick: it is
    /// called with every request to `/readyz`.
    pub probe: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// Answers the routes that need no principal.
pub(crate) struct Service {
    pool: Pool,
    checks: Vec<Check>,
    metrics: PrometheusHandle,
    seen: Mutex<Option<(Instant, Seen)>>,
}

/// What PostgreSQL said.
#[derive(Debug, Clone, Default)]
struct Seen {
    answered: bool,
    /// State of the read models' database, where it is another.
    read_database: Option<&'static str>,
    /// Read models that an event has stopped, as they are shown.
    stopped: Vec<Value>,
}

impl Service {
    pub(crate) fn new(pool: Pool, checks: Vec<Check>, metrics: PrometheusHandle) -> Self {
        Self { pool, checks, metrics, seen: Mutex::default() }
    }

    /// 200 where a request would be served, 503 where not.
    pub(crate) async fn ready(&self, queries: &Queries) -> Response {
        let (ready, _parts) = judge(&self.checks, &self.look(queries).await);
        app::json(status_of(ready), json!({"ready": ready}).to_string())
    }

    /// The same with each part's state. What is shown and no reason to send requests elsewhere: a
    /// read model that is stopped is so for all, and without the read models' own database commands
    /// are served.
    pub(crate) async fn readiness(&self, queries: &Queries) -> Response {
        let seen = self.look(queries).await;
        let (ready, parts) = judge(&self.checks, &seen);
        let state = json!({"ready": ready, "parts": parts, "stopped_projections": seen.stopped});
        app::json(status_of(ready), state.to_string())
    }

    async fn look(&self, queries: &Queries) -> Seen {
        let known = self.seen.lock().expect("no code panics while holding it").clone();
        if let Some((looked_at, seen)) = known
            && looked_at.elapsed() < BELIEVE_FOR
        {
            return seen;
        }
        let ask = async {
            let client = self.pool.get().await.ok()?;
            client.simple_query("select 1").await.ok()
        };
        let (answered, stopped) = tokio::join!(
            tokio::time::timeout(ANSWER_WITHIN, ask),
            tokio::time::timeout(ANSWER_WITHIN, queries.stopped()),
        );
        let (read_database, stopped) = match stopped {
            Ok(Ok(stopped)) => ("ok", stopped.iter().map(show).collect()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "it can't be looked which read models are stopped");
                let answers =
                    matches!(&error, QueryError::Database(e) if e.as_db_error().is_some());
                (if answers { "has no read models" } else { "unreachable" }, Vec::new())
            }
            Err(_elapsed) => ("unreachable", Vec::new()),
        };
        let read_database = queries.are_elsewhere().then_some(read_database);
        let answered = answered.is_ok_and(|a| a.is_some());
        let seen = Seen { answered, read_database, stopped };
        *self.seen.lock().expect("no code panics while holding it") =
            Some((Instant::now(), seen.clone()));
        seen
    }

    pub(crate) fn metrics(&self) -> Response {
        text("text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
    }
}

/// The process runs; says nothing about what it needs.
pub(crate) fn live() -> Response {
    app::json(StatusCode::OK, json!({"live": true}).to_string())
}

/// A stopped read model, for whoever looks after the shop.
fn show(stopped: &Stopped) -> Value {
    json!({
        "projection": stopped.projection,
        "version": stopped.version,
        "state": stopped.state,
        "tenant": stopped.tenant,
        "position": stopped.position,
        "event": {"position": stopped.reason.position, "type": stopped.reason.kind},
        "error": stopped.reason.message,
    })
}

fn status_of(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn judge(checks: &[Check], seen: &Seen) -> (bool, Value) {
    let mut ready = seen.answered;
    let state = if seen.answered { "ok" } else { "unreachable" };
    let mut parts = Map::new();
    parts.insert("postgresql".to_owned(), json!({"state": state, "required": true}));
    if let Some(state) = seen.read_database {
        parts.insert("read_database".to_owned(), json!({"state": state, "required": false}));
    }
    for check in checks {
        let state = (check.probe)().err().unwrap_or_else(|| "ok".to_owned());
        ready &= state == "ok" || !check.required;
        let part = json!({"state": state, "required": check.required});
        parts.insert(check.name.to_owned(), part);
    }
    (ready, Value::Object(parts))
}

pub(crate) fn text(media_type: &'static str, body: String) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A strong ETag: 128 bits of the SHA-256 of the answer, in quotes.
pub(crate) fn etag(body: &str) -> String {
    etag_of(&[body])
}

/// The same of an answer in parts.
pub(crate) fn etag_of(parts: &[&str]) -> String {
    let hash = parts.iter().fold(Sha256::new(), Sha256::chain_update);
    format!("\"{}\"", hex::encode(&hash.finalize()[..16]))
}

pub(crate) fn set_etag(headers: &mut HeaderMap, etag: &str) {
    let value = HeaderValue::from_str(etag).expect("hexadecimal digits in quotes");
    headers.insert(header::ETAG, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, required: bool, state: Result<(), String>) -> Check {
        Check { name, required, probe: Arc::new(move || state.clone()) }
    }

    #[test]
    fn the_process_is_ready_with_what_it_requires_whatever_else_fails() {
        let down = || Err("no broker answers".to_owned());
        let kafka = check("kafka", false, down());
        let up = Seen { answered: true, ..Seen::default() };
        let (ready, parts) = judge(&[check("writer", true, Ok(())), kafka.clone()], &up);
        assert!(ready);
        assert_eq!(parts["kafka"], json!({"state": "no broker answers", "required": false}));
        assert_eq!(parts["writer"]["state"], "ok");
        assert_eq!(parts["read_database"], json!(null), "there is none");
        assert!(!judge(&[check("writer", true, down()), kafka], &up).0);
        let (ready, parts) = judge(&[], &Seen { read_database: Some("unreachable"), ..up });
        assert!(ready, "commands are served");
        assert_eq!(parts["read_database"], json!({"state": "unreachable", "required": false}));
        let (ready, parts) = judge(&[], &Seen { read_database: Some("ok"), ..Seen::default() });
        assert!(!ready);
        assert_eq!(parts["read_database"]["state"], "ok");
        assert_eq!(parts["postgresql"]["state"], "unreachable");
    }

    #[test]
    fn an_etag_is_quoted_and_changes_with_the_answer() {
        assert_eq!(etag("a").len(), 34);
        assert!(etag("a").starts_with('"') && etag("a").ends_with('"'));
        assert_eq!(etag("a"), etag("a"));
        assert_ne!(etag("a"), etag("b"));
    }
}

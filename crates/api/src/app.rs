//! One request from its route to its answer: who asks, may they, what comes back, how it is counted.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use daybook_commands::Shop;
use daybook_identity::{ApiKeys, Principal};
use daybook_journal::{Heads, Reader};
use daybook_projection::Queries;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warp::{
    Filter,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use crate::{
    ApiDeps, DURATION_METRIC, commands, events,
    limits::Limits,
    live::{self, Hub},
    page,
    positions::{Positions, Tokens},
    problem::Failure,
    queries, request,
    routes::{Endpoint, Match, Route, Scope},
    service::{self, Service},
    surface::Surface,
};

/// A body as it arrives.
pub(crate) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;

/// How much of a body that is too large is taken in and thrown away, and for how long.
const DISCARDED_BYTES: usize = 16 << 20;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Everything that an answer may need.
pub(crate) struct App {
    pub(crate) shop: Shop,
    pub(crate) reader: Reader,
    pub(crate) heads: Heads,
    pub(crate) keys: ApiKeys,
    tokens: Tokens,
    pub(crate) queries: Queries,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    /// Queries that are followed.
    pub(crate) hub: Hub,
    /// Room for requests that wait for a position.
    pub(crate) waiters: Semaphore,
    service: Service,
    surface: RwLock<Arc<Surface>>,
}

/// A request whose route is known.
pub(crate) struct Request {
    pub(crate) id: Uuid,
    pub(crate) headers: HeaderMap,
    /// Path, as sent.
    pub(crate) target: String,
    /// Parameters of the path, decoded.
    pub(crate) path: std::collections::HashMap<String, String>,
    /// Query string, as sent.
    pub(crate) query: String,
    pub(crate) body: Body,
    /// Positions as whoever asks may see them.
    pub(crate) positions: Positions,
}

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everybody's.
    Public,
    /// Of those who look after the shop: tells figures and positions, asks for no key.
    Operations,
}

/// All that one listener answers, as one filter that never rejects.
pub(crate) fn filter(
    app: Arc<App>,
    door: Door,
) -> impl Filter<Extract = (Response,), Error = std::convert::Infallible> + Clone {
    warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method: Method, path: FullPath, query, headers, body| {
            let app = Arc::clone(&app);
            let body = arriving(body);
            async move { app.answer(door, &method, path.as_str(), query, headers, body).await }
        })
        .recover(async |_rejection: warp::Rejection| {
            // Nothing above rejects; were it to, the client would see a problem all the same.
            let failure = Failure::Internal("a filter rejected".to_owned());
            Ok::<_, std::convert::Infallible>(failure.into_problem(Uuid::nil()).into_response())
        })
        .unify()
}

fn arriving<S, B>(body: S) -> Body
where
    S: Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static,
    B: Buf,
{
    Box::pin(body.map(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining()))))
}

impl App {
    pub(crate) fn new(deps: ApiDeps, shutdown: CancellationToken) -> Self {
        describe_metrics();
        let surface = Surface::new(deps.queries.declared(), &deps.limits);
        let service = Service::new(deps.pool, deps.checks, deps.metrics);
        let hub =
            Hub::start(deps.queries.clone(), deps.keys.clone(), &deps.limits, shutdown.clone());
        Self {
            hub,
            shop: deps.shop,
            reader: deps.reader,
            heads: deps.heads,
            keys: deps.keys,
            tokens: Tokens::new(deps.tokens),
            queries: deps.queries,
            waiters: Semaphore::new(deps.limits.waiters),
            limits: deps.limits,
            shutdown,
            service,
            surface: RwLock::new(Arc::new(surface)),
        }
    }

    /// The routes of the queries that are declared now.
    fn surface(&self) -> Arc<Surface> {
        let declared = self.queries.declared();
        let known = Arc::clone(&self.surface.read().expect("no code panics while holding it"));
        if known.declared.generation == declared.generation {
            return known;
        }
        let made = Arc::new(Surface::new(declared, &self.limits));
        *self.surface.write().expect("no code panics while holding it") = Arc::clone(&made);
        made
    }

    async fn answer(
        &self,
        door: Door,
        method: &Method,
        path: &str,
        query: String,
        headers: HeaderMap,
        body: Body,
    ) -> Response {
        let started = Instant::now();
        let id = Uuid::now_v7();
        let surface = self.surface();
        let found = match door {
            Door::Public => surface.routes.find(method, path),
            Door::Operations => surface.operations.find(method, path),
        };
        let template = match &found {
            Match::Found(route, _) => route.template.clone(),
            Match::Method(_) | Match::Nothing => "none".to_owned(),
        };
        let in_flight = metrics::gauge!("daybook_http_requests_in_flight");
        in_flight.increment(1.0);
        let work = async {
            match found {
                Match::Found(route, parameters) => {
                    let target = path.to_owned();
                    let (path, positions) = (parameters, Positions::default());
                    let request = Request { id, headers, target, path, query, body, positions };
                    self.route(&surface, route, request).await
                }
                Match::Method(allow) => Err(Failure::Method { allow }),
                Match::Nothing => Err(Failure::NoRoute),
            }
        };
        let answer = InFlight::new(in_flight).watch(AssertUnwindSafe(work).catch_unwind()).await;
        let answer = answer.unwrap_or_else(|_panic| Err(Failure::Internal("panicked".to_owned())));
        let mut response =
            answer.unwrap_or_else(|failure| failure.into_problem(id).into_response());
        finish(&mut response, id);
        count(method, template, response.status(), started);
        response
    }

    async fn route(
        &self,
        surface: &Surface,
        route: &Route,
        mut request: Request,
    ) -> Result<Response, Failure> {
        let principal = match &route.scope {
            Scope::Public => None,
            Scope::Principal => Some(self.principal(&request.headers).await?),
            Scope::Roles(roles) => {
                let principal = self.principal(&request.headers).await?;
                if !roles.contains(&principal.role) {
                    return Err(Failure::Forbidden { role: principal.role });
                }
                Some(principal)
            }
        };
        let Some(principal) = principal else {
            return match &route.endpoint {
                Endpoint::Livez => Ok(service::live()),
                Endpoint::Readyz => Ok(self.service.ready(&self.queries).await),
                Endpoint::Readiness => Ok(self.service.readiness(&self.queries).await),
                Endpoint::Metrics => Ok(self.service.metrics()),
                Endpoint::OpenApi => Ok(surface.openapi(&self.queries, &request.headers).await),
                Endpoint::Docs => Ok(surface.docs(&self.queries).await),
                Endpoint::Problem => page::problem(&request.path["code"]),
                Endpoint::Command(_)
                | Endpoint::NoCommand
                | Endpoint::ByKey
                | Endpoint::Stream
                | Endpoint::Events
                | Endpoint::LiveEvents
                | Endpoint::Query(_)
                | Endpoint::Live(_) => Err(Failure::Unauthenticated { given: false }),
            };
        };
        request.positions = self.tokens.of(&principal, &self.reader).await?;
        let mut response = match &route.endpoint {
            Endpoint::Command(name) => commands::execute(self, &principal, name, request).await?,
            Endpoint::NoCommand => return Err(commands::unknown(&request.path["name"])),
            Endpoint::ByKey => commands::by_key(self, &principal, &request).await?,
            Endpoint::Stream => Box::pin(events::stream(self, &principal, &request)).await?,
            Endpoint::Events => Box::pin(events::events(self, &principal, &request)).await?,
            Endpoint::LiveEvents => Box::pin(events::follow(self, &principal, &request)).await?,
            Endpoint::Query(index) => {
                queries::run(self, surface, *index, &principal, &request).await?
            }
            Endpoint::Live(index) => {
                Box::pin(live::run(self, surface, *index, &principal, &request)).await?
            }
            Endpoint::Livez
            | Endpoint::Readyz
            | Endpoint::Readiness
            | Endpoint::Metrics
            | Endpoint::OpenApi
            | Endpoint::Docs
            | Endpoint::Problem => return Err(Failure::NoRoute),
        };
        // What one person may see no cache keeps; figures of the shop may be asked for again by
        // their ETag.
        let caching = if principal.role.is_bound() { "no-store" } else { "private, no-cache" };
        response
            .headers_mut()
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static(caching));
        Ok(response)
    }

    async fn principal(&self, headers: &HeaderMap) -> Result<Principal, Failure> {
        let Some(key) = request::bearer(headers) else {
            let given = headers.contains_key(header::AUTHORIZATION);
            return Err(Failure::Unauthenticated { given });
        };
        self.keys.authenticate(key).await?.ok_or(Failure::Unauthenticated { given: true })
    }

    /// The whole body, within the limits.
    pub(crate) async fn body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
        let limit = self.limits.body_bytes;
        let declared = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit + DISCARDED_BYTES) {
            return Err(Failure::TooLarge { limit });
        }
        read(body, limit, self.limits.body_wait).await
    }
}

async fn read(mut body: Body, limit: usize, wait: Duration) -> Result<Bytes, Failure> {
    let whole = async {
        let mut whole = BytesMut::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_broken| Failure::TooSlow)?;
            if whole.len() + piece.len() > limit {
                drop(whole);
                tokio::time::timeout(DISCARD_WAIT, discard(body)).await.ok();
                return Err(Failure::TooLarge { limit });
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    };
    tokio::time::timeout(wait, whole).await.unwrap_or(Err(Failure::TooSlow))
}

/// Takes in what is still to come, within bounds: a client that is still sending when it is
/// answered would see a broken connection instead of the answer.
async fn discard(mut body: Body) {
    let mut discarded = 0;
    while let Some(Ok(piece)) = body.next().await {
        discarded += piece.len();
        if discarded > DISCARDED_BYTES {
            return;
        }
    }
}

/// Keeps the gauge right even where a client goes away and its request is dropped.
struct InFlight(metrics::Gauge);

impl InFlight {
    fn new(gauge: metrics::Gauge) -> Self {
        Self(gauge)
    }

    async fn watch<F: Future>(self, work: F) -> F::Output {
        let answer = work.await;
        drop(self);
        answer
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Headers that every answer has.
fn finish(response: &mut Response, id: Uuid) {
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    headers.insert(HeaderName::from_static(request::REQUEST_ID), id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Authorization"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}

fn count(method: &Method, route: String, status: StatusCode, started: Instant) {
    // Anybody can invent methods; a label must not take them all.
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => "other",
    };
    tracing::debug!(method, route, status = status.as_u16(), elapsed = ?started.elapsed());
    let status = status.as_u16().to_string();
    metrics::counter!(
        "daybook_http_requests_total",
        "method" => method, "route" => route.clone(), "status" => status
    )
    .increment(1);
    metrics::histogram!(DURATION_METRIC, "method" => method, "route" => route)
        .record(started.elapsed().as_secs_f64());
}

fn describe_metrics() {
    metrics::describe_counter!(
        "daybook_http_requests_total",
        "Requests answered, by route and status."
    );
    metrics::describe_gauge!("daybook_http_requests_in_flight", "Requests being answered.");
    metrics::describe_histogram!(
        DURATION_METRIC,
        metrics::Unit::Seconds,
        "Time from a request's headers to its answer."
    );
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Puts the position that an answer has into its headers.
pub(crate) fn set_position(response: &mut Response, positions: &Positions, position: i64) {
    let shown = HeaderValue::from_str(&positions.show(position)).expect("a position is ASCII");
    response.headers_mut().insert(HeaderName::from_static(request::POSITION), shown);
}

#[cfg(test)]
mod tests;

//! HTTP: routes, problems, OpenAPI. Decides nothing and keeps nothing.

mod app;
mod body;
mod commands;
mod events;
mod format;
mod limits;
mod live;
mod openapi;
mod page;
mod positions;
mod problem;
mod queries;
mod request;
mod routes;
mod server;
mod service;
mod surface;

use daybook_commands::Shop;
use daybook_identity::{ApiKeys, TokenSealer};
use daybook_journal::{Heads, Reader};
use daybook_projection::Queries;
use deadpool_postgres::Pool;
use metrics_exporter_prometheus::PrometheusHandle;

pub use limits::Limits;
pub use server::{ServeError, serve};
pub use service::Check;

/// Name of the histogram of answer times, for the recorder's buckets.
pub const DURATION_METRIC: &str = "daybook_http_request_duration_seconds";
/// Upper bounds of that histogram's buckets, seconds.
pub const DURATION_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What the API needs.
pub struct ApiDeps {
    /// Takes commands.
    pub shop: Shop,
    /// Reads streams, events and outcomes.
    pub reader: Reader,
    /// Wakes those who wait for an outcome.
    pub heads: Heads,
    /// Says who asks.
    pub keys: ApiKeys,
    /// Seals the positions that customers and partners see.
    pub tokens: TokenSealer,
    /// Answers the declared queries.
    pub queries: Queries,
    /// Renders `/metrics`, for operations.
    pub metrics: PrometheusHandle,
    /// Asked by `/readyz` whether PostgreSQL answers.
    pub pool: Pool,
    /// What `/readyz` shows beside PostgreSQL, as the writer's and Kafka's state.
    pub checks: Vec<Check>,
    /// Bounds of everything that a client may make large or slow.
    pub limits: Limits,
}

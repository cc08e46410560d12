//! The API over HTTP, with a real PostgreSQL behind it. `./scripts/test` starts one.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod as_of;
mod bad_requests;
mod commands;
mod journal;
mod kit;
mod live;
mod live_events;
mod openapi;
mod preconditions;
mod queries;
mod server;

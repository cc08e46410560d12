//! The projection engine against real PostgreSQL and Kafka, as `./scripts/test` starts them.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod changes;
mod evolution;
mod fold;
mod frontends;
mod install;
mod kafka;
mod kit;
mod queries;
mod trouble;
mod versions;

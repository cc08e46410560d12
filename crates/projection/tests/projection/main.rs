//! The projection engine against real PostgreSQL and Kafka, as `./scripts/test` starts them.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod as_of;
mod by_streams;
mod changes;
mod check;
mod copied;
mod deadline;
mod diff;
mod evolution;
mod fold;
mod frontends;
mod install;
mod kafka;
mod kit;
mod parked;
mod queries;
mod rebuild;
mod robust;
mod tenancy;
mod trouble;
mod versions;

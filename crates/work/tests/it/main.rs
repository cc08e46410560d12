//! The worker, its job table and the sandbox gateway on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

mod kit;
mod sandbox;
mod shop;
mod stage;
mod store;
mod worker;

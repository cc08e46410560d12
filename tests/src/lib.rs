//! The kit of the integration tests: a fresh installation a test, its processes, its clients.
//!
//! A test that needs a service gets the real one: `scripts/test integration` starts PostgreSQL and
//! Kafka, builds the program and names them in the environment.

mod client;
mod cluster;
mod environment;
mod history;
mod installation;
pub mod linearizability;
mod process;
mod shop;
mod wait;

pub use client::{Answer, Client, Followed};
pub use cluster::{Cluster, Standby};
pub use environment::Environment;
pub use history::bulk_history;
pub use installation::{Installation, Role};
pub use process::Process;
pub use shop::{Shop, charge, order, problem_code};
pub use wait::until;

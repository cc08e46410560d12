//! Background work: the jobs that commands leave behind, and the payment gateways they call.

mod backoff;
mod gateway;
mod handlers;
pub mod sandbox;
mod settle;
mod store;
mod token;
mod wake;
mod worker;

pub use backoff::RetryPolicy;
pub use gateway::{
    ChargeOutcome, ChargeRequest, Gateway, GatewayError, GatewayToken, RefundOutcome, RefundRequest,
};
pub use handlers::KINDS;
pub use sandbox::SandboxGateway;
pub use store::{
    Claim, Job, JobFilter, JobRow, JobState, JobStore, KindStats, MAX_ERROR_CHARS, MAX_LISTED,
    StoreError,
};
pub use token::TokenSeal;
pub use worker::{Worker, WorkerDeps, WorkerSettings};

//! Background work: the jobs that commands leave behind, and the payment gateways they call.

mod backoff;
mod gateway;
pub mod sandbox;
mod store;

pub use backoff::RetryPolicy;
pub use gateway::{
    ChargeOutcome, ChargeRequest, Gateway, GatewayError, GatewayToken, RefundOutcome, RefundRequest,
};
pub use store::{
    Claim, Job, JobFilter, JobRow, JobState, JobStore, KindStats, MAX_ERROR_CHARS, MAX_LISTED,
    StoreError,
};

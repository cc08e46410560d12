//! Binds the shop's domain to the journal: wire forms of commands and events, the streams that
//! each command reads, who may do what, and which jobs follow from what happened.
//!
//! No I/O of its own: bytes come in and go out, and the journal's writer does the rest.

mod authority;
mod catalogue;
mod events;
pub mod jobs;
mod model;
pub mod schemas;
mod shop;
mod streams;
mod wire;

pub use authority::Authority;
pub use catalogue::{Answer, CommandInfo, Example, RefusalInfo, catalogue, refusals};
pub use events::{ShopEvent, event_schema, event_types, event_version};
pub use model::{ShopCommand, ShopModel, ShopSettings, ShopState};
pub use shop::{Pending, Request, SealToken, Shop};
pub use wire::*;

//! Who asks: API keys, roles, principals; and the sealing of short secrets and of tokens.

mod keys;
mod migrate;
mod principal;
mod sealer;
mod token_sealer;

pub use keys::{ApiKeys, KeyInfo, NewKey};
pub use migrate::migrate;
pub use principal::{Principal, Role, UnknownRole};
pub use sealer::Sealer;
pub use token_sealer::TokenSealer;

/// Identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// PostgreSQL answered with an error.
    #[error("identity: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection could be had.
    #[error("identity: no connection: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// Customers and partners are bound to an id, nobody else is.
    #[error("a key of role {0} {need} the id of a customer or partner", need = need(*.0))]
    Subject(Role),
    /// Every random id drawn was taken: the random source is broken.
    #[error("no free key id was found")]
    NoFreeId,
    /// The label is too long.
    #[error("the label has {0} characters, the limit is {MAX_LABEL}")]
    Label(usize),
    /// A stored role that this program does not know.
    #[error("identity: key {id}: {source}")]
    Role {
        /// Id of the key.
        id: String,
        /// What is wrong with it.
        source: UnknownRole,
    },
}

/// Longest label of a key, characters.
pub const MAX_LABEL: usize = 200;

fn need(role: Role) -> &'static str {
    if role.is_bound() { "needs" } else { "can't have" }
}

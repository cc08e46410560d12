//! Who logs in to PostgreSQL: each part of the program as itself, with the least that it needs.
//!
//! The tables belong to the login of DATABASE_URL, the owner, which only `migrate` and the tools
//! that manage the installation use. Everything else has a login of its own.

mod login;
mod provision;

pub(crate) use login::{
    Login, Place, check, check_read, config, connect, owner, read_config, read_owner,
};
pub(crate) use provision::provision;

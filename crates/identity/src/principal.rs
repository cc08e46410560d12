//! Roles and principals: what a request may do, and in whose name.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// What a principal may do (design §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Places, pays, cancels and reads its own orders; bound to one customer.
    Customer,
    /// The same for the orders it placed itself; bound to one partner.
    Partner,
    /// Runs the shop.
    Operator,
    /// Reads events and figures.
    Analyst,
    /// Reads streams, events and the audit log.
    Auditor,
    /// Manages users and keys, no more.
    Admin,
}

/// A name that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; roles are customer, partner, operator, analyst, auditor, admin")]
pub struct UnknownRole(pub String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Customer, Self::Partner, Self::Operator, Self::Analyst, Self::Auditor, Self::Admin];

    /// Its name, lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Partner => "partner",
            Self::Operator => "operator",
            Self::Analyst => "analyst",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// Whether it is bound to the id of a customer or partner.
    pub fn is_bound(self) -> bool {
        match self {
            Self::Customer | Self::Partner => true,
            Self::Operator | Self::Analyst | Self::Auditor | Self::Admin => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// In whose name a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Number of its tenant; a request reaches no other.
    pub tenant: i32,
    /// `owner:<uuid>`: whose idempotency keys these are. Survives the rotation of a key.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// Customer or partner it is bound to; set exactly for those roles.
    pub subject: Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_what_it_prints_and_nothing_else() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for wrong in ["", "Operator", "operator ", "root"] {
            assert_eq!(wrong.parse::<Role>(), Err(UnknownRole(wrong.to_owned())));
        }
    }
}

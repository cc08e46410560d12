//! What the database keeps of every version of every projection: the source of truth for programs.

use std::{fmt, str::FromStr};

use serde::Serialize;
use tokio_postgres::{Client, GenericClient};

use crate::{
    catalogue::distinct,
    definition::{CatalogueError, Definition, Texts},
};

/// Where a version of a projection stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Follows the journal and answers nothing yet.
    Building,
    /// Answers queries.
    Active,
    /// Answered queries once; follows on, so that one may switch back, until it is dropped.
    Retired,
}

impl FromStr for VersionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "building" => Self::Building,
            "active" => Self::Active,
            "retired" => Self::Retired,
            other => return Err(format!("{other} is no state of a version")),
        })
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Retired => "retired",
        })
    }
}

/// A version of a projection as the database has it.
#[derive(Debug, Clone)]
pub struct Version {
    /// What its folder said.
    pub definition: Definition,
    /// Where it stands.
    pub state: VersionState,
    /// Whether it is switched to by itself once it has caught up.
    pub automatic: bool,
}

/// The same text for as long as no version is made, changed, switched or dropped.
pub(crate) async fn fingerprint(
    client: &impl GenericClient,
) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one(include_str!("../sql/fingerprint.sql"), &[]).await?;
    Ok(row.get(0))
}

/// Every version, by projection, the active one first. One that this program can't read is left
/// out and logged.
pub(crate) async fn versions(
    client: &impl GenericClient,
) -> Result<Vec<Version>, tokio_postgres::Error> {
    let rows = client.query(include_str!("../sql/versions.sql"), &[]).await?;
    let mut versions = Vec::with_capacity(rows.len());
    for row in rows {
        let (projection, version): (String, String) = (row.get(0), row.get(1));
        let read = || -> Result<Version, String> {
            let texts: Texts =
                serde_json::from_str(row.get(2)).map_err(|error| error.to_string())?;
            let mut definition =
                Definition::parse(&projection, texts).map_err(|error| error.to_string())?;
            definition.upcasters = row.get(3);
            Ok(Version {
                definition: definition.at_version(version.clone()),
                state: row.get::<_, &str>(4).parse()?,
                automatic: row.get(5),
            })
        };
        match read() {
            Ok(version) => versions.push(version),
            Err(error) => tracing::error!(projection, version, error, "can't be read"),
        }
    }
    Ok(versions)
}

/// Every version that the database has, by projection, the active one first.
pub async fn installed(client: &Client) -> Result<Vec<Version>, tokio_postgres::Error> {
    versions(client).await
}

/// Refuses a definition whose queries share a name or a path with those of other projections that
/// answer or are about to; projections of these names are left out.
pub(crate) async fn refuse_shared_queries(
    client: &impl GenericClient,
    definition: &Definition,
    except: &[&str],
) -> Result<Result<(), CatalogueError>, tokio_postgres::Error> {
    let others = versions(client).await?;
    let others = others.iter().filter(|other| {
        let name = other.definition.name.as_str();
        other.state == VersionState::Active && name != definition.name && !except.contains(&name)
    });
    Ok(distinct(others.map(|other| &other.definition).chain([definition])))
}

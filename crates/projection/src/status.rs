//! How far every projection is, and what stopped it.

use chrono::{DateTime, Utc};
use daybook_journal::{JournalError, Reader};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{
    install::database_detail,
    queries::{Queries, QueryError},
    versions::VersionState,
};

/// Where a version of a projection stands for a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectionStatus {
    /// Name of the projection.
    pub name: String,
    /// Version of the projection.
    pub version: String,
    /// Where the version stands.
    pub state: VersionState,
    /// Number of the tenant.
    pub tenant: i32,
    /// Name of the tenant.
    pub tenant_name: String,
    /// Everything up to here is in its rows.
    pub position: i64,
    /// Position of the journal's last event.
    pub head: i64,
    /// Keys that were put aside, because an event could not be folded onto their rows.
    pub parked: i64,
    /// What stopped it, if it is stopped.
    pub error: Option<StopReason>,
    /// When its checkpoint was last moved or its error last noted; `None`: never.
    pub updated_at: Option<DateTime<Utc>>,
}

/// Why a projection stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReason {
    /// Position of the event that can't be folded, if it is one event.
    pub position: Option<i64>,
    /// Type of that event.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What PostgreSQL said.
    pub message: String,
}

/// A version that does not follow the journal of a tenant any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Name of the projection.
    pub projection: String,
    /// Version of the projection.
    pub version: String,
    /// Whether it answers queries.
    pub state: VersionState,
    /// Number of the tenant.
    pub tenant: i32,
    /// Everything up to here is in its rows.
    pub position: i64,
    /// What stopped it.
    pub reason: StopReason,
}

impl Queries {
    /// Every version that is stopped, where the queries' read models are.
    pub async fn stopped(&self) -> Result<Vec<Stopped>, QueryError> {
        let client = self.pool().get().await?;
        let rows = client.query(include_str!("../sql/stopped.sql"), &[]).await?;
        let stopped = rows.iter().map(|row| Stopped {
            projection: row.get(0),
            version: row.get(1),
            state: row.get::<_, &str>(2).parse().expect("the table checks it"),
            tenant: row.get(3),
            position: row.get(4),
            reason: StopReason::read(row.get(5)),
        });
        Ok(stopped.collect())
    }
}

impl StopReason {
    /// As a checkpoint holds it.
    fn read(text: String) -> Self {
        serde_json::from_str(&text).unwrap_or(Self { position: None, kind: None, message: text })
    }
}

/// The status can't be had.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The database with the read models answered with an error.
    #[error("{}", database_detail(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Status of every version for every tenant of the journal: by name, the active version first, and
/// tenant.
pub async fn status(
    client: &Client,
    reader: &Reader,
) -> Result<Vec<ProjectionStatus>, StatusError> {
    let (mut tenants, mut names, mut heads) = (Vec::new(), Vec::new(), Vec::new());
    for tenant in reader.tenants().await? {
        heads.push(reader.head(tenant.id).await?);
        tenants.push(tenant.id);
        names.push(tenant.name);
    }
    let rows = client.query(include_str!("../sql/status.sql"), &[&tenants, &names, &heads]).await?;
    let status = rows.iter().map(|row| ProjectionStatus {
        name: row.get(0),
        version: row.get(1),
        state: row.get::<_, &str>(2).parse().expect("the table checks it"),
        tenant: row.get(3),
        tenant_name: row.get(4),
        position: row.get(5),
        head: row.get(6),
        error: row.get::<_, Option<String>>(7).map(StopReason::read),
        updated_at: row.get(8),
        parked: row.get(9),
    });
    let mut status: Vec<ProjectionStatus> = status.collect();
    // the journal has gone on since its heads were read
    for row in status.iter_mut().filter(|row| row.position > row.head) {
        row.head = reader.head(row.tenant).await?;
    }
    Ok(status)
}

//! Keys that were put aside because an event could not be folded onto their rows.

use serde::Serialize;
use tokio_postgres::Client;

use crate::{definition::schema_of, lifecycle};

/// A key that waits for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// Name of the projection.
    pub projection: String,
    /// Its version.
    pub version: String,
    /// Number of the tenant.
    pub tenant: i32,
    /// The key's columns as a JSON array.
    pub key: String,
    /// Position of the first event that is not in the row.
    pub position: i64,
    /// Type of that event.
    #[serde(rename = "type")]
    pub kind: String,
    /// What PostgreSQL said when it was last tried.
    pub error: String,
}

/// The parked keys of a projection, or of all, by projection, version, tenant and position.
pub async fn parked(
    client: &Client,
    projection: Option<&str>,
) -> Result<Vec<Parked>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select projection, version, tenant, key, position, type, error
             from projection.parked where $1::text is null or projection = $1
             order by projection, version, tenant, position, key",
            &[&projection],
        )
        .await?;
    let parked = rows.iter().map(|row| Parked {
        projection: row.get(0),
        version: row.get(1),
        tenant: row.get(2),
        key: row.get(3),
        position: row.get(4),
        kind: row.get(5),
        error: row.get(6),
    });
    Ok(parked.collect())
}

/// Tries the parked keys of a projection again, in every version: all, or the one given. Returns
/// those that were tried, each with what PostgreSQL said if it still can't be folded.
pub async fn retry(
    client: &Client,
    projection: &str,
    key: Option<&str>,
) -> Result<Vec<(Parked, Option<String>)>, tokio_postgres::Error> {
    let mut tried = Vec::new();
    for parked in parked(client, Some(projection)).await? {
        if key.is_some_and(|key| key != parked.key) {
            continue;
        }
        let schema = schema_of(projection, &parked.version);
        let row = client
            .query_one(
                &format!("select {schema}.{projection}__retry($1, $2)"),
                &[&parked.tenant, &parked.key],
            )
            .await?;
        tried.push((parked, row.get::<_, Option<String>>(0)));
    }
    if tried.iter().any(|(_, error)| error.is_none()) {
        lifecycle::tell_positions(client, projection).await?;
    }
    Ok(tried)
}

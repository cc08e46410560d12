//! Keys that were put aside because an event could not be folded onto their rows.

use daybook_journal::Reader;
use serde::Serialize;
use tokio_postgres::Client;

use crate::{
    copied::EventTable,
    definition::Definition,
    lifecycle::{self, LifecycleError},
    versions::versions,
};

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
/// those that were tried, each with what PostgreSQL said if it still can't be folded. The journal
/// that `reader` reads may be in another database.
pub async fn retry(
    client: &Client,
    reader: &Reader,
    projection: &str,
    key: Option<&str>,
) -> Result<Vec<(Parked, Option<String>)>, LifecycleError> {
    let versions = versions(client).await?;
    let events = EventTable::here(client).await?;
    let mut tried = Vec::new();
    for parked in parked(client, Some(projection)).await? {
        if key.is_some_and(|key| key != parked.key) {
            continue;
        }
        let same = |d: &Definition| d.name == parked.projection && d.version == parked.version;
        let Some(version) = versions.iter().find(|v| same(&v.definition)) else { continue };
        client.batch_execute("begin").await?;
        let error = retry_one(client, events, reader, &version.definition, &parked).await;
        client.batch_execute(if error.is_ok() { "commit" } else { "rollback" }).await?;
        tried.push((parked, error?));
    }
    if tried.iter().any(|(_, error)| error.is_none()) {
        lifecycle::tell_positions(client, projection).await?;
    }
    Ok(tried)
}

/// Tries one key in the caller's transaction.
async fn retry_one(
    client: &Client,
    events: EventTable,
    reader: &Reader,
    definition: &Definition,
    parked: &Parked,
) -> Result<Option<String>, LifecycleError> {
    let (schema, name) = (definition.schema(), &definition.name);
    // from here on no batch is folded
    let until = client
        .query_one(
            "select position from projection.checkpoints
             where projection = $1 and version = $2 and tenant = $3 for update",
            &[name, &definition.version, &parked.tenant],
        )
        .await?
        .get(0);
    let after = parked.position - 1;
    events.bring(client, definition, reader, parked.tenant, after, until).await?;
    let retry = format!("select {schema}.{name}__retry($1, $2)");
    Ok(client.query_one(&retry, &[&parked.tenant, &parked.key]).await?.get(0))
}

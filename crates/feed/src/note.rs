//! What the relay notes after acknowledgement, to find its place quickly.

use std::collections::HashMap;

use deadpool_postgres::Pool;
use uuid::Uuid;

use crate::error::FeedError;

/// How far a partition has been published: everything before `next_offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The journal's history that was published.
    pub(crate) incarnation: Uuid,
    /// Offset after the last acknowledged record.
    pub(crate) next_offset: i64,
    /// Tenant and position of the event that stands before `next_offset`.
    pub(crate) last: (i32, i64),
    /// Last position of each tenant before `next_offset`.
    pub(crate) positions: HashMap<i32, i64>,
}

/// The note about a partition, if there is one.
pub(crate) async fn load(
    pool: &Pool,
    topic: &str,
    partition: i32,
) -> Result<Option<Note>, FeedError> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("sql/load_note.sql")).await?;
    let rows = client.query(&statement, &[&topic, &partition]).await?;
    Ok(rows.first().map(|row| Note {
        incarnation: row.get(0),
        next_offset: row.get(1),
        last: (row.get(2), row.get(3)),
        positions: rows.iter().map(|row| (row.get(4), row.get(5))).collect(),
    }))
}

/// Replaces the note about a partition.
pub(crate) async fn save(
    pool: &Pool,
    topic: &str,
    partition: i32,
    note: &Note,
) -> Result<(), FeedError> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("sql/save_note.sql")).await?;
    let (tenants, positions): (Vec<i32>, Vec<i64>) =
        note.positions.iter().map(|(tenant, position)| (*tenant, *position)).unzip();
    client
        .execute(
            &statement,
            &[
                &topic,
                &partition,
                &note.incarnation,
                &note.next_offset,
                &note.last.0,
                &note.last.1,
                &tenants,
                &positions,
            ],
        )
        .await?;
    Ok(())
}

//! Putting events in again at the positions that they had: what a restore from an export writes.

use tokio_postgres::{Client, Statement, error::SqlState};

use crate::event::StoredEvent;

/// Events were not put in.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The journal's head is not where the caller thought: somebody else appends.
    #[error("restore: {0}")]
    AnotherHead(String),
    /// They don't follow what is there: a version or a time is not the next one.
    #[error("restore: {0}")]
    DoesNotFollow(String),
    /// One is in a version that is not activated here.
    #[error("restore: {0}: bring this installation to it first (`daybook schemas list`)")]
    NotActivated(String),
    /// PostgreSQL answered with another error.
    #[error("restore: {0}")]
    Database(#[from] tokio_postgres::Error),
}

/// Puts events in, as the owner of the journal.
pub struct Restore<'a> {
    client: &'a Client,
    statement: Statement,
}

impl<'a> Restore<'a> {
    /// Over this connection.
    pub async fn new(client: &'a Client) -> Result<Self, RestoreError> {
        let statement = client
            .prepare("select journal.restore($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
            .await?;
        Ok(Self { client, statement })
    }

    /// Puts `events` in behind the head, all or none; they must have the positions from `head` + 1
    /// on. `head` is the position and the mac of the last event that is there, (0, `None`) in an
    /// empty journal. Returns the new head's position.
    ///
    /// Nothing is decided and no mac is looked at: whoever calls this has done so. Idempotency
    /// records and jobs are no part of it.
    ///
    /// # Panics
    /// When the positions are not those.
    pub async fn put(
        &self,
        tenant: i32,
        head: (i64, Option<&[u8]>),
        events: &[StoredEvent],
    ) -> Result<i64, RestoreError> {
        let follow = (head.0 + 1..).zip(events).all(|(position, event)| event.position == position);
        assert!(follow, "events have the positions behind the head");
        macro_rules! column {
            ($event:ident => $value:expr) => {
                events.iter().map(|$event| $value).collect::<Vec<_>>()
            };
        }
        let answer = self
            .client
            .query_one(
                &self.statement,
                &[
                    &tenant,
                    &head.0,
                    &head.1,
                    &column!(event => event.stream.as_str()),
                    &column!(event => event.version),
                    &column!(event => event.kind.as_str()),
                    &column!(event => event.schema_version),
                    &column!(event => event.occurred_at),
                    &column!(event => event.recorded_at),
                    &column!(event => event.data.as_str()),
                    &column!(event => event.meta.as_str()),
                    &column!(event => event.mac.as_slice()),
                ],
            )
            .await;
        match answer {
            Ok(row) => Ok(row.get(0)),
            Err(error) => Err(refused(error)),
        }
    }
}

fn refused(error: tokio_postgres::Error) -> RestoreError {
    let Some(database) = error.as_db_error() else { return RestoreError::Database(error) };
    let (code, message) = (database.code(), database.message().to_owned());
    if *code == SqlState::from_code("DB010") {
        RestoreError::AnotherHead(message)
    } else if *code == SqlState::from_code("DB011") {
        RestoreError::DoesNotFollow(message)
    } else if *code == SqlState::from_code("DB012") {
        RestoreError::NotActivated(message)
    } else {
        RestoreError::Database(error)
    }
}

//! Events of a journal in another database, copied to where they are folded.

use daybook_journal::{EventsCopy, JournalError, Reader};
use futures::SinkExt;
use tokio_postgres::{Client, GenericClient};

use crate::{definition::Definition, install::database_detail, queries::QueryError};

/// The session's table of copied events, empty at the beginning of each transaction.
const SCRATCH: &str = "pg_temp.daybook_events";

/// Events could not be copied and folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The database with the read models answered with an error.
    #[error("{}", database_detail(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<CopyError> for QueryError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Database(error) => error.into(),
            CopyError::Journal(error) => error.into(),
        }
    }
}

/// Where set-based functions find events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventTable {
    /// In the journal, which is in the same database.
    Journal,
    /// In a temporary table that they are copied to; for a rebuild, in one beside its staging table.
    Scratch,
}

impl EventTable {
    /// Of the versions in this database.
    pub(crate) async fn here(client: &impl GenericClient) -> Result<Self, tokio_postgres::Error> {
        let journal =
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                            where n.nspname = 'journal' and c.relname = 'events')";
        let has_journal: bool = client.query_one(journal, &[]).await?.get(0);
        Ok(if has_journal { Self::Journal } else { Self::Scratch })
    }

    /// Its name in SQL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal.events",
            Self::Scratch => SCRATCH,
        }
    }

    /// Sees to it that set-based functions find the events of positions (`after`, `until`] that the
    /// projection reads: copies them, in the caller's transaction, if the journal is elsewhere.
    /// Memory doesn't grow with the piece.
    pub(crate) async fn bring(
        self,
        client: &Client,
        definition: &Definition,
        journal: &Reader,
        tenant: i32,
        after: i64,
        until: i64,
    ) -> Result<(), CopyError> {
        if self == Self::Journal {
            return Ok(());
        }
        open(client).await?;
        // what an earlier piece of the transaction has left
        client.execute(&format!("delete from {SCRATCH}"), &[]).await?;
        let events = journal.copy_events(tenant, after, until, &definition.events).await?;
        fill(client, events).await
    }
}

/// Makes the session's table of copied events, in no transaction or in one that may write.
pub(crate) async fn open(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.execute("select projection.open_scratch()", &[]).await.map(|_| ())
}

/// Copies events there.
pub(crate) async fn fill(client: &Client, events: EventsCopy) -> Result<(), CopyError> {
    fill_table(client, SCRATCH, events).await
}

/// Copies events to a table with the same columns.
pub(crate) async fn fill_table(
    client: &Client,
    table: &str,
    mut events: EventsCopy,
) -> Result<(), CopyError> {
    let into = format!("copy {table} ({}) from stdin (format binary)", EventsCopy::columns());
    let sink = client.copy_in(&into).await?;
    tokio::pin!(sink);
    while let Some(bytes) = events.next().await? {
        sink.send(bytes).await?;
    }
    sink.finish().await?;
    Ok(())
}

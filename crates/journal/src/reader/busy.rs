//! A connection on which PostgreSQL works for somebody who may stop waiting.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::{NoTls, Row, types::ToSql};

use super::{JournalError, Reader};

/// Longest that PostgreSQL may take to hear that something is cancelled.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// A connection until its work ends: nobody else may have it in the middle. Dropped before, the work
/// is cancelled in PostgreSQL and the connection closed.
pub(super) struct Busy(Option<Object>);

impl Reader {
    /// A connection, guarded before PostgreSQL is asked: it may be long until it begins to answer.
    pub(super) async fn busy(&self) -> Result<Busy, JournalError> {
        Ok(Busy(Some(self.pool.get().await?)))
    }

    /// What a statement finds, at most a row. Nobody need wait for it to the end.
    pub(super) async fn one(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, JournalError> {
        let mut connection = self.busy().await?;
        let client = connection.client();
        let answered = async {
            let statement = client.prepare_cached(sql).await?;
            client.query_opt(&statement, parameters).await
        };
        let answered = answered.await;
        connection.end();
        Ok(answered?)
    }
}

impl Busy {
    pub(super) fn client(&self) -> &Object {
        self.0.as_ref().expect("held until the end")
    }

    /// Gives the connection back.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let (Some(connection), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // Out of the pool: a cancellation that comes late must not meet somebody else's statement.
        let connection = Object::take(connection);
        runtime.spawn(async move {
            match timeout(CANCEL_WAIT, connection.cancel_token().cancel_query(NoTls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a read that nobody waits for goes on"),
                Err(_) => tracing::warn!("PostgreSQL does not hear that a read is cancelled"),
            }
        });
    }
}

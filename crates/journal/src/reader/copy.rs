//! Events on their way to another database, as PostgreSQL copies them.

use std::pin::Pin;

use bytes::Bytes;
use futures::StreamExt;
use tokio_postgres::CopyOutStream;

use super::{JournalError, Reader, busy::Busy};

/// What is copied of each event, in this order: all but the mac.
const COLUMNS: &str = "tenant, position, stream, version, type, schema_version, data, meta, \
     occurred_at, recorded_at";

/// Events in PostgreSQL's binary COPY format, piece by piece: never more than a few pieces are in
/// memory, however many events there are. Dropped before its end, it is cancelled in PostgreSQL.
pub struct EventsCopy {
    stream: Pin<Box<CopyOutStream>>,
    connection: Busy,
}

impl Reader {
    /// The events of a tenant with positions in (`after`, `until`] that are of these types, in no
    /// order, for `copy … from stdin (format binary)`. The columns are those that
    /// [`EventsCopy::columns`] names.
    pub async fn copy_events(
        &self,
        tenant: i32,
        after: i64,
        until: i64,
        kinds: &[String],
    ) -> Result<EventsCopy, JournalError> {
        let found = format!("tenant = {tenant} and position > {after} and position <= {until}");
        self.copy(&found, kinds).await
    }

    /// The same with the events of some streams up to a position.
    pub async fn copy_streams(
        &self,
        tenant: i32,
        streams: &[String],
        until: i64,
        kinds: &[String],
    ) -> Result<EventsCopy, JournalError> {
        // A stream's events are found by the stream's name, whatever the statistics say. `+ 0` keeps
        // the primary key out. The tenant is a subquery, so of average size to the planner: to find
        // one that the statistics don't know yet, it would do without the name as well.
        let streams = array(streams);
        let found = format!(
            "tenant = (select {tenant}) and stream = any ({streams}) and position + 0 <= {until}"
        );
        self.copy(&found, kinds).await
    }

    async fn copy(&self, found: &str, kinds: &[String]) -> Result<EventsCopy, JournalError> {
        // COPY takes no parameters.
        self.copy_out(&format!(
            "copy (select {COLUMNS} from journal.events where {found} \
             and type = any ({})) to stdout (format binary)",
            array(kinds)
        ))
        .await
    }

    /// Begins a COPY.
    pub(super) async fn copy_out(&self, copy: &str) -> Result<EventsCopy, JournalError> {
        let mut connection = self.busy().await?;
        match connection.client().copy_out(copy).await {
            Ok(stream) => Ok(EventsCopy { stream: Box::pin(stream), connection }),
            Err(refused) => {
                connection.end();
                Err(refused.into())
            }
        }
    }
}

impl EventsCopy {
    /// The columns that are copied, as a list for `copy table (…)`.
    pub const fn columns() -> &'static str {
        COLUMNS
    }

    /// The next piece; `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, JournalError> {
        let next = self.stream.next().await.transpose()?;
        if next.is_none() {
            self.connection.end();
        }
        Ok(next)
    }
}

/// Texts as an SQL array.
fn array(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| literal(text)).collect();
    format!("array[{}]::text[]", texts.join(", "))
}

/// Text as an SQL literal that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_the_text_does() {
        assert_eq!(literal("OrderPlaced"), "E'OrderPlaced'");
        assert_eq!(literal(r"it's \'"), r"E'it''s \\'''");
    }
}

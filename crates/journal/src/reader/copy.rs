//! Events on their way to another database, as PostgreSQL copies them.

use std::pin::Pin;

use bytes::Bytes;
use deadpool_postgres::Object;
use futures::StreamExt;
use tokio_postgres::CopyOutStream;

use super::{JournalError, Reader};

/// What is copied of each event, in this order: all but the mac.
const COLUMNS: &str = "tenant, position, stream, version, type, schema_version, data, meta, \
     occurred_at, recorded_at";

/// Events in PostgreSQL's binary COPY format, piece by piece: never more than a few pieces are in
/// memory, however many events there are.
pub struct EventsCopy {
    stream: Pin<Box<CopyOutStream>>,
    _connection: Object,
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
        let client = self.pool.get().await?;
        // COPY takes no parameters.
        let kinds: Vec<_> = kinds.iter().map(|kind| literal(kind)).collect();
        let stream = client
            .copy_out(&format!(
                "copy (select {COLUMNS} from journal.events where tenant = {tenant} \
                 and position > {after} and position <= {until} \
                 and type = any (array[{}]::text[])) to stdout (format binary)",
                kinds.join(", ")
            ))
            .await?;
        Ok(EventsCopy { stream: Box::pin(stream), _connection: client })
    }
}

impl EventsCopy {
    /// The columns that are copied, as a list for `copy table (…)`.
    pub const fn columns() -> &'static str {
        COLUMNS
    }

    /// The next piece; `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, JournalError> {
        Ok(self.stream.next().await.transpose()?)
    }
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

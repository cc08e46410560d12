//! What PostgreSQL must be set to, so that nothing that was acknowledged is lost.

use tokio_postgres::Client;

/// A setting, and the values of it that keep what was acknowledged; the first is the usual one.
const SETTINGS: [(&str, &[&str]); 2] =
    [("fsync", &["on"]), ("synchronous_commit", &["on", "remote_apply"])];

/// PostgreSQL is set so that acknowledged commands could be lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {value}: acknowledged commands could be lost; set it to {wanted}")]
pub struct NotDurable {
    /// Name of the setting.
    pub setting: &'static str,
    /// Its value for this login and database.
    pub value: String,
    /// What it should be.
    pub wanted: &'static str,
}

/// Whether this connection keeps what it acknowledges. A [`crate::Writer`] asks that of each
/// connection and writes over no other; a process asks at its start, so as not to begin in vain.
pub async fn check_durability(
    client: &Client,
) -> Result<Result<(), NotDurable>, tokio_postgres::Error> {
    for (setting, allowed) in SETTINGS {
        let row = client.query_one("select current_setting($1)", &[&setting]).await?;
        let value: String = row.get(0);
        if !allowed.contains(&value.as_str()) {
            return Ok(Err(NotDurable { setting, value, wanted: allowed[0] }));
        }
    }
    Ok(Ok(()))
}

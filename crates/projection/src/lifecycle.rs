//! Switching between versions of a projection, and dropping them: what the owner does.

use std::time::Duration;

use daybook_journal::JournalError;
use tokio_postgres::{Client, error::SqlState};

use crate::{
    copied::CopyError,
    definition::short,
    install::database_detail,
    notify,
    versions::{Version, VersionState, versions},
};

/// How often a switch is tried before it is given up, and the wait between.
const SWITCH_TRIES: u32 = 20;
const SWITCH_WAIT: Duration = Duration::from_millis(250);

/// A version can't be switched to or dropped.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// There is no such projection.
    #[error("there is no read model {0}")]
    NoProjection(String),
    /// No version, or more than one, is meant.
    #[error("read model {projection}: {detail}; there are {there}")]
    NoVersion {
        /// Name of the projection.
        projection: String,
        /// What is wrong.
        detail: String,
        /// The versions that there are, with their states.
        there: String,
    },
    /// It answers queries.
    #[error(
        "version {version} of {projection} answers queries: switch to another one first, or drop \
         the whole read model"
    )]
    Active {
        /// Name of the projection.
        projection: String,
        /// The version.
        version: String,
    },
    /// Rows of one can't be told to be those of the other.
    #[error(
        "versions {from} and {to} of {projection} have other keys: their rows can't be compared"
    )]
    OtherKeys {
        /// Name of the projection.
        projection: String,
        /// One version.
        from: String,
        /// The other.
        to: String,
    },
    /// They can't be brought to the same position.
    #[error(
        "versions {from} and {to} of {projection} don't come to the same position: \
         `daybook projections status` shows what stopped one"
    )]
    Apart {
        /// Name of the projection.
        projection: String,
        /// One version.
        from: String,
        /// The other.
        to: String,
    },
    /// Its position would fall for some tenant.
    #[error(
        "version {version} of {projection} has not caught up with the one that answers: \
         `daybook projections status` shows how far it is"
    )]
    Behind {
        /// Name of the projection.
        projection: String,
        /// The version.
        version: String,
    },
    /// PostgreSQL answered with an error.
    #[error("{}", database_detail(.0))]
    Database(#[from] tokio_postgres::Error),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<CopyError> for LifecycleError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Database(error) => Self::Database(error),
            CopyError::Journal(error) => Self::Journal(error),
        }
    }
}

/// The version of a projection that a text means: the beginning of its hash.
pub fn find_version<'a>(
    versions: &'a [Version],
    projection: &str,
    wanted: &str,
) -> Result<&'a Version, LifecycleError> {
    let own = of(versions, projection)?;
    let mut found = own.iter().filter(|v| v.definition.version.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version),
        (None, _) => Err(no_version(&own, projection, format!("there is no version {wanted}"))),
        (Some(_), Some(_)) => {
            Err(no_version(&own, projection, format!("{wanted} is the beginning of several")))
        }
    }
}

fn of<'a>(versions: &'a [Version], projection: &str) -> Result<Vec<&'a Version>, LifecycleError> {
    let own: Vec<_> = versions.iter().filter(|v| v.definition.name == projection).collect();
    if own.is_empty() {
        return Err(LifecycleError::NoProjection(projection.to_owned()));
    }
    Ok(own)
}

fn no_version(own: &[&Version], projection: &str, detail: String) -> LifecycleError {
    let there: Vec<_> =
        own.iter().map(|v| format!("{} ({})", short(&v.definition.version), v.state)).collect();
    LifecycleError::NoVersion { projection: projection.to_owned(), detail, there: there.join(", ") }
}

/// Makes a version the one that answers queries: the one that `to` means, or else the one that is
/// being built. Refused while its position is behind. Returns the version.
pub async fn switch(
    client: &Client,
    projection: &str,
    to: Option<&str>,
) -> Result<String, LifecycleError> {
    let all = versions(client).await?;
    let version = if let Some(to) = to {
        find_version(&all, projection, to)?
    } else {
        let own = of(&all, projection)?;
        own.iter().find(|v| v.state == VersionState::Building).copied().ok_or_else(|| {
            no_version(&own, projection, "none is being built: say which with --to".into())
        })?
    };
    let version = &version.definition.version;
    for _try in 0..SWITCH_TRIES {
        let row =
            client.query_one("select projection.switch_to($1, $2)", &[&projection, version]).await;
        match row {
            Ok(row) if row.get(0) => {
                show_analysts(client, projection).await?;
                // other rows, perhaps: whoever follows one looks again
                tell_positions(client, projection).await?;
                return Ok(version.clone());
            }
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(SWITCH_WAIT).await;
    }
    Err(LifecycleError::Behind {
        projection: projection.to_owned(),
        version: short(version).to_owned(),
    })
}

/// Tells all listeners where the version that answers stands, and that any of its rows may be
/// another.
pub(crate) async fn tell_positions(
    client: &Client,
    projection: &str,
) -> Result<(), tokio_postgres::Error> {
    let rows = client
        .query(
            "select tenant, position from projection.active
             join projection.checkpoints using (projection, version) where projection = $1",
            &[&projection],
        )
        .await?;
    let payloads: Vec<String> = rows
        .iter()
        .map(|row| format!("{projection}:{}:{}", row.get::<_, i32>(0), row.get::<_, i64>(1)))
        .collect();
    notify::tell(client, &payloads).await
}

/// Lets analysts see the version that answers. While one of them is reading, the running projector
/// does it later.
async fn show_analysts(client: &Client, projection: &str) -> Result<(), LifecycleError> {
    client.execute("select projection.show_analysts($1)", &[&projection]).await?;
    Ok(())
}

/// Drops one version that doesn't answer queries: rows, functions, checkpoints. Returns it.
pub async fn drop_version(
    client: &Client,
    projection: &str,
    version: &str,
) -> Result<String, LifecycleError> {
    let all = versions(client).await?;
    let found = find_version(&all, projection, version)?;
    let version = found.definition.version.clone();
    if found.state == VersionState::Active {
        return Err(LifecycleError::Active {
            projection: projection.to_owned(),
            version: short(&version).to_owned(),
        });
    }
    show_analysts(client, projection).await?;
    client.execute("select projection.drop_version($1, $2)", &[&projection, &version]).await?;
    Ok(version)
}

/// Drops a projection with all its versions and queries. The journal still has everything that it
/// was made from. Returns the versions.
pub async fn drop_projection(
    client: &mut Client,
    projection: &str,
) -> Result<Vec<String>, LifecycleError> {
    // read from the table, so that one whose definition no program can read is dropped too
    let transaction = client.transaction().await?;
    let dropped: Vec<String> = transaction
        .query("select version from projection.versions where projection = $1", &[&projection])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if dropped.is_empty() {
        return Err(LifecycleError::NoProjection(projection.to_owned()));
    }
    transaction
        .batch_execute(&format!(
            "set local lock_timeout = '5s'; drop view if exists analyst.{projection}"
        ))
        .await?;
    transaction
        .execute("delete from projection.active where projection = $1", &[&projection])
        .await?;
    for version in &dropped {
        transaction
            .execute("select projection.drop_version($1, $2)", &[&projection, version])
            .await?;
    }
    notify::tell_versions(&transaction).await?;
    transaction.commit().await?;
    Ok(dropped)
}

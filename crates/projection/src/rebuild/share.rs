//! The connections of a rebuild: one for each share of the keys.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};
use uuid::Uuid;

use super::RebuildError;
use crate::{batch::Replanning, definition::Definition};

/// How often the lock is tried, and the wait between: that of a rebuild which was killed is held
/// until the server has noticed.
const LOCK_TRIES: u32 = 10;
const LOCK_WAIT: Duration = Duration::from_millis(200);

/// Part of the keys: those whose hash, modulo how many shares there are, is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) number: i32,
    pub(super) of: i32,
}

impl Share {
    /// All keys.
    pub(super) const WHOLE: Self = Self { number: 0, of: 1 };
}

/// A piece of a tenant's journal: positions after `after` up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) tenant: i32,
    pub(super) after: i64,
    pub(super) until: i64,
}

/// A connection that folds one share, and holds its lock for as long as it lives: also when its
/// process is gone, and the server has not noticed yet.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) replanning: Replanning,
    connection: JoinHandle<Result<(), Error>>,
}

impl Session {
    pub(super) async fn open(config: &Config) -> Result<Self, RebuildError> {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        client.batch_execute("set timezone = 'UTC'; set jit = off").await?;
        Ok(Self { client, replanning: Replanning::default(), connection })
    }

    /// Takes the lock of a projection's rebuilds.
    pub(super) async fn lock_rebuild(&self, projection: &str) -> Result<(), RebuildError> {
        self.lock("daybook.projection.rebuild", projection, projection).await
    }

    /// Takes the lock of one share of them.
    pub(super) async fn lock_share(
        &self,
        projection: &str,
        number: i32,
    ) -> Result<(), RebuildError> {
        let share = format!("{projection} {number}");
        self.lock("daybook.projection.rebuild.share", &share, projection).await
    }

    async fn lock(&self, kind: &str, what: &str, projection: &str) -> Result<(), RebuildError> {
        let lock = "select pg_try_advisory_lock(hashtext($1), hashtext($2))";
        let mut tries = 0;
        while !self.client.query_one(lock, &[&kind, &what]).await?.get::<_, bool>(0) {
            tries += 1;
            if tries == LOCK_TRIES {
                return Err(RebuildError::Busy(projection.to_owned()));
            }
            tokio::time::sleep(LOCK_WAIT).await;
        }
        Ok(())
    }

    /// Folds a share's part of a piece onto the staging table and notes it, in one transaction;
    /// `place` is then its end.
    pub(super) async fn fold_and_note(
        &self,
        definition: &Definition,
        share: Share,
        piece: Piece,
        place: &mut i64,
    ) -> Result<(), RebuildError> {
        self.client.batch_execute("begin").await?;
        self.fold(definition, share, piece).await?;
        self.note(definition, Some(share), piece, None).await?;
        self.client.batch_execute("commit").await?;
        *place = piece.until;
        Ok(())
    }

    /// Folds a share's part of a piece onto the staging table.
    pub(super) async fn fold(
        &self,
        definition: &Definition,
        share: Share,
        piece: Piece,
    ) -> Result<(), RebuildError> {
        let Piece { tenant, after, until } = piece;
        let positions = usize::try_from(until - after).unwrap_or(usize::MAX);
        self.replanning.before(&self.client, positions).await?;
        let (schema, name) = (definition.schema(), &definition.name);
        let statement = format!("select {schema}.{name}__stage_journal($1, $2, $3, $4, $5)");
        self.client
            .query_one(&statement, &[&tenant, &after, &until, &share.of, &share.number])
            .await?;
        Ok(())
    }

    /// Notes that a share, or all of them together, has gone on from `after` to `until`. Fails if
    /// it did not stand there: somebody else has begun anew.
    pub(super) async fn note(
        &self,
        definition: &Definition,
        share: Option<Share>,
        piece: Piece,
        incarnation: Option<Uuid>,
    ) -> Result<(), RebuildError> {
        let (number, of) = (share.map(|s| s.number), share.map(|s| s.of));
        let moved = self
            .client
            .query_one(
                "with moved as (
                    update projection.rebuilds
                    set position = $5, incarnation = coalesce($8, incarnation)
                    where projection = $1 and version = $2 and tenant = $3 and position = $4
                      and share = coalesce($6, share) and shares = coalesce($7, shares)
                    returning shares
                 )
                 select count(*) > 0 and count(*) = case when $6 is null then max(shares) else 1 end
                 from moved",
                &[
                    &definition.name,
                    &definition.version,
                    &piece.tenant,
                    &piece.after,
                    &piece.until,
                    &number,
                    &of,
                    &incarnation,
                ],
            )
            .await?;
        if moved.get(0) { Ok(()) } else { Err(RebuildError::Busy(definition.name.clone())) }
    }

    /// Ends the connection; with it goes the lock.
    pub(super) async fn close(self) {
        self.client.execute("select pg_advisory_unlock_all()", &[]).await.ok();
        self.connection.abort();
    }
}

//! A rebuild from the journal: pieces of it, folded by every share at once.

use daybook_journal::Tenant;
use futures::future::join_all;
use tokio_postgres::error::SqlState;

use super::{
    LAST_PIECE_POSITIONS, Rebuild, RebuildError, Source, Staged,
    share::{Piece, Session, Share},
};
use crate::copied::{self, EventTable};

/// Positions of the journal that one statement folds.
const PIECE_POSITIONS: i64 = 100_000;
/// A tenant with so many positions is folded in shares, unless it is said how many.
const PARALLEL_FROM_POSITIONS: i64 = 300_000;
/// Shares of such a tenant.
const SHARES: i32 = 2;

impl Rebuild<'_> {
    pub(super) async fn read_journal(
        &mut self,
        tenants: &[Tenant],
    ) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let incarnation = self.deps.reader.incarnation().await?;
        for tenant in tenants {
            self.total += self.head(tenant.id).await?;
        }
        let (mut positions, mut changed) = (Vec::new(), 0);
        for tenant in tenants {
            let shares = self.shares_for(self.head(tenant.id).await?).await?;
            let mut staged =
                self.staged(tenant.id, Source::Journal, Some(incarnation), shares).await?;
            loop {
                let head = self.head(tenant.id).await?;
                while staged.behind() < head {
                    self.fold_shares(tenant.id, &mut staged, head).await?;
                }
                if self.head(tenant.id).await? - head <= LAST_PIECE_POSITIONS {
                    break;
                }
            }
            // every share stands at the same position: the rest is folded whole
            let after = staged.behind();
            self.first().client.batch_execute("begin").await?;
            self.lock_checkpoint(tenant.id).await?;
            let until = self.head(tenant.id).await?;
            if after < until {
                let piece = Piece { tenant: tenant.id, after, until };
                self.bring(piece).await?;
                self.first().fold(&self.definition, Share::WHOLE, piece).await?;
                self.first().note(&self.definition, None, piece, None).await?;
            }
            changed += self.swap(tenant.id, until.max(after), staged.incarnation).await?;
            self.finished(until.max(after));
            positions.push((tenant.id, until.max(after)));
        }
        Ok((positions, changed))
    }

    /// In how many shares a tenant's journal is folded, where no rebuild of it has begun.
    async fn shares_for(&self, head: i64) -> Result<i32, RebuildError> {
        let shares = match self.deps.shares {
            Some(shares) => i32::try_from(shares.get()).unwrap_or(i32::MAX),
            None if head >= PARALLEL_FROM_POSITIONS => SHARES,
            None => 1,
        };
        if shares == 1 {
            return Ok(1);
        }
        // some types can be told apart and put in order, but have no hash
        let (schema, name) = (self.definition.schema(), &self.definition.name);
        let hash = format!(
            "select hash_record_extended(jsonb_populate_record(null::{schema}.{name}__key, '{{}}'), 0)"
        );
        match self.first().client.query_one(&hash, &[]).await {
            Ok(_) => Ok(shares),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_FUNCTION) => Ok(1),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens as many connections as there are shares, each with its share's lock.
    pub(super) async fn open_sessions(&mut self, shares: usize) -> Result<(), RebuildError> {
        while self.locked_shares < shares {
            if self.sessions.len() == self.locked_shares {
                self.sessions.push(Session::open(&self.deps.config).await?);
            }
            let number = i32::try_from(self.locked_shares).unwrap_or(i32::MAX);
            let session = &self.sessions[self.locked_shares];
            session.lock_share(&self.definition.name, number).await?;
            self.locked_shares += 1;
        }
        Ok(())
    }

    /// One piece from where the last of the shares stands, by all that have not done it yet.
    async fn fold_shares(
        &mut self,
        tenant: i32,
        staged: &mut Staged,
        head: i64,
    ) -> Result<(), RebuildError> {
        let piece = self.deps.piece_positions.unwrap_or(PIECE_POSITIONS).max(1);
        let behind = staged.behind();
        let until = head.min(behind + piece);
        self.bring(Piece { tenant, after: behind, until }).await?;
        let of = i32::try_from(staged.places.len()).unwrap_or(i32::MAX);
        let mut folding = Vec::new();
        for ((session, place), number) in self.sessions.iter().zip(&mut staged.places).zip(0..) {
            let (share, piece) = (Share { number, of }, Piece { tenant, after: *place, until });
            if piece.after < until {
                folding.push(session.fold_and_note(&self.definition, share, piece, place));
            }
        }
        // all of them are waited for, whichever fails: none is left at work
        let folded = join_all(folding).await;
        self.step(staged.mean());
        folded.into_iter().collect()
    }

    /// Copies a piece of the journal, once for all shares, if that is in another database.
    async fn bring(&self, piece: Piece) -> Result<(), RebuildError> {
        if self.events == EventTable::Journal {
            return Ok(());
        }
        let (client, definition) = (&self.first().client, &self.definition);
        let Piece { tenant, after, until } = piece;
        let copied = format!("{}.{}__copied", definition.schema(), definition.name);
        client.batch_execute(&format!("truncate {copied}")).await?;
        let events = self.deps.reader.copy_events(tenant, after, until, &definition.events).await?;
        Ok(copied::fill_table(client, &copied, events).await?)
    }
}

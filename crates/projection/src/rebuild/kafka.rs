//! A rebuild from the topic, with nothing of the journal's events.

use daybook_feed::{ReadAll, read_all};
use daybook_journal::Tenant;
use uuid::Uuid;

use super::{
    LAST_PIECE_POSITIONS, Rebuild, RebuildError, Source,
    share::{Piece, Session, Share},
};
use crate::batch;

/// Events from Kafka that one statement folds, and bytes of their data.
const STAGE_EVENTS: usize = 5_000;
const STAGE_BYTES: usize = 8 * 1024 * 1024;

/// How far the staging table is for a tenant.
#[derive(Debug, Clone, Copy)]
struct Read {
    position: i64,
    incarnation: Option<Uuid>,
}

impl Rebuild<'_> {
    pub(super) async fn read_kafka(
        &mut self,
        tenants: &[Tenant],
    ) -> Result<(Vec<(i32, i64)>, i64), RebuildError> {
        let feed = self.deps.feed.clone().ok_or(RebuildError::NoTopic)?;
        let (mut positions, mut changed) = (Vec::new(), 0);
        for tenant in tenants {
            let staged = self.staged(tenant.id, Source::Kafka, None, 1).await?;
            let mut staged = Read { position: staged.behind(), incarnation: staged.incarnation };
            // what the topic holds now
            let mut reading = read_all(&feed, &[(tenant.clone(), i64::MAX)])?;
            self.stage_kafka(tenant.id, &mut reading, &mut staged, i64::MAX, true).await?;
            drop(reading);

            // what the rows that are served have beyond that
            let mut further: Option<ReadAll> = None;
            loop {
                let served = self.served(tenant.id).await?;
                let last_piece = served - staged.position <= LAST_PIECE_POSITIONS;
                if last_piece {
                    self.first().client.batch_execute("begin").await?;
                    self.lock_checkpoint(tenant.id).await?;
                }
                let served = self.served(tenant.id).await?;
                if served > staged.position {
                    if further.is_none() {
                        // open-ended: read no further than is wanted each time
                        further = Some(read_all(&feed, &[(tenant.clone(), i64::MAX - 1)])?);
                    }
                    let reading = further.as_mut().expect("just opened");
                    self.stage_kafka(tenant.id, reading, &mut staged, served, !last_piece).await?;
                }
                if last_piece {
                    break;
                }
            }
            changed += self.swap(tenant.id, staged.position, staged.incarnation).await?;
            self.finished(staged.position);
            positions.push((tenant.id, staged.position));
        }
        Ok((positions, changed))
    }

    /// Folds what is read until the staging table has position `until`, or the reading ends.
    async fn stage_kafka(
        &mut self,
        tenant: i32,
        reading: &mut ReadAll,
        staged: &mut Read,
        until: i64,
        each_alone: bool,
    ) -> Result<(), RebuildError> {
        let mut relevant = Vec::new();
        let mut bytes = 0;
        let mut read = staged.position;
        while read < until {
            let batch = reading.next().await?;
            let ended = batch.is_none();
            if let Some(batch) = batch {
                for event in batch.events {
                    if event.position <= read {
                        continue;
                    }
                    read = event.position;
                    staged.incarnation = Some(batch.incarnation);
                    if self.definition.reads(&event.kind) {
                        bytes += event.data.len();
                        relevant.push(event);
                    }
                }
            }
            if ended || read >= until || relevant.len() >= STAGE_EVENTS || bytes >= STAGE_BYTES {
                let Session { client, replanning, .. } = self.first();
                if each_alone {
                    client.batch_execute("begin").await?;
                }
                if !relevant.is_empty() {
                    replanning.before(client, relevant.len()).await?;
                    let events: Vec<_> = relevant.iter().collect();
                    batch::stage(client, &self.definition, tenant, &events).await?;
                }
                let piece = Piece { tenant, after: staged.position, until: read };
                let whole = Some(Share::WHOLE);
                self.first().note(&self.definition, whole, piece, staged.incarnation).await?;
                if each_alone {
                    self.first().client.batch_execute("commit").await?;
                }
                self.step(read);
                staged.position = read;
                relevant.clear();
                bytes = 0;
            }
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Position of the rows that are being served.
    async fn served(&self, tenant: i32) -> Result<i64, RebuildError> {
        let row = self
            .first()
            .client
            .query_opt(
                "select position from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3",
                &[&self.definition.name, &self.definition.version, &tenant],
            )
            .await?;
        Ok(row.map_or(0, |row| row.get(0)))
    }
}

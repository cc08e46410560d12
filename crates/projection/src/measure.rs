//! For measurements: one version's rows, moved batch by batch as a worker moves them.

use daybook_journal::{Reader, StoredEvent};
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use crate::{
    batch::{Fold, Step},
    definition::Definition,
};

/// Positions of the journal that one statement folds while nothing is measured.
const PIECE_POSITIONS: i64 = 100_000;

/// The rows of one version for one tenant. Nobody else may move them meanwhile.
pub struct MeasuredFold {
    fold: Fold,
    journal: Reader,
    definition: Definition,
    tenant: i32,
    incarnation: Uuid,
    position: i64,
}

impl MeasuredFold {
    /// Begins where the checkpoint stands. Connects with `config`; the journal that `reader` reads
    /// may be in another database.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn begin(
        config: &Config,
        reader: &Reader,
        definition: &Definition,
        tenant: i32,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let fold = Fold::prepare(client, definition).await?;
        let position = fold.checkpoint(tenant).await?.position;
        let incarnation = reader.incarnation().await?;
        let (journal, definition) = (reader.clone(), definition.clone());
        Ok(Self { fold, journal, definition, tenant, incarnation, position })
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        self.fold.client()
    }

    /// Position that the rows stand for.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Folds what the journal has up to a position, in large pieces.
    ///
    /// # Errors
    /// PostgreSQL's, or the checkpoint was moved by somebody else.
    pub async fn catch_up(&mut self, until: i64) -> Result<(), Box<dyn std::error::Error>> {
        while self.position < until {
            let step = self.step((self.position + PIECE_POSITIONS).min(until));
            let moved = self.fold.advance_journal(&self.journal, step).await?;
            moved.ok_or("somebody else moves these rows")?;
            self.position = step.next;
        }
        Ok(())
    }

    /// Folds events that go on from the position, in one transaction, as they come from Kafka.
    ///
    /// # Errors
    /// PostgreSQL's, or the checkpoint was moved by somebody else.
    pub async fn batch(
        &mut self,
        events: &[StoredEvent],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let Some(last) = events.last() else { return Ok(()) };
        let step = self.step(last.position);
        let relevant: Vec<_> =
            events.iter().filter(|event| self.definition.reads(&event.kind)).collect();
        let moved = self.fold.advance(step, &relevant).await?;
        moved.ok_or("somebody else moves these rows")?;
        self.position = step.next;
        Ok(())
    }

    fn step(&self, next: i64) -> Step {
        let Self { tenant, incarnation, position, .. } = *self;
        Step { tenant, incarnation, expected: position, next }
    }
}

//! One partition's relay: lock, look at what the topic holds, read, publish, note.

use std::{collections::HashMap, sync::Arc, time::Duration};

use daybook_journal::Tenant;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use tokio::sync::{mpsc, watch};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Shared,
    noting::Noting,
    progress::{Acknowledgements, Progress},
    reading::{Page, read},
    session::Session,
};
use crate::{
    client::EndsElsewhere,
    error::FeedError,
    lock, note,
    record::{self, FeedEvent},
    scan,
    trouble::{Backoff, Trouble},
};

/// How often a standby tries to take over.
const STANDBY_EVERY: Duration = Duration::from_secs(1);
/// Longest wait at the end for what is under way.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages read ahead.
const PAGES_AHEAD: usize = 2;
/// Records handed over before others get their turn.
const SLICE: usize = 64;
/// Pause while the producer's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(2);

type Producer = EndsElsewhere<ThreadedProducer<Acknowledgements>>;

/// The relay of one partition.
pub(super) struct Group {
    shared: Arc<Shared>,
    partition: i32,
    tenants: watch::Receiver<Vec<Tenant>>,
    lock: String,
    trouble: Trouble,
}

impl Group {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: i32,
        tenants: watch::Receiver<Vec<Tenant>>,
    ) -> Self {
        let topic = &shared.config.topic;
        let lock = lock::name(topic, partition);
        let trouble = Trouble::new(format!("relay of {topic}/{partition}"));
        Self { shared, partition, tenants, lock, trouble }
    }

    /// Until `stop`, or an error that waiting can't help.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), FeedError> {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let attempt = self.take_part(&stop, &mut backoff).await;
            metrics::gauge!("daybook_relay_active", "partition" => self.partition.to_string())
                .set(0.0);
            match attempt {
                Ok(()) => return Ok(()),
                // What was interrupted by the shutdown is no news.
                Err(_) if stop.is_cancelled() => return Ok(()),
                Err(error) if error.is_transient() => {
                    self.trouble.report(&error);
                    pause(backoff.next(), &stop).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for the lock, then publishes for as long as the connection that holds it lives.
    async fn take_part(
        &mut self,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), FeedError> {
        let session = self.shared.sessions.get().await?;
        while !session.try_lock(&self.lock).await? {
            self.trouble.over();
            pause(STANDBY_EVERY, stop).await;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
        metrics::gauge!("daybook_relay_active", "partition" => self.partition.to_string()).set(1.0);
        loop {
            let ended = self.publish(&session, stop, backoff).await;
            let lost = session.lost.is_cancelled();
            match ended {
                Err(error) if error.is_transient() && !lost && !stop.is_cancelled() => {
                    self.trouble.report(&error);
                    pause(backoff.next(), stop).await;
                }
                ended if lost => return ended.and(Err(FeedError::LockLost)),
                ended => {
                    // An error here means that the connection is gone, and with it the lock.
                    session.unlock(&self.lock).await.ok();
                    return ended;
                }
            }
        }
    }

    /// Publishes with one producer, until it or the connection fails, or `stop`.
    async fn publish(
        &mut self,
        session: &Session,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), FeedError> {
        let incarnation = session.incarnation().await?;
        let positions = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = session.lost.cancelled() => return Err(FeedError::LockLost),
            positions = self.whereabouts(session, incarnation, stop) => positions?,
        };
        let config = &self.shared.config;
        let what = format!("relay of {}/{}: Kafka", config.topic, self.partition);
        let progress = Arc::new(Progress::new(&what, positions.clone()));
        let producer: Producer = EndsElsewhere::new(
            config
                .producer()
                .create_with_context(Acknowledgements(Arc::clone(&progress)))
                .map_err(FeedError::Kafka)?,
        );
        tracing::info!(topic = config.topic, partition = self.partition, "relay is active");
        self.trouble.over();
        backoff.reset();

        let (pages, page_receiver) = mpsc::channel(PAGES_AHEAD);
        let noting = Noting {
            shared: &self.shared,
            partition: self.partition,
            incarnation,
            progress: &progress,
        };
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = session.lost.cancelled() => return Err(FeedError::LockLost),
            error = progress.failure() => return Err(error),
            ended = async {
                tokio::try_join!(
                    read(&self.shared, session, self.tenants.clone(), positions, pages),
                    self.hand_over(&producer, &progress, incarnation, page_receiver),
                    noting.run(self.tenants.clone()),
                )
            } => ended.map(|_never| ()),
        };
        // What is handed over is true whatever has ended us; only the lock's loss cuts it short.
        let settled = async {
            while producer.in_flight_count() > 0 {
                tokio::time::sleep(FULL_PAUSE).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(SETTLE_TIMEOUT, settled) => {}
            _ = progress.failure() => {}
        }
        noting.note().await.ok();
        ended
    }

    /// The last position of each tenant in the topic, checked against the journal.
    async fn whereabouts(
        &self,
        session: &Session,
        incarnation: Uuid,
        stop: &CancellationToken,
    ) -> Result<HashMap<i32, i64>, FeedError> {
        let config = self.shared.config.clone();
        let partition = self.partition;
        // A note about another history says nothing about which events its positions name.
        let note = note::load(&self.shared.pool, &config.topic, partition).await?;
        let note = note.filter(|note| note.incarnation == incarnation);
        let names: HashMap<i32, String> = (self.shared.reader.tenants().await?.into_iter())
            .map(|tenant| (tenant.id, tenant.name))
            .collect();
        let noted = note.as_ref().map(|note| note.positions.clone()).unwrap_or_default();
        let stop = stop.clone();
        let found = tokio::task::spawn_blocking(move || {
            scan::scan(&config, partition, note.as_ref(), &names, &stop)
        })
        .await
        .map_err(|_panicked| FeedError::Ended("the look at the topic's end"))??;
        tracing::debug!(partition, records = found.records, whole = found.whole, "topic read");

        let mut positions = if found.whole { HashMap::new() } else { noted };
        // Only now, so that a tenant that another relay has just published is known.
        let tenants = self.shared.reader.tenants().await?;
        for (name, reached) in found.tenants {
            let tenant = tenants.iter().find(|tenant| tenant.name == name);
            let tenant = tenant.ok_or_else(|| {
                self.contradiction(format!("it holds events of an unknown tenant {name:?}"))
            })?;
            if tenant.partition != partition {
                return Err(self.contradiction(format!(
                    "it holds events of tenant {name}, who belongs to partition {}",
                    tenant.partition
                )));
            }
            match session.mac(tenant.id, reached.position).await? {
                Some(mac) if mac == reached.mac => {}
                Some(_) => {
                    return Err(self.contradiction(format!(
                        "another event stands at tenant {name}'s position {}",
                        reached.position
                    )));
                }
                None => {
                    return Err(self.too_short(session, tenant, reached.position).await);
                }
            }
            positions.insert(tenant.id, reached.position);
        }
        for tenant in &tenants {
            if let Some(position) = positions.get(&tenant.id)
                && session.head(tenant.id).await? < *position
            {
                return Err(self.too_short(session, tenant, *position).await);
            }
        }
        Ok(positions)
    }

    async fn too_short(&self, session: &Session, tenant: &Tenant, published: i64) -> FeedError {
        match session.head(tenant.id).await {
            Ok(head) => self.contradiction(format!(
                "tenant {} reaches position {published} there, but {head} in the journal, which \
                 may have been restored from an older backup",
                tenant.name
            )),
            Err(error) => error,
        }
    }

    fn contradiction(&self, detail: String) -> FeedError {
        FeedError::Contradiction {
            topic: self.shared.config.topic.clone(),
            partition: self.partition,
            detail,
        }
    }

    /// Hands pages to the producer, each record with its number.
    async fn hand_over(
        &self,
        producer: &Producer,
        progress: &Progress,
        incarnation: Uuid,
        mut pages: mpsc::Receiver<Page>,
    ) -> Result<std::convert::Infallible, FeedError> {
        while let Some(page) = pages.recv().await {
            let Some(first) = page.rows.first() else { continue };
            let first = progress.announce(page.tenant.id, first.try_get(0)?, page.rows.len());
            for (nth, row) in page.rows.iter().enumerate() {
                if nth % SLICE == SLICE - 1 {
                    tokio::task::yield_now().await;
                }
                let event = event_of(row, &page.tenant.name, incarnation)?;
                let headers =
                    record::encode(&event).map_err(|reason| unpublishable(&event, reason))?;
                let mut record = BaseRecord::with_opaque_to(&self.shared.config.topic, first + nth)
                    .partition(self.partition)
                    .key(event.tenant)
                    .payload(event.data)
                    .timestamp(event.recorded_at.timestamp_millis())
                    .headers(headers);
                while let Err((error, refused)) = producer.send(record) {
                    match error {
                        KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                            tokio::time::sleep(FULL_PAUSE).await;
                            record = refused;
                        }
                        KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                            return Err(unpublishable(
                                &event,
                                "it is larger than max_record_bytes".to_owned(),
                            ));
                        }
                        error => return Err(self.ended(producer, &error)),
                    }
                }
            }
        }
        Err(FeedError::Ended("the relay's reading of the journal"))
    }

    /// Why the producer takes no more: its first fatal error says it best.
    fn ended(&self, producer: &Producer, error: &KafkaError) -> FeedError {
        match producer.client().fatal_error() {
            Some((code, reason)) => FeedError::KafkaFatal(format!("{code}: {reason}")),
            None => FeedError::KafkaFatal(format!("partition {}: {error}", self.partition)),
        }
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

fn event_of<'a>(
    row: &'a Row,
    tenant: &'a str,
    incarnation: Uuid,
) -> Result<FeedEvent<'a>, tokio_postgres::Error> {
    Ok(FeedEvent {
        tenant,
        incarnation,
        position: row.try_get(0)?,
        stream: row.try_get(1)?,
        version: row.try_get(2)?,
        kind: row.try_get(3)?,
        schema_version: row.try_get(4)?,
        data: row.try_get(5)?,
        meta: row.try_get(6)?,
        occurred_at: row.try_get(7)?,
        recorded_at: row.try_get(8)?,
        mac: row.try_get(9)?,
    })
}

fn unpublishable(event: &FeedEvent<'_>, reason: String) -> FeedError {
    FeedError::Unpublishable { tenant: event.tenant.to_owned(), position: event.position, reason }
}

//! Events to a topic of somebody's choice: for replays, never for the feed itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::watch;

use crate::{
    client::EndsElsewhere,
    config::FeedConfig,
    error::FeedError,
    record::{self, FeedEvent},
    topic,
    trouble::Trouble,
};

/// Pause while the producer's queue is full, and between looks whether it is empty.
const PAUSE: Duration = Duration::from_millis(2);

/// What is known of deliveries.
#[derive(Debug)]
struct Deliveries {
    /// Position of the last event that Kafka has confirmed; 0: none.
    confirmed: AtomicI64,
    failure: watch::Sender<Option<String>>,
    trouble: Trouble,
}

#[derive(Debug)]
struct Context(Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.trouble.report(&format_args!("{error} ({reason})"));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, position: usize) {
        match result {
            Ok(_) => {
                let position = i64::try_from(position).unwrap_or(i64::MAX);
                self.0.confirmed.store(position, Ordering::Release);
                self.0.trouble.over();
            }
            Err((error, _)) => {
                self.0.failure.send_if_modified(|failure| {
                    let first = failure.is_none();
                    failure.get_or_insert_with(|| error.to_string());
                    first
                });
            }
        }
    }
}

/// Publishes one tenant's events, in the order in which they are handed over, as the feed's records
/// look. What it holds at once is bounded.
pub struct Publisher {
    producer: EndsElsewhere<ThreadedProducer<Context>>,
    deliveries: Arc<Deliveries>,
    topic: String,
}

impl Publisher {
    /// A publisher to `topic`, which is made as the feed's own would be if it isn't there.
    ///
    /// Fails with [`FeedError::Unfit`] if it is the feed's own: only the relay writes there, since
    /// its readers rely on the order.
    pub async fn new(config: &FeedConfig, topic: &str) -> Result<Self, FeedError> {
        if topic == config.topic {
            return Err(FeedError::Unfit {
                topic: topic.to_owned(),
                detail: "it is the feed's own, which the relay alone writes to".to_owned(),
                remedy: "name another topic".to_owned(),
            });
        }
        let target = FeedConfig { topic: topic.to_owned(), partitions: 1, ..config.clone() };
        topic::ensure_topic(&target).await?;
        let deliveries = Arc::new(Deliveries {
            confirmed: AtomicI64::new(0),
            failure: watch::channel(None).0,
            trouble: Trouble::new("replay: Kafka"),
        });
        let producer = target
            .producer()
            .create_with_context(Context(Arc::clone(&deliveries)))
            .map_err(FeedError::Kafka)?;
        Ok(Self { producer: EndsElsewhere::new(producer), deliveries, topic: topic.to_owned() })
    }

    /// Hands an event over; waits while there is no room.
    pub async fn publish(&self, event: &FeedEvent<'_>) -> Result<(), FeedError> {
        let unpublishable = |reason| FeedError::Unpublishable {
            tenant: event.tenant.to_owned(),
            position: event.position,
            reason,
        };
        let headers = record::encode(event).map_err(unpublishable)?;
        let position = usize::try_from(event.position).unwrap_or(0);
        // Its key alone decides the partition: the topic may have any number of them.
        let mut record = BaseRecord::with_opaque_to(&self.topic, position)
            .key(event.tenant)
            .payload(event.data)
            .timestamp(event.recorded_at.timestamp_millis())
            .headers(headers);
        loop {
            self.sound()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    tokio::time::sleep(PAUSE).await;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Err(unpublishable("it is larger than max_record_bytes".to_owned()));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until Kafka has confirmed everything that was handed over.
    pub async fn settle(&self) -> Result<(), FeedError> {
        while self.producer.in_flight_count() > 0 {
            self.sound()?;
            tokio::time::sleep(PAUSE).await;
        }
        self.sound()
    }

    /// Position of the last event that Kafka has confirmed; 0: none yet.
    pub fn confirmed(&self) -> i64 {
        self.deliveries.confirmed.load(Ordering::Acquire)
    }

    fn sound(&self) -> Result<(), FeedError> {
        match &*self.deliveries.failure.borrow() {
            Some(reason) => Err(FeedError::KafkaFatal(reason.clone())),
            None => Ok(()),
        }
    }
}

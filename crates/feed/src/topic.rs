//! The topic: made with the right settings, or checked if it is there already.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use crate::{
    client::{EndsElsewhere, Link},
    config::FeedConfig,
    error::FeedError,
    lock,
};

/// Longest wait for one answer from Kafka.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait until every broker knows of a topic that was just made.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes the topic, or checks the one that is there: partitions, retention, kind of timestamps.
///
/// Fails with [`FeedError::Unfit`], which says what to do, if the topic can't serve.
pub async fn ensure_topic(config: &FeedConfig) -> Result<(), FeedError> {
    let (admin, options) = administration(config)?;
    if partitions(&admin, config).await?.is_none() {
        create(&admin, config, &options).await?;
    }
    let deadline = Instant::now() + SPREAD_TIMEOUT;
    let found = loop {
        match partitions(&admin, config).await? {
            Some(found) if found > 0 => break found,
            _ if Instant::now() > deadline => {
                return Err(FeedError::KafkaStalled(format!(
                    "topic {} was made, but has no partitions yet",
                    config.topic
                )));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    check(&admin, config, &options, found).await
}

/// Checks the topic as [`ensure_topic`] does, without making it: a missing one is unfit.
pub async fn check_topic(config: &FeedConfig) -> Result<(), FeedError> {
    let (admin, options) = administration(config)?;
    match partitions(&admin, config).await? {
        Some(found) => check(&admin, config, &options, found).await,
        None => Err(missing(config)),
    }
}

fn missing(config: &FeedConfig) -> FeedError {
    let remedy = "`daybook migrate` and every relay make it".to_owned();
    unfit(config, "there is no such topic".to_owned(), remedy)
}

/// How many partitions the topic has, and where its settings are not those configured. A missing
/// topic is unfit.
pub(crate) async fn compare(config: &FeedConfig) -> Result<(i32, Vec<String>), FeedError> {
    let (admin, options) = administration(config)?;
    let Some(mut replicas) = replicas(&admin, config).await? else {
        return Err(missing(config));
    };
    let found = count(&replicas);
    let mut differences = Vec::new();
    if found != config.partitions {
        differences.push(format!("partitions is {found}, configured is {}", config.partitions));
    }
    replicas.dedup();
    let replication = match replicas.as_slice() {
        [replicas] => replicas.to_string(),
        _ => "not the same everywhere".to_owned(),
    };
    if replication != config.replication.to_string() {
        differences
            .push(format!("replication is {replication}, configured is {}", config.replication));
    }
    for Difference { name, found, wanted } in differing(&admin, config, &options).await? {
        differences.push(format!("{name} is {found}, configured is {wanted}"));
    }
    Ok((found, differences))
}

/// Deletes the topic and makes it anew, empty. The relay then publishes all of the journal from its
/// start; subscribers go on, since their checkpoints are positions and not offsets.
///
/// Takes the locks of all partitions first, so that no relay is at work: fails with
/// [`FeedError::Unfit`] while one is.
pub async fn recreate_topic(
    config: &FeedConfig,
    client: &tokio_postgres::Client,
) -> Result<(), FeedError> {
    let (admin, options) = administration(config)?;
    let found = partitions(&admin, config).await?;
    for partition in 0..found.unwrap_or(0).max(config.partitions) {
        if !lock::try_take(client, &lock::name(&config.topic, partition)).await? {
            return Err(unfit(
                config,
                format!("a relay is at work on partition {partition}"),
                "stop every relay (`daybook relay`, `daybook up`) first".to_owned(),
            ));
        }
    }
    if found.is_some() {
        match admin.delete_topics(&[&config.topic], &options).await?.pop() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => {}
            Some(Err((_, code))) => return Err(KafkaError::AdminOp(code).into()),
            None => return Err(FeedError::KafkaStalled("no answer about the topic".to_owned())),
        }
        let deadline = Instant::now() + SPREAD_TIMEOUT;
        while partitions(&admin, config).await?.is_some() {
            if Instant::now() > deadline {
                return Err(FeedError::KafkaStalled(format!(
                    "topic {} is still there after it was deleted",
                    config.topic
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    ensure_topic(config).await
}

type Administration = EndsElsewhere<Arc<AdminClient<Link>>>;

fn administration(config: &FeedConfig) -> Result<(Administration, AdminOptions), FeedError> {
    let admin: AdminClient<Link> =
        config.finish(config.client()).create_with_context(Link::new("Kafka administration"))?;
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT));
    Ok((EndsElsewhere::new(Arc::new(admin)), options))
}

async fn check(
    admin: &AdminClient<Link>,
    config: &FeedConfig,
    options: &AdminOptions,
    found: i32,
) -> Result<(), FeedError> {
    if found < config.partitions {
        return Err(unfit(
            config,
            format!("it has {found} partitions, {} are configured", config.partitions),
            format!(
                "add partitions (kafka-topics --alter --topic {} --partitions {}) or configure \
                 fewer; tenants stay where they are either way",
                config.topic, config.partitions
            ),
        ));
    }
    check_settings(admin, config, options).await
}

async fn create(
    admin: &AdminClient<Link>,
    config: &FeedConfig,
    options: &AdminOptions,
) -> Result<(), FeedError> {
    let settings = settings(config);
    let mut topic = NewTopic::new(
        &config.topic,
        config.partitions,
        TopicReplication::Fixed(config.replication),
    );
    for (name, value) in &settings {
        topic = topic.set(name, value);
    }
    match admin.create_topics([&topic], options).await?.pop() {
        Some(Ok(_)) => {
            tracing::info!(topic = config.topic, partitions = config.partitions, "topic made");
            Ok(())
        }
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((
            _,
            code @ (RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed),
        ))) => Err(unfit(
            config,
            format!(
                "it can't be made with {} partitions, replication {} and min.insync.replicas {}: \
                 {code}",
                config.partitions, config.replication, config.min_insync
            ),
            "correct the feed's settings, or make the topic by hand".to_owned(),
        )),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code).into()),
        None => Err(FeedError::KafkaStalled("no answer about the new topic".to_owned())),
    }
}

/// How many partitions the topic has, as this broker knows; `None`: there is no such topic.
async fn partitions(admin: &Administration, config: &FeedConfig) -> Result<Option<i32>, FeedError> {
    Ok(replicas(admin, config).await?.map(|replicas| count(&replicas)))
}

fn count(replicas: &[usize]) -> i32 {
    i32::try_from(replicas.len()).unwrap_or(i32::MAX)
}

/// How many replicas each partition of the topic has, as this broker knows; `None`: there is no such
/// topic.
async fn replicas(
    admin: &Administration,
    config: &FeedConfig,
) -> Result<Option<Vec<usize>>, FeedError> {
    let admin = Arc::clone(admin);
    let topic = config.topic.clone();
    let metadata = tokio::task::spawn_blocking(move || {
        let answer = admin.inner().fetch_metadata(Some(&topic), REQUEST_TIMEOUT);
        // Not the last owner: the caller's is dropped after this, elsewhere.
        drop(admin);
        answer
    })
    .await
    .map_err(|_panicked| FeedError::Ended("the look at Kafka's topics"))??;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == config.topic) else {
        return Ok(None);
    };
    match found.error() {
        None => Ok(Some(found.partitions().iter().map(|one| one.replicas().len()).collect())),
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Ok(None),
        Some(error) => Err(KafkaError::MetadataFetch(error.into()).into()),
    }
}

/// A setting of the topic that is not the one it would be made with.
struct Difference {
    name: &'static str,
    found: String,
    wanted: String,
}

impl Difference {
    /// Why the topic can't serve with it; `None`: it can.
    fn matters(&self) -> Option<&'static str> {
        match self.name {
            "cleanup.policy" => Some("compaction would remove all but each tenant's last event"),
            "retention.ms" => Some("events would be removed at another time than agreed"),
            "message.timestamp.type" => Some("a record's time is when its event was recorded"),
            _ => None,
        }
    }
}

/// What the topic is made with.
fn settings(config: &FeedConfig) -> [(&'static str, String); 7] {
    [
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", config.retention_ms.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        ("min.insync.replicas", config.min_insync.to_string()),
        ("max.message.bytes", config.max_record_bytes.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

async fn differing(
    admin: &AdminClient<Link>,
    config: &FeedConfig,
    options: &AdminOptions,
) -> Result<Vec<Difference>, FeedError> {
    let described =
        admin.describe_configs([&ResourceSpecifier::Topic(&config.topic)], options).await?.pop();
    let there = match described {
        Some(Ok(there)) => there,
        Some(Err(code)) => return Err(KafkaError::AdminOp(code).into()),
        None => return Err(FeedError::KafkaStalled("no answer about the topic".to_owned())),
    };
    let difference = |(name, wanted): (&'static str, String)| {
        let found = there.get(name)?.value.clone().filter(|found| *found != wanted)?;
        Some(Difference { name, found, wanted })
    };
    Ok(settings(config).into_iter().filter_map(difference).collect())
}

async fn check_settings(
    admin: &AdminClient<Link>,
    config: &FeedConfig,
    options: &AdminOptions,
) -> Result<(), FeedError> {
    for difference in differing(admin, config, options).await? {
        let Some(why) = difference.matters() else { continue };
        let Difference { name, found, wanted } = difference;
        return Err(unfit(
            config,
            format!("{name} is {found}, must be {wanted} ({why})"),
            format!(
                "change it (kafka-configs --alter --entity-type topics --entity-name {} \
                 --add-config {name}={wanted}) or choose another topic",
                config.topic
            ),
        ));
    }
    Ok(())
}

fn unfit(config: &FeedConfig, detail: String, remedy: String) -> FeedError {
    FeedError::Unfit { topic: config.topic.clone(), detail, remedy }
}

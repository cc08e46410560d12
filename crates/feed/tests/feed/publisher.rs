//! Replays into a topic against a real PostgreSQL and a real Kafka.

use std::collections::BTreeMap;

use crate::kit::with_bed;
use daybook_feed::{FeedConfig, FeedError, FeedEvent, Publisher};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_in_order_as_the_feeds_records_and_never_to_its_own_topic() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 3000, 0).await;
        let topic = &bed.feed.topic;
        let elsewhere = FeedConfig { topic: format!("{topic}-own"), ..bed.feed.clone() };
        let own = Publisher::new(&elsewhere, &elsewhere.topic).await.err();
        assert!(matches!(own, Some(FeedError::Unfit { .. })), "{own:?}");

        let publisher = Publisher::new(&elsewhere, topic).await.unwrap();
        let incarnation = bed.reader.incarnation().await.unwrap();
        for event in bed.journal(&main).await {
            let record = FeedEvent::of("main", incarnation, &event);
            publisher.publish(&record).await.unwrap();
        }
        publisher.settle().await.unwrap();
        assert_eq!(publisher.confirmed(), 3000);
        assert_eq!(bed.assert_contiguous(0, &BTreeMap::from([("main", 3000)])).await, 0);

        // Its own topic was not even made.
        let admin: AdminClient<DefaultClientContext> = bed.client().create().unwrap();
        let deleted = admin.delete_topics(&[&elsewhere.topic], &AdminOptions::new()).await.unwrap();
        assert!(deleted[0].is_err(), "{deleted:?}");
    })
    .await;
}

//! The topic compared with the journal, and made anew, on a real PostgreSQL and a real Kafka.

use std::collections::BTreeMap;

use crate::kit::{Bed, receive, remove_records, repeat, with_bed};
use daybook_feed::{
    CheckReport, Fault, FeedConfig, FeedError, FeedEvent, Publisher, check, recreate_topic,
};
use daybook_journal::Tenant;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

async fn look(bed: &Bed) -> CheckReport {
    check(&bed.feed, &bed.pool, |done, total| assert!(done <= total)).await.unwrap()
}

async fn publish(bed: &Bed, tenant: &Tenant, until: i64) {
    let relay = bed.relay();
    bed.noted(tenant, until).await;
    relay.stop().await;
}

/// A record that is none of ours.
fn foreign(bed: &Bed) {
    let producer: BaseProducer = bed.client().create().unwrap();
    producer.send(BaseRecord::<str, str>::to(&bed.feed.topic).partition(0).payload("hi")).unwrap();
    producer.flush(crate::kit::PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_agrees_is_said_to_and_repeats_are_counted() {
    with_bed(2, async |bed| {
        let (main, other) = (bed.tenant("main").await, bed.tenant("other").await);
        bed.append(&main, 1, 5000, 0).await;
        bed.append(&other, 1, 30, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 5000).await;
        bed.noted(&other, 30).await;
        relay.stop().await;
        repeat(&bed, 0, 7).await;
        bed.append(&main, 5001, 5003, 0).await;
        let report = look(&bed).await;
        assert_eq!((report.faults, report.settings), (vec![], Vec::<String>::new()));
        assert_eq!((report.records, report.repeats), (5037, 7));
        let reach = &report.tenants["main"];
        assert_eq!((reach.first, reach.last, reach.head), (1, 5000, 5003));
        assert_eq!(report.tenants["other"].last, 30);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_disagreement_is_named_with_its_place() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 10, 0).await;
        publish(&bed, &main, 10).await;
        foreign(&bed);
        // Restored from an older backup, and gone on differently.
        bed.execute("alter table journal.events disable trigger all").await;
        bed.execute("delete from journal.events where position > 7").await;
        bed.append(&main, 8, 8, 1).await;
        let report = look(&bed).await;
        let tenant = || "main".to_owned();
        assert_eq!(
            report.faults,
            [
                Fault::Foreign {
                    partition: 0,
                    offset: 10,
                    reason: "not a Daybook event: header ce_specversion is missing".to_owned(),
                },
                Fault::Other { partition: 0, offset: 7, tenant: tenant(), position: 8 },
                Fault::Beyond { partition: 0, offset: 8, tenant: tenant(), position: 9 },
                Fault::Beyond { partition: 0, offset: 9, tenant: tenant(), position: 10 },
            ]
        );
        // A tenant whom the journal doesn't have, and one who belongs elsewhere.
        bed.execute("update journal.tenants set partition = 1").await;
        let Some(Fault::Tenant { why, .. }) = look(&bed).await.faults.first().cloned() else {
            panic!("the tenant is in a wrong partition");
        };
        assert!(why.contains("belong to partition 1"), "{why}");
        let settings =
            FeedConfig { min_insync: 2, replication: 3, partitions: 4, ..bed.feed.clone() };
        let report = check(&settings, &bed.pool, |_, _| {}).await.unwrap();
        assert_eq!(
            report.settings,
            [
                "partitions is 1, configured is 4",
                "replication is 1, configured is 3",
                "min.insync.replicas is 1, configured is 2",
            ]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_filled_from_the_journal_and_agrees() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 500, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 500).await;
        let (client, connection) = bed.pg.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        // Not under a relay that is at work.
        let busy = recreate_topic(&bed.feed, &client).await.unwrap_err();
        assert!(matches!(&busy, FeedError::Unfit { .. }), "{busy}");
        assert!(busy.to_string().contains("a relay is at work"), "{busy}");
        relay.stop().await;
        foreign(&bed);
        // The relay refuses it, and says what to do.
        bed.append(&main, 501, 501, 0).await;
        let refused = bed.relay().error().await;
        assert!(matches!(refused, FeedError::Foreign { .. }), "{refused}");
        let mut subscription = bed.subscribe("all", &[&main]);
        let received = receive(&mut subscription, &[(&main, 500)]).await;
        assert_eq!(received[&main.id].len(), 500);
        subscription.close().await;

        recreate_topic(&bed.feed, &client).await.unwrap();
        drop(client);
        publish(&bed, &main, 501).await;
        assert_eq!(bed.assert_contiguous(0, &BTreeMap::from([("main", 501)])).await, 0);
        assert_eq!(look(&bed).await.faults, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_named_and_what_retention_has_removed_is_none() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 10, 0).await;
        let elsewhere = FeedConfig { topic: "another".to_owned(), ..bed.feed.clone() };
        let publisher = Publisher::new(&elsewhere, &bed.feed.topic).await.unwrap();
        let incarnation = bed.reader.incarnation().await.unwrap();
        for event in bed.journal(&main).await {
            if event.position == 4 || event.position == 5 {
                continue;
            }
            let record = FeedEvent::of("main", incarnation, &event);
            publisher.publish(&record).await.unwrap();
        }
        publisher.settle().await.unwrap();
        let gap =
            Fault::Gap { partition: 0, offset: 3, tenant: "main".to_owned(), after: 3, found: 6 };
        assert_eq!(look(&bed).await.faults, [gap]);

        remove_records(&bed, 5).await;
        let report = look(&bed).await;
        assert_eq!((report.faults, report.records), (vec![], 3));
        assert_eq!((report.tenants["main"].first, report.tenants["main"].last), (8, 10));
    })
    .await;
}

//! The relay against a real PostgreSQL and a real Kafka.

use std::collections::BTreeMap;

use crate::kit::{self, receive, wait_for, with_bed};
use daybook_feed::{FeedError, check_topic, ensure_topic, read_all};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_published_in_order_with_every_column() {
    with_bed(2, async |bed| {
        let (main, other, third) =
            (bed.tenant("main").await, bed.tenant("other").await, bed.tenant("third").await);
        assert_eq!((main.partition, other.partition, third.partition), (0, 1, 0));
        bed.append(&main, 1, 3000, 0).await;
        bed.append(&other, 1, 500, 0).await;
        bed.append(&third, 1, 1200, 0).await;
        let relay = bed.relay();
        // Live ones, and those of a tenant that is new.
        bed.noted(&main, 3000).await;
        bed.append(&main, 3001, 3001, 0).await;
        let late = bed.tenant("late").await;
        bed.append(&late, 1, 10, 0).await;
        let tenants = [&main, &other, &third, &late];
        let mut subscription = bed.subscribe("all", &tenants);
        let until = [(&main, 3001), (&other, 500), (&third, 1200), (&late, 10)];
        let received = receive(&mut subscription, &until).await;
        for tenant in tenants {
            assert_eq!(received[&tenant.id], bed.journal(tenant).await, "{}", tenant.name);
        }
        subscription.close().await;
        relay.stop().await;
        let repeats =
            bed.assert_contiguous(0, &BTreeMap::from([("main", 3001), ("third", 1200)])).await;
        assert_eq!(repeats, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_topic_ends_whatever_is_noted() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        let other = bed.tenant("other").await;
        bed.append(&main, 1, 800, 0).await;
        bed.append(&other, 1, 70, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 800).await;
        bed.noted(&other, 70).await;
        relay.stop().await;

        // No note at all.
        assert_eq!(bed.execute("delete from feed.partitions").await, 1);
        bed.append(&main, 801, 900, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 900).await;
        relay.stop().await;

        // An old note, as after a kill: of some record and the positions up to it.
        let records = bed.records(0).await;
        let kept = &records[..400];
        let last_of = |name: &str| {
            kept.iter().filter(|(tenant, ..)| tenant == name).map(|(_, p, _)| *p).max()
        };
        let (name, position, _) = &kept[399];
        let last_tenant = if name == "main" { main.id } else { other.id };
        bed.execute(&format!(
            "update feed.partitions set next_offset = 400, last_tenant = {last_tenant},
             last_position = {position}"
        ))
        .await;
        for tenant in [&main, &other] {
            bed.execute(&match last_of(&tenant.name) {
                Some(position) => format!(
                    "update feed.positions set position = {position} where tenant = {}",
                    tenant.id
                ),
                None => format!("delete from feed.positions where tenant = {}", tenant.id),
            })
            .await;
        }
        bed.append(&main, 901, 1000, 0).await;
        bed.append(&other, 71, 71, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 1000).await;
        bed.noted(&other, 71).await;
        relay.stop().await;

        // A note that names another event than stands there.
        bed.execute("update feed.partitions set next_offset = 10").await;
        bed.append(&main, 1001, 1100, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 1100).await;
        relay.stop().await;

        let repeats =
            bed.assert_contiguous(0, &BTreeMap::from([("main", 1100), ("other", 71)])).await;
        assert_eq!(repeats, 0, "nothing failed, so nothing needed repeating");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_the_middle_leaves_no_gap() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        for round in 0..4 {
            // There is something to publish in each round, however far the one before came.
            bed.append(&main, round * 10_000 + 1, (round + 1) * 10_000, 0).await;
            let before = published(&bed).await;
            let relay = bed.relay();
            wait_for("some progress", async || (published(&bed).await > before).then_some(()))
                .await;
            relay.kill().await;
        }
        // One more: the killed ones may have published all there was, and nothing acknowledged is
        // nothing noted.
        bed.append(&main, 40_001, 40_001, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 40_001).await;
        relay.stop().await;
        bed.assert_contiguous(0, &BTreeMap::from([("main", 40_001)])).await;
    })
    .await;
}

/// Records in the topic's partition 0, as its end says; 0 while there is no topic.
async fn published(bed: &kit::Bed) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let client = bed.client();
    let topic = bed.feed.topic.clone();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client.create().unwrap();
        consumer.fetch_watermarks(&topic, 0, kit::PATIENCE).map_or(0, |(_, high)| high)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_lose_their_lock_again_and_again_do_no_harm() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 60_000, 0).await;
        let (one, two) = (bed.relay(), bed.relay());
        let mut killed = 0;
        while killed < 6 {
            // Without asking the relay: its producer may still be sending when the other begins.
            killed += bed
                .execute(
                    "select pg_terminate_backend(pid) from pg_locks
                     where locktype = 'advisory' and granted
                       and database = (select oid from pg_database where datname = current_database())",
                )
                .await;
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
        bed.noted(&main, 60_000).await;
        bed.append(&main, 60_001, 60_010, 0).await;
        bed.noted(&main, 60_010).await;
        one.stop().await;
        two.stop().await;
        bed.assert_contiguous(0, &BTreeMap::from([("main", 60_010)])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_are_both_active_do_no_harm() {
    with_bed(1, async |bed| {
        // Of two databases with the same events, so that neither's lock keeps the other away.
        with_bed(1, async |twin| {
            let mut twin = kit::Bed::share(&twin);
            twin.feed = bed.feed.clone();
            for bed in [&bed, &twin] {
                let main = bed.tenant("main").await;
                bed.append(&main, 1, 30_000, 0).await;
            }
            let main = bed.tenant("main").await;
            let (one, two) = (bed.relay(), twin.relay());
            bed.noted(&main, 30_000).await;
            twin.noted(&main, 30_000).await;
            for bed in [&bed, &twin] {
                bed.append(&main, 30_001, 30_100, 0).await;
            }
            bed.noted(&main, 30_100).await;
            twin.noted(&main, 30_100).await;
            one.stop().await;
            two.stop().await;
            let until = BTreeMap::from([("main", 30_100)]);
            assert!(bed.assert_contiguous(0, &until).await > 0, "they were both active");
            let mut reading = read_all(&bed.feed, &[(main, 30_100)]).unwrap();
            let mut count = 0;
            while let Some(batch) = reading.next().await.unwrap() {
                count += batch.events.len();
            }
            assert_eq!(count, 30_100);
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        let first = bed.relay();
        bed.append(&main, 1, 10, 0).await;
        bed.noted(&main, 10).await;
        let second = bed.relay();
        first.stop().await;
        bed.append(&main, 11, 20, 0).await;
        bed.noted(&main, 20).await;
        second.stop().await;
        assert_eq!(bed.assert_contiguous(0, &BTreeMap::from([("main", 20)])).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_filled_again() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 300, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 300).await;
        relay.stop().await;
        bed.delete_topic().await;
        bed.append(&main, 301, 301, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 301).await;
        relay.stop().await;
        bed.assert_contiguous(0, &BTreeMap::from([("main", 301)])).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_under_the_relay_is_noticed() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 300, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 300).await;
        bed.delete_topic().await;
        ensure_topic(&bed.feed).await.unwrap();
        // The new topic takes what comes next without complaint: it now begins at 301.
        bed.append(&main, 301, 600, 0).await;
        let error = relay.error().await;
        assert!(matches!(error, FeedError::TopicGap { after: 0, found: 301, .. }), "{error}");
        // What the error says to do works.
        bed.delete_topic().await;
        let relay = bed.relay();
        bed.noted(&main, 600).await;
        relay.stop().await;
        assert_eq!(bed.assert_contiguous(0, &BTreeMap::from([("main", 600)])).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_the_topic_contradicts_is_refused() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 50, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 50).await;
        relay.stop().await;

        // As after a restore from an older backup: shorter, …
        bed.execute("alter table journal.events disable trigger all").await;
        bed.execute("delete from journal.events where position > 40").await;
        let error = bed.relay().error().await;
        assert!(matches!(error, FeedError::Contradiction { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("main reaches position 50 there, but 40"), "{text}");

        // … and then with other events at the same positions.
        bed.append(&main, 41, 60, 1).await;
        bed.execute("delete from feed.partitions").await;
        let error = bed.relay().error().await;
        assert!(error.to_string().contains("another event stands at tenant main's position 50"));

        // Under another id of the history a note is worth nothing.
        let relay_again = async || {
            bed.execute("update journal.incarnations set id = gen_random_uuid()").await;
            bed.relay().error().await
        };
        assert!(matches!(relay_again().await, FeedError::Contradiction { .. }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_incarnation_of_the_same_events_goes_on() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 50, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 50).await;
        relay.stop().await;
        bed.execute("update journal.incarnations set id = gen_random_uuid()").await;
        bed.append(&main, 51, 60, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 60).await;
        relay.stop().await;
        assert_eq!(bed.assert_contiguous(0, &BTreeMap::from([("main", 60)])).await, 0);
        let mut subscription = bed.subscribe("both", &[&main]);
        let first = subscription.next_batch(1000, kit::PATIENCE).await.unwrap().unwrap();
        let second = subscription.next_batch(1000, kit::PATIENCE).await.unwrap().unwrap();
        assert_eq!((first.events.len(), second.events.len()), (50, 10));
        assert_ne!(first.incarnation, second.incarnation);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_is_named() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 5, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 5).await;
        relay.stop().await;
        let producer: BaseProducer = bed.client().create().unwrap();
        producer.send(BaseRecord::to(&bed.feed.topic).key("main").payload("{}")).unwrap();
        producer.flush(kit::PATIENCE).unwrap();

        let error = bed.relay().error().await;
        assert!(matches!(error, FeedError::Foreign { partition: 0, offset: 5, .. }), "{error}");
        let mut subscription = bed.subscribe("foreign", &[&main]);
        let batch = subscription.next_batch(1000, kit::PATIENCE).await.unwrap().unwrap();
        assert_eq!(batch.events.len(), 5, "what stands before it comes first");
        let error = subscription.next_batch(1000, kit::PATIENCE).await.unwrap_err();
        assert!(matches!(error, FeedError::Foreign { partition: 0, offset: 5, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("partition 0, offset 5: not a Daybook event: header"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_once_and_checked() {
    with_bed(2, async |bed| {
        let missing = check_topic(&bed.feed).await.unwrap_err();
        assert!(missing.to_string().contains("there is no such topic"), "{missing}");
        ensure_topic(&bed.feed).await.unwrap();
        ensure_topic(&bed.feed).await.unwrap();
        check_topic(&bed.feed).await.unwrap();

        let mut more = bed.feed.clone();
        more.partitions = 3;
        let error = ensure_topic(&more).await.unwrap_err();
        assert!(!error.is_transient());
        assert!(error.to_string().contains("it has 2 partitions, 3 are configured"), "{error}");

        let mut shorter = bed.feed.clone();
        shorter.retention_ms = 1000;
        let error = ensure_topic(&shorter).await.unwrap_err();
        assert!(error.to_string().contains("retention.ms is -1, must be 1000"), "{error}");

        bed.delete_topic().await;
        let admin: AdminClient<DefaultClientContext> = bed.client().create().unwrap();
        let compacted = NewTopic::new(&bed.feed.topic, 2, TopicReplication::Fixed(1))
            .set("cleanup.policy", "compact")
            .set("retention.ms", "-1");
        admin.create_topics([&compacted], &AdminOptions::new()).await.unwrap();
        let error = wait_for("topic seen", async || ensure_topic(&bed.feed).await.err()).await;
        assert!(error.to_string().contains("cleanup.policy is compact"), "{error}");
        let relay = bed.relay();
        assert!(matches!(relay.error().await, FeedError::Unfit { .. }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_services_are_waited_for() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 5, 0).await;
        let mut away = kit::Bed::share(&bed);
        "127.0.0.1:1".clone_into(&mut away.feed.brokers);
        let relay = away.relay();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert!(!relay.task.is_finished(), "it waits");
        relay.stop().await;

        // The database's side: connections are cut again and again, and it goes on.
        let relay = bed.relay();
        for until in [10, 20, 30] {
            bed.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and application_name = 'daybook relay'",
            )
            .await;
            bed.append(&main, until - 4 - i64::from(until > 10) * 5, until, 0).await;
            bed.noted(&main, until).await;
        }
        relay.stop().await;
        bed.assert_contiguous(0, &BTreeMap::from([("main", 30)])).await;
    })
    .await;
}

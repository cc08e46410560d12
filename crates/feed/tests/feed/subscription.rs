//! Reading the topic: as a member of a group, and whole.

use std::{collections::HashMap, time::Duration};

use crate::kit::{self, PATIENCE, receive, take, with_bed};
use daybook_feed::{FeedError, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_resumes_after_its_last_commit() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 1000, 0).await;
        let relay = bed.relay();
        let mut subscription = bed.subscribe("resuming", &[&main]);
        let first = subscription.next_batch(300, PATIENCE).await.unwrap().unwrap();
        assert!(first.events.len() <= 300);
        let second = subscription.next_batch(300, PATIENCE).await.unwrap().unwrap();
        let seen = first.events.len() + second.events.len();
        assert_eq!(second.events[0].position, first.events.last().unwrap().position + 1);
        subscription.commit(&first);
        subscription.commit(&second);
        subscription.close().await;

        let mut subscription = bed.subscribe("resuming", &[&main]);
        let next = subscription.next_batch(300, PATIENCE).await.unwrap().unwrap();
        assert_eq!(next.events[0].position, i64::try_from(seen).unwrap() + 1);
        // Nothing of this is committed: it all comes again.
        drop(subscription);
        let mut subscription = bed.subscribe("resuming", &[&main]);
        let again = subscription.next_batch(300, PATIENCE).await.unwrap().unwrap();
        assert_eq!(again.events[0].position, i64::try_from(seen).unwrap() + 1);
        subscription.close().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_there_is_said_after_the_wait_and_news_at_once() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 1, 0).await;
        let relay = bed.relay();
        let mut subscription = bed.subscribe("live", &[&main]);
        receive(&mut subscription, &[(&main, 1)]).await;
        let none = subscription.next_batch(10, Duration::from_millis(50)).await.unwrap();
        assert_eq!(none, None);
        bed.append(&main, 2, 2, 0).await;
        let one = subscription.next_batch(10, PATIENCE).await.unwrap().unwrap();
        assert_eq!(one.events.len(), 1, "one event is not held back for company");
        subscription.close().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_the_partitions() {
    share_the_partitions("consumer").await;
}

/// With brokers that don't know the new protocol.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_classic_group_share_the_partitions() {
    share_the_partitions("classic").await;
}

async fn share_the_partitions(protocol: &str) {
    with_bed(2, async |bed| {
        let mut bed = kit::Bed::share(&bed);
        protocol.clone_into(&mut bed.feed.group_protocol);
        let (main, other) = (bed.tenant("main").await, bed.tenant("other").await);
        bed.append(&main, 1, 100, 0).await;
        bed.append(&other, 1, 100, 0).await;
        let relay = bed.relay();
        let mut one = bed.subscribe("shared", &[&main, &other]);
        receive(&mut one, &[(&main, 100), (&other, 100)]).await;
        let mut two = bed.subscribe("shared", &[&main, &other]);
        // Events go on until each member has some of its own.
        let mut last = 100;
        let mut shares = [HashMap::new(), HashMap::new()];
        kit::wait_for("both members have work", async || {
            last += 1;
            bed.append(&main, last, last, 0).await;
            bed.append(&other, last, last, 0).await;
            for (member, share) in [&mut one, &mut two].into_iter().zip(&mut shares) {
                let wait = Duration::from_millis(100);
                while let Some(batch) = member.next_batch(10, wait).await.unwrap() {
                    take(share, &batch);
                    member.commit(&batch);
                }
            }
            (shares.iter().all(|share| !share.is_empty())).then_some(())
        })
        .await;
        // The one that stays takes over what the other leaves.
        two.close().await;
        last += 1;
        bed.append(&main, last, last, 0).await;
        bed.append(&other, last, last, 0).await;
        receive(&mut one, &[(&main, last), (&other, last)]).await;
        one.close().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_loses_nothing_and_keeps_its_place() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 20_000, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 20_000).await;
        let mut subscription = bed.subscribe("slow", &[&main]);
        let mut events = HashMap::new();
        take(&mut events, &subscription.next_batch(100, PATIENCE).await.unwrap().unwrap());
        // Long enough for the queue to fill and the partitions to be paused.
        tokio::time::sleep(Duration::from_secs(7)).await;
        for (tenant, rest) in receive(&mut subscription, &[(&main, 20_000)]).await {
            events.entry(tenant).or_default().extend(rest);
        }
        let positions: Vec<i64> = events[&main.id].iter().map(|event| event.position).collect();
        assert_eq!(positions, (1..=20_000).collect::<Vec<_>>());
        subscription.close().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_tenant_is_named() {
    with_bed(1, async |bed| {
        let (main, other) = (bed.tenant("main").await, bed.tenant("other").await);
        bed.append(&other, 1, 3, 0).await;
        let relay = bed.relay();
        let mut subscription = bed.subscribe("unknown", &[&main]);
        let error = subscription.next_batch(10, PATIENCE).await.unwrap_err();
        assert!(
            matches!(&error, FeedError::UnknownTenant { tenant, offset: 0, .. } if tenant == "other"),
            "{error}"
        );
        assert!(error.is_transient(), "a newer list may have it");
        let mut subscription = bed.subscribe("unknown", &[&main, &other]);
        receive(&mut subscription, &[(&other, 3)]).await;
        subscription.close().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_topic_is_read_without_repeats() {
    with_bed(2, async |bed| {
        let (main, other, third) =
            (bed.tenant("main").await, bed.tenant("other").await, bed.tenant("third").await);
        for tenant in [&main, &other, &third] {
            bed.append(tenant, 1, 2000, 0).await;
        }
        let relay = bed.relay();
        for tenant in [&main, &other, &third] {
            bed.noted(tenant, 2000).await;
        }
        relay.stop().await;
        // Repeats, as of a relay that did not notice that it had been replaced.
        kit::repeat(&bed, 0, 100).await;

        let until = [(main.clone(), 1500), (other.clone(), i64::MAX)];
        let mut reading = read_all(&bed.feed, &until).unwrap();
        let mut events = HashMap::new();
        while let Some(batch) = reading.next().await.unwrap() {
            take(&mut events, &batch);
        }
        let mut expected = HashMap::from([
            (main.id, bed.journal(&main).await),
            (other.id, bed.journal(&other).await),
        ]);
        expected.get_mut(&main.id).unwrap().truncate(1500);
        assert_eq!(events, expected);

        let mut to_the_end = read_all(&bed.feed, &[(main.clone(), i64::MAX)]).unwrap();
        let mut count = 0;
        while let Some(batch) = to_the_end.next().await.unwrap() {
            count += batch.events.len();
        }
        assert_eq!(count, 2000);

        let mut subscription = bed.subscribe("repeats", &[&main, &other, &third]);
        let until = [(&main, 2000), (&third, 2000)];
        assert_eq!(receive(&mut subscription, &until).await[&main.id].len(), 2000);
        subscription.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_lacks_events_is_named() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 10, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 10).await;
        relay.stop().await;
        let mut reading = read_all(&bed.feed, &[(main.clone(), 11)]).unwrap();
        assert_eq!(reading.next().await.unwrap().unwrap().events.len(), 10);
        let error = reading.next().await.unwrap_err();
        assert!(matches!(error, FeedError::TooShort { found: 10, wanted: 11, .. }), "{error}");

        let empty = bed.tenant("empty").await;
        let mut reading = read_all(&bed.feed, &[(empty, 0)]).unwrap();
        assert_eq!(reading.next().await.unwrap(), None);

        kit::remove_records(&bed, 4).await;
        let mut reading = read_all(&bed.feed, &[(main.clone(), 10)]).unwrap();
        let error = reading.next().await.unwrap_err();
        assert!(matches!(error, FeedError::TopicGap { after: 0, found: 5, .. }), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_is_another_event_ends_the_subscription() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 500, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 500).await;
        relay.stop().await;
        // The same events again are nothing; other ones at the same positions are.
        kit::repeat(&bed, 0, 50).await;
        kit::contradict(&bed, 300, 3).await;
        let mut subscription = bed.subscribe("contradicted", &[&main]);
        let mut given = 0;
        let error = loop {
            match subscription.next_batch(10_000, PATIENCE).await {
                Ok(batch) => given += batch.unwrap().events.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(given, 500, "what stands before it comes first, once");
        assert!(
            matches!(error, FeedError::Contradicted { offset: 550, position: 301, .. }),
            "{error}"
        );
        assert!(!error.is_transient());
        let mut reading = read_all(&bed.feed, &[(main, i64::MAX)]).unwrap();
        let error = loop {
            if let Err(error) = reading.next().await {
                break error;
            }
        };
        assert!(matches!(error, FeedError::Contradicted { position: 301, .. }), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_from_too_long_ago_is_left_to_the_consumer() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 20_000, 0).await;
        let relay = bed.relay();
        bed.noted(&main, 20_000).await;
        relay.stop().await;
        kit::repeat(&bed, 0, 30).await;
        let mut subscription = bed.subscribe("long-ago", &[&main]);
        let (mut last, mut again) = (0, Vec::new());
        while again.len() < 30 {
            let batch = subscription.next_batch(700, PATIENCE).await.unwrap().unwrap();
            let positions: Vec<i64> = batch.events.iter().map(|event| event.position).collect();
            assert!(positions.is_sorted(), "a batch ascends: {positions:?}");
            if positions[0] == last + 1 {
                last += i64::try_from(positions.len()).unwrap();
            } else {
                again.extend(positions);
            }
        }
        assert_eq!((last, again), (20_000, (1..=30).collect()));
        subscription.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_by_its_bytes() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        bed.append(&main, 1, 300, 0).await;
        bed.execute("alter table journal.events disable trigger all").await;
        bed.execute(
            "update journal.events set data = jsonb_build_object('text', repeat('x', 100000))",
        )
        .await;
        let relay = bed.relay();
        bed.noted(&main, 300).await;
        let mut subscription = bed.subscribe("large", &[&main]);
        let mut given = 0;
        while given < 300 {
            // Everything has been fetched by now that fits in the queue.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let batch = subscription.next_batch(10_000, PATIENCE).await.unwrap().unwrap();
            given += batch.events.len();
            let bytes: usize = batch.events.iter().map(|event| event.data.len()).sum();
            assert!(bytes < 2_300_000, "{bytes}");
        }
        subscription.close().await;
        relay.stop().await;
    })
    .await;
}

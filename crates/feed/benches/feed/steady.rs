//! Commit → received, at a steady rate from several writers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use daybook_feed::{FeedConfig, decode};
use daybook_journal::{Verdict, Writer, WriterConfig};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Bed,
    kit::{self, Server, notes, percentile, rounded},
};

/// What is sent before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last events are waited for.
const LATEST: Duration = Duration::from_secs(20);

/// When something happened to each position, microseconds after the start; 0: it has not.
struct Times(Vec<AtomicU64>);

impl Times {
    fn new(positions: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(positions + 1).collect())
    }

    /// Notes it the first time; whether it was.
    fn note(&self, position: i64, since: Instant) -> bool {
        let micros = u64::try_from(since.elapsed().as_micros()).expect("a short run").max(1);
        let at = usize::try_from(position).ok().and_then(|position| self.0.get(position));
        let at = at.expect("a position within the run");
        at.compare_exchange(0, micros, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn at(&self, position: usize) -> Option<u64> {
        Some(self.0[position].load(Ordering::Relaxed)).filter(|micros| *micros > 0)
    }
}

/// What a consumer has seen.
#[derive(Default)]
struct Seen {
    duplicates: u64,
    out_of_order: u64,
    /// Microseconds from `recorded_at`, which is before the commit, by position.
    since_recorded: Vec<(i64, u32)>,
}

pub(crate) async fn measure(server: &Server, rate: u32, seconds: u32, writers: u32) -> Value {
    eprintln!("feed: {rate} events a second from {writers} writers");
    let bed = Bed::make(server).await;
    let relay = bed.relay();
    let span = WARM_UP + Duration::from_secs(u64::from(seconds));
    let per_writer = usize::try_from(rate / writers).expect("a number")
        * usize::try_from(span.as_secs()).expect("a number");
    let wanted = per_writer * usize::try_from(writers).expect("a number");
    let (committed, received) = (Arc::new(Times::new(wanted)), Arc::new(Times::new(wanted)));
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let consumer = std::thread::spawn({
        let (feed, received, stop) = (bed.feed.clone(), Arc::clone(&received), Arc::clone(&stop));
        move || consume(&feed, wanted, &received, started, &stop)
    });

    let shutdown = CancellationToken::new();
    let mut sending = Vec::new();
    let pause = Duration::from_secs(1) / (rate / writers);
    let begin = tokio::time::Instant::now() + Duration::from_secs(1);
    for nth in 0..writers {
        let config = WriterConfig::default();
        let (model, keys) = (Arc::new(notes::Notes), kit::keys());
        let (writer, task) = Writer::new(bed.database.config(), kit::tenant(), model, keys, config);
        tokio::spawn(task.run(shutdown.clone()));
        let committed = Arc::clone(&committed);
        sending.push(tokio::spawn(async move {
            let mut ticks = interval_at(begin + pause * nth / writers, pause);
            // One that was late sends at once, so that the rate is kept.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut under_way = JoinSet::new();
            for _ in 0..per_writer {
                ticks.tick().await;
                let (writer, committed) = (writer.clone(), Arc::clone(&committed));
                under_way.spawn(async move {
                    let outcome = writer.submit(notes::submission(notes::new_stream())).await;
                    let outcome = outcome.expect("the command is accepted");
                    let Verdict::Accepted(accepted) = outcome.verdict else {
                        panic!("it is accepted")
                    };
                    committed.note(accepted.position, started);
                });
            }
            while let Some(sent) = under_way.join_next().await {
                sent.expect("no command panics");
            }
        }));
    }
    for sending in sending {
        sending.await.expect("no writer panics");
    }
    let took = begin.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let latest = Instant::now() + LATEST;
    while !consumer.is_finished() && Instant::now() < latest {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let seen = consumer.join().expect("no panic");
    shutdown.cancel();
    relay.stop().await;
    bed.remove().await;

    let counted_from = wanted * usize::try_from(WARM_UP.as_secs()).expect("a number")
        / usize::try_from(span.as_secs()).expect("a number");
    let mut latencies: Vec<u32> = (counted_from + 1..=wanted)
        .filter_map(|position| Some(received.at(position)?.saturating_sub(committed.at(position)?)))
        .map(|micros| u32::try_from(micros).unwrap_or(u32::MAX))
        .collect();
    latencies.sort_unstable();
    let counted = seen.since_recorded.iter().filter(|(position, _)| {
        usize::try_from(*position).is_ok_and(|position| position > counted_from)
    });
    let mut recorded: Vec<u32> = counted.map(|(_, micros)| *micros).collect();
    recorded.sort_unstable();
    let lost = (1..=wanted).filter(|position| received.at(*position).is_none()).count();
    json!({
        "bench": "feed",
        "step": "steady",
        "rate": rate,
        "writers": writers,
        "per_s": rounded(wanted as f64 / took, 0),
        "p50_ms": rounded(percentile(&latencies, 50), 2),
        "p99_ms": rounded(percentile(&latencies, 99), 2),
        "recorded_p50_ms": rounded(percentile(&recorded, 50), 2),
        "recorded_p99_ms": rounded(percentile(&recorded, 99), 2),
        "lost": lost,
        "dup": seen.duplicates,
        "ooo": seen.out_of_order,
    })
}

/// Receives until every position has come, or it is told to stop. Repeats are counted as they stand.
fn consume(
    feed: &FeedConfig,
    wanted: usize,
    received: &Times,
    started: Instant,
    stop: &AtomicBool,
) -> Seen {
    let consumer: BaseConsumer = feed.consumer("unused").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&feed.topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("there is such a partition");
    let (mut seen, mut count, mut last) = (Seen::default(), 0, 0);
    while count < wanted && !stop.load(Ordering::Relaxed) {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.expect("Kafka gives it out");
        let (position, age) = decode(&record, |event| {
            (event.position, (Utc::now() - event.recorded_at).num_microseconds())
        })
        .expect("an event");
        if !received.note(position, started) {
            seen.duplicates += 1;
            continue;
        }
        count += 1;
        seen.out_of_order += u64::from(position != last + 1);
        last = position;
        let age = age.and_then(|micros| u32::try_from(micros).ok()).unwrap_or(0);
        seen.since_recorded.push((position, age));
    }
    seen
}

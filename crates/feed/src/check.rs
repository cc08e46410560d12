//! Whether the topic holds what the journal does: each record, in each partition, read whole.

use std::collections::{BTreeMap, HashMap};

use daybook_journal::{Reader, Tenant};
use deadpool_postgres::Pool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::FeedConfig,
    error::FeedError,
    record::MAC_BYTES,
    scan::{self, groupless, watermarks},
    topic,
};

/// Records that are compared in one question to PostgreSQL, and such pieces under way.
const PIECE_RECORDS: usize = 2_000;
const PIECES_AHEAD: usize = 4;
/// Faults that are told one by one; more are counted.
const FAULTS_TOLD: usize = 20;

/// Where topic and journal disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record that is no event of ours.
    #[error("partition {partition}, offset {offset}: {reason}")]
    Foreign {
        /// Where it stands.
        partition: i32,
        /// Where it stands.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// A tenant whose events don't belong into this partition, or who is not known at all.
    #[error("partition {partition}, offset {offset}: events of tenant {tenant:?} {why}")]
    Tenant {
        /// Where its first event there stands.
        partition: i32,
        /// Where its first event there stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
        /// Why they don't belong there.
        why: String,
    },
    /// Positions that are left out before a later one.
    #[error(
        "partition {partition}, offset {offset}: tenant {tenant} goes from position {after} to {found}"
    )]
    Gap {
        /// Where the later one stands.
        partition: i32,
        /// Where the later one stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
        /// Last position before the gap.
        after: i64,
        /// First position after it.
        found: i64,
    },
    /// Another event than the journal's stands at a position.
    #[error(
        "partition {partition}, offset {offset}: tenant {tenant}, position {position} is another event in the journal"
    )]
    Other {
        /// Where it stands.
        partition: i32,
        /// Where it stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
        /// Its position.
        position: i64,
    },
    /// An event that the journal doesn't have: it may have been restored from an older backup.
    #[error(
        "partition {partition}, offset {offset}: tenant {tenant}, position {position} is not in the journal"
    )]
    Beyond {
        /// Where it stands.
        partition: i32,
        /// Where it stands.
        offset: i64,
        /// The tenant's name.
        tenant: String,
        /// Its position.
        position: i64,
    },
}

/// How far a tenant's events reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// First position in the topic; more than 1 where retention has removed records.
    pub first: i64,
    /// Last position in the topic without a gap before it.
    pub last: i64,
    /// Last position in the journal.
    pub head: i64,
}

/// What a look at the whole topic has found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Records read.
    pub records: u64,
    /// Records of events that stood there already: allowed.
    pub repeats: u64,
    /// How far each tenant's events reach, by name.
    pub tenants: BTreeMap<String, Reach>,
    /// Disagreements, the first of them.
    pub faults: Vec<Fault>,
    /// How many there are in all.
    pub faults_in_all: u64,
    /// Settings of the topic that are not those configured.
    pub settings: Vec<String>,
}

impl CheckReport {
    fn fault(&mut self, fault: Fault) {
        self.faults_in_all += 1;
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push(fault);
        }
    }
}

/// What is compared of a record.
struct Seen {
    offset: i64,
    place: Result<(String, i64, [u8; MAC_BYTES]), String>,
}

/// Reads the topic whole and compares each record with the journal. `progress` hears how many
/// records are done and how many there are. In memory is a bounded piece of the topic at a time.
pub async fn check(
    config: &FeedConfig,
    pool: &Pool,
    progress: impl Fn(u64, u64),
) -> Result<CheckReport, FeedError> {
    let (partitions, settings) = topic::compare(config).await?;
    let mut report = CheckReport { settings, ..CheckReport::default() };
    let reader = Reader::new(pool.clone());
    let stop = CancellationToken::new();
    let _stop_with_me = stop.clone().drop_guard();
    let ends = ends(config.clone(), partitions, stop.clone()).await?;
    let total = ends.iter().map(|(low, high)| u64::try_from(high - low).unwrap_or(0)).sum();
    // Only now: tenants and events that are in the topic were in the journal before.
    let tenants = reader.tenants().await?;
    for (partition, range) in (0..).zip(ends) {
        let (pieces, mut received) = mpsc::channel(PIECES_AHEAD);
        let (config, stop) = (config.clone(), stop.clone());
        let reading =
            tokio::task::spawn_blocking(move || read(&config, partition, range, &pieces, &stop));
        let mut partition = Partition {
            number: partition,
            begins_late: range.0 > 0,
            tenants: &tenants,
            reached: HashMap::new(),
        };
        while let Some(piece) = received.recv().await {
            partition.compare(pool, piece, &mut report).await?;
            progress(report.records, total);
        }
        reading.await.map_err(|_panicked| FeedError::Ended("the reading of the topic"))??;
        for (name, (first, last)) in partition.reached {
            report.tenants.insert(name, Reach { first, last, head: 0 });
        }
    }
    for tenant in &tenants {
        let head = reader.head(tenant.id).await?;
        let reach = report.tenants.entry(tenant.name.clone());
        reach.or_insert(Reach { first: 1, last: 0, head }).head = head;
    }
    Ok(report)
}

async fn ends(
    config: FeedConfig,
    partitions: i32,
    stop: CancellationToken,
) -> Result<Vec<(i64, i64)>, FeedError> {
    tokio::task::spawn_blocking(move || {
        let consumer = groupless(&config, "feed check: the topic's ends")?;
        (0..partitions).map(|n| watermarks(&consumer, &config.topic, n, &stop)).collect()
    })
    .await
    .map_err(|_panicked| FeedError::Ended("the look at the topic's ends"))?
}

/// Reads a partition's records in pieces, as long as somebody takes them. Blocks.
fn read(
    config: &FeedConfig,
    partition: i32,
    range: (i64, i64),
    pieces: &mpsc::Sender<Vec<Seen>>,
    stop: &CancellationToken,
) -> Result<(), FeedError> {
    let mut piece = Vec::new();
    scan::read_range(config, partition, range, stop, |offset, place| {
        let place = place.map(|place| (place.tenant.to_owned(), place.position, place.mac));
        piece.push(Seen { offset, place: place.map_err(|reason| reason.to_string()) });
        let full = piece.len() >= PIECE_RECORDS;
        Ok(!full || pieces.blocking_send(std::mem::take(&mut piece)).is_ok())
    })?;
    if !piece.is_empty() {
        // Nobody may be left who takes the last one either.
        pieces.blocking_send(piece).ok();
    }
    Ok(())
}

/// One partition while it is compared.
struct Partition<'a> {
    number: i32,
    /// Retention has removed records: a tenant may begin anywhere.
    begins_late: bool,
    tenants: &'a [Tenant],
    /// First and last position so far, by name of the tenant.
    reached: HashMap<String, (i64, i64)>,
}

impl Partition<'_> {
    async fn compare(
        &mut self,
        pool: &Pool,
        piece: Vec<Seen>,
        report: &mut CheckReport,
    ) -> Result<(), FeedError> {
        let mut by_tenant: BTreeMap<i32, Vec<(i64, i64, [u8; MAC_BYTES])>> = BTreeMap::new();
        for Seen { offset, place } in piece {
            report.records += 1;
            let (name, position, mac) = match place {
                Ok(place) => place,
                Err(reason) => {
                    report.fault(Fault::Foreign { partition: self.number, offset, reason });
                    continue;
                }
            };
            let known = self.tenants.iter().find(|tenant| tenant.name == name);
            self.follow(&name, position, offset, known, report);
            if let Some(tenant) = known {
                by_tenant.entry(tenant.id).or_default().push((offset, position, mac));
            }
        }
        for (id, seen) in by_tenant {
            let tenant = self.tenants.iter().find(|tenant| tenant.id == id);
            let name = tenant.map(|tenant| tenant.name.clone()).unwrap_or_default();
            let positions: Vec<i64> = seen.iter().map(|(_, position, _)| *position).collect();
            let client = pool.get().await?;
            let statement = client.prepare_cached(include_str!("sql/macs.sql")).await?;
            let rows = client.query(&statement, &[&id, &positions]).await?;
            let macs: HashMap<i64, Vec<u8>> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            for (offset, position, mac) in seen {
                let (partition, tenant) = (self.number, name.clone());
                match macs.get(&position) {
                    Some(stored) if stored.as_slice() == mac.as_slice() => {}
                    Some(_) => {
                        report.fault(Fault::Other { partition, offset, tenant, position });
                    }
                    None => report.fault(Fault::Beyond { partition, offset, tenant, position }),
                }
            }
        }
        Ok(())
    }

    /// Order of first occurrences, and whether they belong here.
    fn follow(
        &mut self,
        name: &str,
        position: i64,
        offset: i64,
        known: Option<&Tenant>,
        report: &mut CheckReport,
    ) {
        let partition = self.number;
        let Some((_, last)) = self.reached.get_mut(name) else {
            let why = match known {
                None => Some("are there, whom the journal doesn't have".to_owned()),
                Some(tenant) if tenant.partition != partition => {
                    Some(format!("belong to partition {}", tenant.partition))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let tenant = name.to_owned();
                report.fault(Fault::Tenant { partition, offset, tenant, why });
            }
            if position > 1 && !self.begins_late {
                let tenant = name.to_owned();
                report.fault(Fault::Gap { partition, offset, tenant, after: 0, found: position });
            }
            self.reached.insert(name.to_owned(), (position, position));
            return;
        };
        if position <= *last {
            report.repeats += 1;
            return;
        }
        if position > *last + 1 {
            let (tenant, after) = (name.to_owned(), *last);
            report.fault(Fault::Gap { partition, offset, tenant, after, found: position });
        }
        *last = position;
    }
}

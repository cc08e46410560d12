//! What the topic holds, record by record, held against what is promised of it.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::{config::FeedConfig, error::FeedError, record::MAC_BYTES, scan};

/// What is promised: of each tenant's events the first occurrences stand in order, from 1 without a
/// gap; what comes again is the same event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSurvey {
    /// Records read.
    pub records: u64,
    /// Records of an event that stood there before.
    pub repeats: u64,
    /// Repeats whose mac is another than the first one's: another event at the same position.
    pub contradictions: u64,
    /// First occurrences that leave out positions before them.
    pub gaps: u64,
    /// First occurrences after one of a later position.
    pub reordered: u64,
    /// The last position of each tenant.
    pub positions: BTreeMap<String, i64>,
}

/// The macs of one tenant's events, by position.
#[derive(Debug, Default)]
struct Tenant(Vec<Option<[u8; MAC_BYTES]>>);

impl TopicSurvey {
    /// Reads the topic whole. Blocks, and remembers a mac for each event.
    pub fn take(config: &FeedConfig) -> Result<Self, FeedError> {
        let mut survey = Self::default();
        let mut tenants: BTreeMap<String, Tenant> = BTreeMap::new();
        for partition in 0..config.partitions {
            let stop = CancellationToken::new();
            scan::read_partition(config, partition, &stop, |place| {
                if !tenants.contains_key(place.tenant) {
                    tenants.insert(place.tenant.to_owned(), Tenant::default());
                }
                let tenant = tenants.get_mut(place.tenant).expect("just put there");
                survey.include(tenant, place.position, place.mac);
            })?;
        }
        survey.positions = tenants
            .into_iter()
            .map(|(name, Tenant(macs))| (name, i64::try_from(macs.len()).unwrap_or(i64::MAX)))
            .collect();
        Ok(survey)
    }

    fn include(&mut self, Tenant(macs): &mut Tenant, position: i64, mac: [u8; MAC_BYTES]) {
        self.records += 1;
        let index = usize::try_from(position - 1).expect("a record's position is at least 1");
        match macs.get_mut(index) {
            Some(Some(known)) => {
                self.repeats += 1;
                self.contradictions += u64::from(*known != mac);
            }
            Some(missed) => {
                self.reordered += 1;
                *missed = Some(mac);
            }
            None => {
                self.gaps += u64::from(index > macs.len());
                macs.resize(index, None);
                macs.push(Some(mac));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(records: &[(i64, u8)]) -> TopicSurvey {
        let (mut survey, mut tenant) = (TopicSurvey::default(), Tenant::default());
        for (position, mac) in records {
            survey.include(&mut tenant, *position, [*mac; MAC_BYTES]);
        }
        survey
    }

    #[test]
    fn repeats_are_told_from_gaps_and_from_reordering() {
        let good = survey(&[(1, 1), (2, 2), (1, 1), (2, 2), (3, 3)]);
        assert_eq!((good.records, good.repeats, good.contradictions), (5, 2, 0));
        assert_eq!((good.gaps, good.reordered), (0, 0));
        let gap = survey(&[(1, 1), (3, 3)]);
        assert_eq!((gap.gaps, gap.reordered, gap.repeats), (1, 0, 0));
        let reordered = survey(&[(2, 2), (1, 1), (3, 3)]);
        assert_eq!((reordered.gaps, reordered.reordered, reordered.repeats), (1, 1, 0));
        let other = survey(&[(1, 1), (1, 9)]);
        assert_eq!((other.repeats, other.contradictions), (1, 1));
    }
}

//! Every shipped read model holds what plain arithmetic says, however its events came in: random
//! histories of the real shop, delivered in pieces with repeats and gaps to projectors that are
//! killed, folded again from the journal, and worked out by code that shares nothing with them.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod attention;
mod histories;
mod kit;
mod plain;

use std::collections::{BTreeMap, BTreeSet};

use daybook_projection::Catalogue;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    histories::{Event, history},
    kit::{Database, catalogue, normal, sorted},
};

/// Events of a history.
const EVENTS: usize = 900;

/// The rows of every projection, as plain arithmetic has them.
fn plain_rows(catalogue: &Catalogue, events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let names = catalogue.projections().iter().map(|projection| projection.name.clone());
    names
        .map(|name| {
            let rows = plain::rows(&name, events);
            (name, sorted(rows.into_iter().map(normal)))
        })
        .collect()
}

/// Fails with the first rows that differ.
fn same(how: &str, found: &BTreeMap<String, Vec<String>>, wanted: &BTreeMap<String, Vec<String>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (projection, wanted) in wanted {
        let found = &found[projection];
        let odd = found.iter().find(|row| !wanted.contains(row));
        let missing = wanted.iter().find(|row| !found.contains(row));
        assert!(
            found == wanted,
            "{projection}, {how}: {} rows, {} wanted\n  found: {odd:?}\n wanted: {missing:?}",
            found.len(),
            wanted.len()
        );
    }
}

async fn check(seed: u64) -> Vec<Event> {
    let catalogue = catalogue();
    // one half of the histories where the journal is, the other elsewhere
    let database = Database::new(&catalogue, seed % 2 == 1).await;
    let events = history(seed, EVENTS);
    let mut rng = StdRng::seed_from_u64(seed);

    let mut projectors = vec![database.projector().await];
    let mut appended = 0;
    while appended < events.len() {
        let to = (appended + rng.random_range(1..120)).min(events.len());
        database.append(&events[appended..to]).await;
        let stored = database.journal().await;
        for projector in &projectors {
            // repeats from earlier, and at times nothing at all, or not from the beginning
            let back = if rng.random_bool(0.3) { rng.random_range(0..60) } else { 0 };
            let skip = if rng.random_bool(0.2) { rng.random_range(0..10) } else { 0 };
            let from = (appended + skip).saturating_sub(back).min(to);
            if rng.random_bool(0.9) {
                projector.send(stored[from..to].to_vec()).await;
            }
        }
        appended = to;
        match rng.random_range(0..10) {
            // killed while it is at it, and another begins where the rows stand
            0..3 => {
                let at = rng.random_range(0..projectors.len());
                let killed = std::mem::replace(&mut projectors[at], database.projector().await);
                killed.kill();
            }
            // PostgreSQL ends every connection
            3 => database.end_connections().await,
            // two believe that the tenant is theirs
            4 => projectors.push(database.projector().await),
            _ => {}
        }
    }
    database.caught_up().await;
    for projector in projectors {
        projector.stop().await;
    }

    let wanted = plain_rows(&catalogue, &events);
    let incremental = database.rows(&catalogue).await;
    same("incremental", &incremental, &wanted);
    for shares in 1..=3 {
        let pieces = (shares > 1).then(|| rng.random_range(20..200));
        let changed = database.rebuild(&catalogue, pieces, shares).await;
        assert_eq!(changed, 0, "a rebuild in pieces of {pieces:?}, {shares} shares, changed rows");
        same("rebuilt", &database.rows(&catalogue).await, &wanted);
    }
    // as of any position, at the first, at the last, and in between
    let mut positions = vec![1, events.len()];
    positions.extend((0..3).map(|_| rng.random_range(1..events.len())));
    for position in positions {
        let wanted = plain_rows(&catalogue, &events[..position]);
        let at = i64::try_from(position).unwrap();
        let [folded, by_streams] = database.rows_as_of(&catalogue, at).await;
        same(&format!("as of {position}"), &folded, &wanted);
        assert_eq!(by_streams.len(), 3, "three projections name their streams");
        let wanted = wanted.into_iter().filter(|(name, _)| by_streams.contains_key(name)).collect();
        same(&format!("each key as of {position}"), &by_streams, &wanted);
    }
    events
}

#[tokio::test]
async fn incremental_rebuilt_and_plainly_folded_rows_are_the_same() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..6 {
        for event in check(seed).await {
            *seen.entry(event.kind).or_default() += 1;
        }
    }
    // Nothing is left out: every type of event is in it, and so is every projection's every type.
    let types: BTreeSet<&str> = daybook_commands::event_types().iter().copied().collect();
    assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), types);
    for (kind, times) in &seen {
        assert!(*times >= 3, "{kind} happened {times} times only");
    }
    let read: BTreeSet<String> =
        catalogue().projections().iter().flat_map(|p| p.events.clone()).collect();
    let unread: Vec<_> = types.iter().filter(|kind| !read.contains(**kind)).collect();
    assert_eq!(unread, [&"PriceChanged"], "no read model shows prices");
}

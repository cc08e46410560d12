//! How long an answer as of a position may take.

use std::time::{Duration, Instant};

use daybook_projection::{AsOfLimits, QueryError};

use crate::{
    as_of::{SCOPE, ask, at, named, parameters, queries_over},
    copied::{EVENTS, copying, summed},
    kit::{LAYOUT, Layout, connect, until},
};

crate::kit::in_both_layouts!(what_was_spent_before_is_no_longer_there);

const LIMITS: AsOfLimits = AsOfLimits { folds: 1, deadline: Duration::from_mins(1) };

/// What is asked, and how long it may take: a fold, and one row, which has the time of any query.
fn asked() -> [(Vec<(&'static str, &'static str)>, Duration); 2] {
    [(vec![], LIMITS.deadline), (vec![("id", "7")], Duration::from_secs(10))]
}

/// The time that the statement had which found this.
fn time(json: &str) -> Duration {
    let rows: serde_json::Value = serde_json::from_str(json).unwrap();
    Duration::from_secs_f64(rows[0]["seconds"].as_f64().unwrap())
}

async fn what_was_spent_before_is_no_longer_there() {
    let database = summed().await;
    let queries = queries_over(&database, LIMITS, database.journal_elsewhere()).await;
    let query = named(&queries, "time");
    for (given, longest) in asked() {
        let given = parameters(&given);
        assert_eq!(queries.as_of_longest(&query, &given), longest);
        let before = |spent| Instant::now().checked_sub(spent).unwrap();
        let half = before(longest / 2);
        let found = queries.run_as_of(&query, 1, SCOPE, &given, &at(10), half).await.unwrap();
        let time = time(&found.json);
        assert!(!time.is_zero() && time <= longest / 2, "{time:?} of {longest:?}");

        let refused = queries.run_as_of(&query, 1, SCOPE, &given, &at(10), before(longest)).await;
        match refused {
            Err(QueryError::FoldTooLong { deadline }) if given.is_empty() => {
                assert_eq!(deadline, longest);
            }
            Err(QueryError::TooSlow) if !given.is_empty() => {}
            other => panic!("{given:?}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_copy_took_is_no_longer_there_for_the_statement() {
    let database = LAYOUT.scope(Layout::Separate, summed()).await;
    let queries = queries_over(&database, LIMITS, database.journal_elsewhere()).await;
    let mut locking = connect(&database.journal_config).await;
    for (given, longest) in asked() {
        let lock = locking.transaction().await.unwrap();
        lock.batch_execute("lock table journal.events in access exclusive mode").await.unwrap();
        let answer = {
            let queries = queries.clone();
            tokio::spawn(async move { ask(&queries, "time", &given, &at(EVENTS)).await })
        };
        until("it is copied", || async { copying(&database.journal).await == 1 }).await;
        let (stalled, held) = (Instant::now(), Duration::from_secs(1));
        until("it has stalled", || async { stalled.elapsed() >= held }).await;
        lock.commit().await.unwrap();
        let time = time(&answer.await.unwrap().unwrap().json);
        assert!(!time.is_zero() && time + held <= longest, "{time:?} of {longest:?}");
    }
}

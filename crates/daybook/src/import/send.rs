//! Sends a plan's commands in order, many at once, until each is decided.
//!
//! The journal decides commands in the order in which they are handed in. If one ends without an
//! outcome (the database restarts), those behind it may have been decided without it: a payment
//! is refused because its order isn't there yet. So nothing behind it counts: all that is under
//! way is waited for, and everything is sent again from the first one without an outcome, with
//! the same keys. What had been accepted answers as repeated; refusals of an import are not
//! remembered. `Step::after` keeps this from running into a dead end.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use daybook_journal::{Outcome, Retry, SubmitError, Verdict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{plan::Plan, progress::Progress};

/// Most refused and failed commands that a report names one by one.
const MAX_NAMED: usize = 1_000;

/// Takes commands, in order.
pub(crate) trait Desk {
    /// An outcome that is still to come.
    type Pending: Future<Output = Result<Outcome, SubmitError>>;

    /// Hands in the plan's step `index`; waits while there is no room.
    async fn enqueue(&self, index: usize) -> Self::Pending;
}

/// How many at once, and how patiently.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Most commands under way.
    pub(crate) in_flight: usize,
    /// Pause after a first failure; doubled each time until something succeeds.
    pub(crate) pause: Duration,
    /// Longest pause.
    pub(crate) longest_pause: Duration,
    /// How long without any success until it gives up.
    pub(crate) patience: Duration,
}

/// Why not everything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It was asked to.
    Asked,
    /// The journal could not be written for too long.
    Unavailable(SubmitError),
}

/// A command that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Unaccepted {
    /// First row of the command.
    pub(crate) row: u32,
    /// Its name.
    pub(crate) command: &'static str,
    /// Code of the refusal or kind of failure.
    pub(crate) code: String,
    /// In words.
    pub(crate) detail: String,
}

/// Numbers of commands with one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Accepted by this run.
    pub(crate) accepted: u64,
    /// Found accepted by an earlier run.
    pub(crate) repeated: u64,
    /// Refused, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Ended by an error that sending again does not mend, by kind.
    pub(crate) failed: BTreeMap<String, u64>,
}

/// What became of the commands.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By command name.
    pub(crate) by_command: BTreeMap<&'static str, Counts>,
    /// Those not accepted, the first [`MAX_NAMED`]. Products that were there before don't count.
    pub(crate) unaccepted: Vec<Unaccepted>,
    /// How many there are in all.
    pub(crate) unaccepted_count: u64,
    /// How many were decided.
    pub(crate) decided: usize,
    /// How often it went back to a command without an outcome.
    pub(crate) rewinds: u64,
    /// Why it ended before its end.
    pub(crate) stopped: Option<Stopped>,
}

struct Trouble {
    since: Instant,
    pause: Duration,
}

/// Sends all steps of `plan` to `desk`. Ends early when asked to, once all that is under way has
/// its outcome.
pub(crate) async fn send<D: Desk>(
    plan: &Plan,
    desk: &D,
    limits: &Limits,
    progress: &mut Progress,
    shutdown: &CancellationToken,
) -> Tally {
    let steps = &plan.steps;
    let mut tally = Tally::default();
    let mut under_way = VecDeque::with_capacity(limits.in_flight);
    // Steps that were accepted behind one without an outcome, by this run.
    let mut accepted_early = HashSet::new();
    let mut trouble: Option<Trouble> = None;
    let mut next = 0;
    loop {
        while next < steps.len()
            && under_way.len() < limits.in_flight.max(1)
            && steps[next].after.is_none_or(|after| after < tally.decided)
            && !shutdown.is_cancelled()
        {
            under_way.push_back(desk.enqueue(next).await);
            next += 1;
        }
        let Some(first) = under_way.pop_front() else { break };
        match first.await {
            Err(error) if error.retry() == Retry::SameKey => {
                for (index, pending) in (tally.decided + 1..).zip(under_way.drain(..)) {
                    if let Ok(Outcome { verdict: Verdict::Accepted(_), repeated: false }) =
                        pending.await
                    {
                        accepted_early.insert(index);
                    }
                }
                next = tally.decided;
                tally.rewinds += 1;
                let now = Instant::now();
                let trouble = trouble.get_or_insert(Trouble { since: now, pause: limits.pause });
                if now.duration_since(trouble.since) >= limits.patience {
                    tally.stopped = Some(Stopped::Unavailable(error));
                    return tally;
                }
                progress.note(&format!(
                    "row {}: {error}; sending again in {:.1} s",
                    steps[next].key_row,
                    trouble.pause.as_secs_f64()
                ));
                tokio::select! {
                    () = tokio::time::sleep(trouble.pause) => {}
                    () = shutdown.cancelled() => {}
                }
                trouble.pause = (trouble.pause * 2).min(limits.longest_pause);
            }
            result => {
                let early = accepted_early.remove(&tally.decided);
                tally.count(plan, result, early);
                trouble = None;
                let row =
                    steps.get(tally.decided).map_or(plan.row_count, |step| step.row.max(1) - 1);
                progress.reached(row);
            }
        }
    }
    if tally.decided < steps.len() {
        tally.stopped = Some(Stopped::Asked);
    }
    tally
}

impl Tally {
    /// Counts the outcome of the next step.
    fn count(&mut self, plan: &Plan, result: Result<Outcome, SubmitError>, early: bool) {
        let step = &plan.steps[self.decided];
        let command = step.action.name();
        self.decided += 1;
        let counts = self.by_command.entry(command).or_default();
        let (code, detail) = match result {
            Ok(Outcome { verdict: Verdict::Accepted(_), repeated }) => {
                if repeated && !early {
                    counts.repeated += 1;
                } else {
                    counts.accepted += 1;
                }
                return;
            }
            Ok(Outcome { verdict: Verdict::Refused(refusal), .. }) => {
                *counts.refused.entry(refusal.code.clone()).or_default() += 1;
                if (command, refusal.code.as_str()) == ("AddProduct", "product-exists") {
                    return; // Another file brought it before: no harm.
                }
                let values = refusal.values.to_string();
                (refusal.code, format!("{} {values}", refusal.detail))
            }
            Err(error) => {
                let kind = failure(&error);
                *counts.failed.entry(kind.to_owned()).or_default() += 1;
                (kind.to_owned(), error.to_string())
            }
        };
        self.unaccepted_count += 1;
        if self.unaccepted.len() < MAX_NAMED {
            self.unaccepted.push(Unaccepted { row: step.key_row, command, code, detail });
        }
    }
}

fn failure(error: &SubmitError) -> &'static str {
    match error {
        SubmitError::Conflict { .. } => "conflict",
        SubmitError::KeyReused => "key-reused",
        SubmitError::Limit { .. } => "limit",
        SubmitError::Unstorable(_) => "unstorable",
        SubmitError::Corrupt(_) => "corrupt",
        SubmitError::NotActivated { .. } => "not-activated",
        SubmitError::Overloaded => "overloaded",
        SubmitError::Expired => "expired",
        SubmitError::Unavailable(_) => "unavailable",
        SubmitError::OutcomeUnknown => "outcome-unknown",
    }
}

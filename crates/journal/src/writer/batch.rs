//! Deciding a batch in memory: each command on the state that the ones before it leave.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, SubsecRound, Utc};

use super::{
    WriterConfig,
    cache::{Cache, Cached, Head},
    session::Append,
};
use crate::{
    canonical,
    event::Tenant,
    mac::{Leaf, MacKeys},
    model::{Decision, Encoded, Loaded, Model},
    submission::{Accepted, Submission, SubmitError, Verdict},
};

/// What every command of a batch is decided with.
pub(super) struct Rules<'a, M: Model> {
    pub(super) model: &'a M,
    pub(super) keys: &'a MacKeys,
    pub(super) tenant: &'a Tenant,
    pub(super) settings: &'a WriterConfig,
    pub(super) recorded_at: DateTime<Utc>,
}

/// How one command ends if the batch commits.
pub(super) struct Answer(pub(super) Result<Verdict, SubmitError>);

/// A batch, decided but not committed.
pub(super) struct Decided<M: Model> {
    /// One for each command that was decided; those behind them wait for the next batch.
    pub(super) answers: Vec<Answer>,
    pub(super) append: Append,
    /// Streams as the batch leaves them.
    pub(super) changed: Vec<(String, Cached<M::State>)>,
    /// The head as the batch leaves it.
    pub(super) head: Head,
}

/// Streams as they are in the middle of a batch: what commands before changed, else the cache.
struct Speculative<'a, S> {
    cache: &'a mut Cache<S>,
    changed: HashMap<String, Cached<S>>,
}

impl<S: Clone> Speculative<'_, S> {
    fn get(&mut self, stream: &str) -> Option<&Cached<S>> {
        if self.changed.contains_key(stream) {
            return self.changed.get(stream);
        }
        self.cache.peek(stream)
    }
}

/// Why a command was not decided.
enum NotDecided {
    /// It reads a stream that isn't in memory: it must wait for the next batch.
    Cold(String),
    /// It ends here.
    Ended(SubmitError),
}

/// One command's share of a batch.
struct Share {
    encoded: Vec<(String, i32, Encoded, Vec<u8>)>,
    meta: Vec<u8>,
}

/// Decides commands in order until the batch is full or one reads a stream that isn't in memory.
/// The first command is always answered.
pub(super) fn decide<'a, M: Model>(
    rules: &Rules<'_, M>,
    cache: &mut Cache<M::State>,
    submissions: impl Iterator<Item = &'a Submission<M::Command>>,
) -> Decided<M> {
    let start = cache.head().clone();
    let mut append =
        Append { head: start.clone(), recorded_at: rules.recorded_at, ..Append::default() };
    let mut speculative = Speculative { cache, changed: HashMap::new() };
    let mut answers: Vec<Answer> = Vec::new();
    for submission in submissions {
        if append.streams.len() >= rules.settings.batch_events {
            break;
        }
        let decided = decide_one(rules, &mut speculative, submission);
        let answer = match decided {
            Ok((decision, share)) => {
                let first = append.streams.len();
                let verdict = accept(rules, &mut append, submission, decision, share);
                for (index, stream) in append.streams.iter().enumerate().skip(first) {
                    if let Some(cached) = speculative.changed.get_mut(stream) {
                        cached.position = append.head.position + len(index) + 1;
                    }
                }
                Answer(Ok(verdict))
            }
            Err(Refused::By(verdict)) => Answer(Ok(verdict)),
            Err(Refused::Not(NotDecided::Ended(error))) => Answer(Err(error)),
            Err(Refused::Not(NotDecided::Cold(stream))) if answers.is_empty() => {
                Answer(Err(SubmitError::Corrupt(format!("stream {stream} could not be loaded"))))
            }
            Err(Refused::Not(NotDecided::Cold(_))) => break,
        };
        // A key is looked up even where the outcome isn't worth remembering: an earlier time it
        // was used may have been accepted, and then that is the answer.
        let (position, outcome) = answer.record(submission.key.remember_refusals);
        append.principals.push(submission.key.principal.clone());
        append.keys.push(submission.key.key.clone());
        append.fingerprints.push(submission.key.fingerprint.to_vec());
        append.positions.push(position);
        append.keep_s.push(
            submission.key.keep.map(|keep| i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)),
        );
        append.outcomes.push(outcome);
        answers.push(answer);
    }
    let head = append.macs.last().map_or(start, |mac| Head {
        position: append.head.position + len(append.macs.len()),
        mac: Some(mac.clone()),
        recorded_at: Some(rules.recorded_at),
    });
    let changed = speculative.changed.into_iter().collect();
    Decided { answers, append, changed, head }
}

enum Refused {
    By(Verdict),
    Not(NotDecided),
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        Self::Not(NotDecided::Ended(error))
    }
}

fn decide_one<M: Model>(
    rules: &Rules<'_, M>,
    speculative: &mut Speculative<'_, M::State>,
    submission: &Submission<M::Command>,
) -> Result<(Decision<M::Event>, Share), Refused> {
    let settings = rules.settings;
    let loaded = load(rules, speculative, &submission.command)?;
    let now = submission.occurred_at.unwrap_or(rules.recorded_at).trunc_subsecs(6);
    let decision = rules
        .model
        .decide(&submission.command, &loaded, now)
        .map_err(|refusal| Refused::By(Verdict::Refused(refusal)))?;
    drop(loaded);
    // After deciding, so that somebody who may not know of a stream doesn't learn its version.
    if let Some(wanted) = &submission.if_match {
        let actual = match speculative.get(&wanted.stream) {
            Some(cached) => cached.version,
            None => return Err(Refused::Not(NotDecided::Cold(wanted.stream.clone()))),
        };
        if actual != wanted.version {
            return Err(SubmitError::Conflict {
                stream: wanted.stream.clone(),
                expected: wanted.version,
                actual,
            }
            .into());
        }
    }
    limit("events_per_command", decision.events.len(), settings.command_events)?;

    let unstorable = |what: &str, broken: canonical::RuleBroken| {
        SubmitError::Unstorable(format!("{what}: {broken}"))
    };
    let meta = serde_json::to_value(&submission.meta).expect("meta has string keys only");
    let meta = canonical::to_vec(&meta).map_err(|broken| unstorable("meta", broken))?;
    let mut encoded = Vec::with_capacity(decision.events.len());
    // A command is all or nothing: its changes join the batch's when every event has been folded.
    let mut changed: HashMap<&str, Cached<M::State>> = HashMap::new();
    for (stream, event) in &decision.events {
        let wire = rules.model.encode(event).map_err(SubmitError::from)?;
        let data = canonical::to_vec(&wire.data).map_err(|broken| unstorable(wire.kind, broken))?;
        limit("event_bytes", data.len() + meta.len(), settings.event_bytes)?;
        let before = match changed.remove(stream.as_str()) {
            Some(cached) => cached,
            None => speculative
                .get(stream)
                .cloned()
                .ok_or_else(|| Refused::Not(NotDecided::Cold(stream.clone())))?,
        };
        let version = before.version + 1;
        let state = before
            .state
            .map_err(|error| SubmitError::Corrupt(error.to_string()))?
            .map(Arc::unwrap_or_clone);
        let state = rules
            .model
            .evolve(stream, state, event)
            .map_err(|error| SubmitError::Corrupt(error.to_string()))?;
        changed.insert(
            stream,
            Cached { version, position: before.position, state: Ok(Some(Arc::new(state))) },
        );
        encoded.push((stream.clone(), version, wire, data));
    }
    speculative.changed.extend(changed.into_iter().map(|(name, cached)| (name.to_owned(), cached)));
    Ok((decision, Share { encoded, meta }))
}

/// The streams that a command reads, as far as they are in memory.
fn load<M: Model>(
    rules: &Rules<'_, M>,
    speculative: &mut Speculative<'_, M::State>,
    command: &M::Command,
) -> Result<Loaded<M::State>, Refused> {
    let mut loaded = Loaded::default();
    loop {
        let mut grew = false;
        let names = rules.model.reads(command, &loaded);
        limit("streams_per_command", names.len(), rules.settings.command_streams)?;
        for name in names {
            if loaded.contains(&name) {
                continue;
            }
            let state = match speculative.get(&name) {
                Some(Cached { state: Ok(state), .. }) => state.clone(),
                Some(Cached { state: Err(error), .. }) => {
                    return Err(SubmitError::Corrupt(format!("{name}: {error}")).into());
                }
                None => return Err(Refused::Not(NotDecided::Cold(name))),
            };
            loaded.insert(name, state);
            grew = true;
        }
        if !grew {
            return Ok(loaded);
        }
    }
}

/// Adds an accepted command's events and jobs to the append.
fn accept<M: Model>(
    rules: &Rules<'_, M>,
    append: &mut Append,
    submission: &Submission<M::Command>,
    decision: Decision<M::Event>,
    share: Share,
) -> Verdict {
    let occurred_at = submission.occurred_at.unwrap_or(rules.recorded_at).trunc_subsecs(6);
    let meta = text(share.meta);
    let mut streams: Vec<(String, i32)> = Vec::new();
    let mut touched: HashMap<String, usize> = HashMap::new();
    for (stream, version, wire, data) in share.encoded {
        let position = append.head.position + len(append.streams.len()) + 1;
        let leaf = Leaf {
            tenant: &rules.tenant.name,
            position,
            stream: &stream,
            version,
            kind: wire.kind,
            schema_version: wire.schema_version,
            occurred_at,
            recorded_at: rules.recorded_at,
            data: &data,
            meta: meta.as_bytes(),
        };
        append.macs.push(rules.keys.sign(&leaf));
        if let Some(&index) = touched.get(&stream) {
            streams[index].1 = version;
        } else {
            touched.insert(stream.clone(), streams.len());
            streams.push((stream.clone(), version));
        }
        append.streams.push(stream);
        append.versions.push(version);
        append.kinds.push(wire.kind);
        append.schema_versions.push(wire.schema_version);
        append.occurred_at.push(occurred_at);
        append.data.push(text(data));
        append.meta.push(meta.clone());
    }
    let position = append.head.position + len(append.streams.len());
    for job in decision.jobs {
        append.job_ids.push(job.id);
        append.job_positions.push(position);
        append.job_delays_ms.push(i32::try_from(job.delay_ms).unwrap_or(i32::MAX));
        append.job_kinds.push(job.kind);
        append.job_payloads.push(job.payload.to_string());
        append.job_sealed.push(job.sealed);
    }
    Verdict::Accepted(Accepted { position, streams, result: decision.result, open: decision.open })
}

fn limit(name: &'static str, value: usize, limit: usize) -> Result<(), SubmitError> {
    if value > limit { Err(SubmitError::Limit { name, value, limit }) } else { Ok(()) }
}

fn len(n: usize) -> i64 {
    i64::try_from(n).expect("a batch is far smaller than 2^63")
}

fn text(canonical: Vec<u8>) -> String {
    String::from_utf8(canonical).expect("canonical JSON is made from strings")
}

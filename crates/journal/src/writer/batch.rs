//! Deciding a batch in memory: each command on the state that the ones before it leave.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use chrono::{DateTime, SubsecRound, Utc};

use super::{
    Item, WriterConfig,
    cache::{Cache, Cached, Head},
    session::Append,
};
use crate::{
    canonical,
    event::Tenant,
    mac::{self, Leaf, MacKeys, Sha256Hex},
    model::{Decision, Encoded, Loaded, Model},
    record,
    submission::{Accepted, Outcome, Submission, SubmitError, Verdict},
};

/// What every command is decided with.
pub(super) struct Rules<M: Model> {
    pub(super) model: Arc<M>,
    pub(super) keys: MacKeys,
    pub(super) tenant: Tenant,
    pub(super) settings: WriterConfig,
}

/// How one command ends if its batch commits.
pub(super) struct Answer(Result<Verdict, SubmitError>);

/// Commands decided one after the other, not committed.
pub(super) struct Batch<M: Model> {
    pub(super) items: Vec<Item<M::Command>>,
    /// One for each of `items`.
    pub(super) answers: Vec<Answer>,
    pub(super) append: Append,
    /// Streams as the batch leaves them.
    pub(super) changed: HashMap<String, Cached<M::State>>,
    /// The head that it follows on.
    start: Head,
    /// The head that it leaves if it commits.
    end: Head,
    recorded_at: DateTime<Utc>,
    /// Of each event's data and meta: its mac is made of them, and made anew where the batch moves.
    digests: Vec<[Sha256Hex; 2]>,
    /// Hashes of the idempotency keys in it, which stand in a batch once.
    keys: HashSet<u64, RandomState>,
    /// Names of all streams that its decisions rest on, where that is asked for.
    rests_on: Option<HashSet<String>>,
}

/// Streams as a command finds them: what the batches before it, which have not committed, leave
/// behind, else what is known of the journal.
pub(super) struct View<'a, M: Model> {
    rules: &'a Rules<M>,
    cache: &'a mut Cache<M>,
    sent: &'a VecDeque<Batch<M>>,
    open: Option<&'a Batch<M>>,
    /// Names of the streams that were asked for, where that is wanted.
    asked: Option<Vec<String>>,
}

impl<'a, M: Model> View<'a, M> {
    pub(super) fn new(
        rules: &'a Rules<M>,
        cache: &'a mut Cache<M>,
        sent: &'a VecDeque<Batch<M>>,
        open: Option<&'a Batch<M>>,
    ) -> Self {
        Self { rules, cache, sent, open, asked: None }
    }

    pub(super) fn get(&mut self, stream: &str) -> Option<&Cached<M::State>> {
        if let Some(asked) = &mut self.asked {
            asked.push(stream.to_owned());
        }
        let mut uncommitted = self.open.into_iter().chain(self.sent.iter().rev());
        uncommitted.find_map(|batch| batch.changed.get(stream)).or_else(|| self.cache.get(stream))
    }

    pub(super) fn reads(&self, command: &M::Command, loaded: &Loaded<M::State>) -> Vec<String> {
        self.rules.model.reads(command, loaded)
    }

    pub(super) fn streams_per_command(&self) -> usize {
        self.rules.settings.command_streams
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.cache.tick()
    }
}

/// Why a command is not in a batch.
pub(super) enum NotTaken<C> {
    /// It reads a stream that isn't in memory.
    Cold(Item<C>, String),
    /// The batch holds another command with its key: it must wait for the next batch.
    SameKey(Item<C>),
}

/// One command's share of a batch.
struct Share<S> {
    encoded: Vec<(String, i32, Encoded, Vec<u8>)>,
    meta: Vec<u8>,
    changed: HashMap<String, Cached<S>>,
    /// Names of `changed`, in the order in which they were first touched.
    touched: Vec<String>,
}

impl<M: Model> Batch<M> {
    /// An empty batch behind a head; a `movable` one can be moved behind another.
    pub(super) fn behind(start: Head, movable: bool) -> Self {
        let recorded_at = recorded_at(&start);
        Self {
            items: Vec::new(),
            answers: Vec::new(),
            append: Append { head: start.clone(), recorded_at, ..Append::default() },
            changed: HashMap::new(),
            end: start.clone(),
            start,
            recorded_at,
            digests: Vec::new(),
            keys: HashSet::default(),
            rests_on: movable.then(HashSet::new),
        }
    }

    /// Moves the batch behind a head that others have moved by appending to `streams`; `false`
    /// if its decisions rest on one of those, and so must be taken again.
    pub(super) fn moved_behind<'a>(
        &mut self,
        head: &Head,
        mut streams: impl Iterator<Item = &'a str>,
        rules: &Rules<M>,
    ) -> bool {
        let Some(rests_on) = &self.rests_on else { return false };
        if streams.any(|stream| rests_on.contains(stream)) {
            return false;
        }
        if *head == self.start {
            return true;
        }
        let by = head.position - self.start.position;
        self.recorded_at = recorded_at(head).max(self.recorded_at);
        self.start = head.clone();
        self.end = head.clone();
        for answer in &mut self.answers {
            if let Ok(Verdict::Accepted(accepted)) = &mut answer.0 {
                accepted.position += by;
            }
        }
        for cached in
            self.changed.values_mut().filter(|cached| cached.position > head.position - by)
        {
            cached.position += by;
        }
        let append = &mut self.append;
        append.head = head.clone();
        append.recorded_at = self.recorded_at;
        append.positions.iter_mut().flatten().for_each(|position| *position += by);
        append.job_positions.iter_mut().for_each(|position| *position += by);
        for (index, &[data, meta]) in self.digests.iter().enumerate() {
            let leaf = Leaf {
                tenant: &rules.tenant.name,
                position: head.position + len(index) + 1,
                stream: &append.streams[index],
                version: append.versions[index],
                kind: append.kinds[index],
                schema_version: append.schema_versions[index],
                occurred_at: append.occurred_at[index],
                recorded_at: self.recorded_at,
                data,
                meta,
            };
            append.macs[index] = rules.keys.sign(&leaf);
        }
        if let Some(mac) = append.macs.last() {
            self.end = Head {
                position: head.position + len(append.macs.len()),
                mac: Some(mac.clone()),
                recorded_at: Some(self.recorded_at),
            };
        }
        true
    }

    /// The head that the batch leaves if it commits.
    pub(super) fn end(&self) -> &Head {
        &self.end
    }

    /// How many events it appends.
    pub(super) fn events(&self) -> usize {
        self.append.streams.len()
    }

    /// What is to be written; from here on the batch takes no more.
    pub(super) fn close(&mut self) -> Append {
        std::mem::take(&mut self.append)
    }

    /// Decides a command behind those already here, on top of what the batches in `sent` leave.
    pub(super) fn take(
        &mut self,
        rules: &Rules<M>,
        cache: &mut Cache<M>,
        sent: &VecDeque<Self>,
        item: Item<M::Command>,
    ) -> Result<(), Box<NotTaken<M::Command>>> {
        let key = &item.submission.key;
        let hash = self.keys.hasher().hash_one((&key.principal, &key.key));
        if self.keys.contains(&hash) {
            return Err(Box::new(NotTaken::SameKey(item)));
        }
        let mut view = View::new(rules, cache, sent, Some(self));
        view.asked = self.rests_on.as_ref().map(|_| Vec::new());
        let decided = decide_one(rules, &mut view, &item.submission, self.recorded_at);
        let asked = view.asked;
        if let Some(rests_on) = &mut self.rests_on {
            rests_on.extend(asked.into_iter().flatten());
        }
        let answer = match decided {
            Ok((decision, share)) => Answer(Ok(self.accept(rules, &item, decision, share))),
            Err(Refused::By(verdict)) => Answer(Ok(verdict)),
            Err(Refused::Not(error)) => Answer(Err(error)),
            Err(Refused::Cold(stream)) => return Err(Box::new(NotTaken::Cold(item, stream))),
        };
        // A key is looked up even where the outcome isn't worth remembering: an earlier time it
        // was used may have been accepted, and then that is the answer.
        let key = &item.submission.key;
        let (position, outcome) = answer.record(key.remember_refusals);
        let append = &mut self.append;
        append.principals.push(key.principal.clone());
        append.keys.push(key.key.clone());
        append.fingerprints.push(key.fingerprint.to_vec());
        append.positions.push(position);
        append.keep_s.push(key.keep.map(|keep| i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)));
        append.outcomes.push(outcome);
        self.keys.insert(hash);
        self.answers.push(answer);
        self.items.push(item);
        Ok(())
    }

    /// Adds an accepted command's events and jobs to the append.
    fn accept(
        &mut self,
        rules: &Rules<M>,
        item: &Item<M::Command>,
        decision: Decision<M::Event>,
        share: Share<M::State>,
    ) -> Verdict {
        let append = &mut self.append;
        let occurred_at = item.submission.occurred_at.unwrap_or(self.recorded_at).trunc_subsecs(6);
        let meta_digest = Sha256Hex::of(&share.meta);
        let meta = text(share.meta);
        let mut changed = share.changed;
        for (stream, version, wire, data) in share.encoded {
            let position = self.start.position + len(append.streams.len()) + 1;
            let digests = [Sha256Hex::of(&data), meta_digest];
            let leaf = Leaf {
                tenant: &rules.tenant.name,
                position,
                stream: &stream,
                version,
                kind: wire.kind,
                schema_version: wire.schema_version,
                occurred_at,
                recorded_at: self.recorded_at,
                data: digests[0],
                meta: digests[1],
            };
            append.macs.push(rules.keys.sign(&leaf));
            self.digests.push(digests);
            if let Some(cached) = changed.get_mut(&stream) {
                cached.position = position;
            }
            append.streams.push(stream);
            append.versions.push(version);
            append.kinds.push(wire.kind);
            append.schema_versions.push(wire.schema_version);
            append.occurred_at.push(occurred_at);
            append.data.push(text(data));
            append.meta.push(meta.clone());
        }
        let position = self.start.position + len(append.streams.len());
        if let Some(mac) = append.macs.last() {
            self.end =
                Head { position, mac: Some(mac.clone()), recorded_at: Some(self.recorded_at) };
        }
        for job in decision.jobs {
            append.job_ids.push(job.id);
            append.job_positions.push(position);
            append.job_delays_ms.push(i32::try_from(job.delay_ms).unwrap_or(i32::MAX));
            append.job_kinds.push(job.kind);
            append.job_payloads.push(job.payload.to_string());
            append.job_sealed.push(job.sealed);
        }
        let streams = share
            .touched
            .into_iter()
            .map(|stream| {
                let version = changed.get(&stream).map_or(0, |cached| cached.version);
                (stream, version)
            })
            .collect();
        self.changed.extend(changed);
        Verdict::Accepted(Accepted {
            position,
            streams,
            result: decision.result,
            open: decision.open,
        })
    }
}

impl Answer {
    pub(super) fn into_outcome(self) -> Result<Outcome, SubmitError> {
        self.0.map(|verdict| Outcome { verdict, repeated: false })
    }

    /// Position and text to remember; no text: nothing is remembered.
    fn record(&self, remember_refusals: bool) -> (Option<i64>, Option<String>) {
        match &self.0 {
            Ok(verdict @ Verdict::Accepted(accepted)) => {
                (Some(accepted.position), Some(record::to_json(verdict)))
            }
            Ok(verdict @ Verdict::Refused(_)) if remember_refusals => {
                (None, Some(record::to_json(verdict)))
            }
            Ok(Verdict::Refused(_)) | Err(_) => (None, None),
        }
    }
}

enum Refused {
    /// The business says no.
    By(Verdict),
    /// It ends without an outcome.
    Not(SubmitError),
    /// It reads a stream that isn't in memory.
    Cold(String),
}

impl From<SubmitError> for Refused {
    fn from(error: SubmitError) -> Self {
        Self::Not(error)
    }
}

/// A command's decision, and what it adds to its batch.
type Decided<M> = (Decision<<M as Model>::Event>, Share<<M as Model>::State>);

fn decide_one<M: Model>(
    rules: &Rules<M>,
    view: &mut View<'_, M>,
    submission: &Submission<M::Command>,
    recorded_at: DateTime<Utc>,
) -> Result<Decided<M>, Refused> {
    let settings = &rules.settings;
    let loaded = load(view, &submission.command)?;
    let now = submission.occurred_at.unwrap_or(recorded_at).trunc_subsecs(6);
    let decided = rules.model.decide(&submission.command, &loaded, now);
    // A version that isn't there goes before a refusal, unless the sender may not know of the
    // stream: then it must not learn its version either.
    let insists_on = submission.if_match.as_ref().filter(|wanted| {
        decided.is_ok()
            || rules.model.may_learn_version(&submission.command, &loaded, &wanted.stream)
    });
    drop(loaded);
    if let Some(wanted) = insists_on {
        let actual = match view.get(&wanted.stream) {
            Some(cached) => cached.version,
            None => return Err(Refused::Cold(wanted.stream.clone())),
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
    let decision = decided.map_err(|refusal| Refused::By(Verdict::Refused(refusal)))?;
    limit("events_per_command", decision.events.len(), settings.command_events)?;

    let unstorable = |what: &str, broken: canonical::RuleBroken| {
        SubmitError::Unstorable(format!("{what}: {broken}"))
    };
    let meta = submission.meta.to_canonical().map_err(|broken| unstorable("meta", broken))?;
    let mut encoded = Vec::with_capacity(decision.events.len());
    // A command is all or nothing: its changes join the batch's when every event has been folded.
    let mut changed: HashMap<String, Cached<M::State>> = HashMap::new();
    let mut touched = Vec::new();
    for (stream, event) in &decision.events {
        let wire = rules.model.encode(event).map_err(SubmitError::from)?;
        if let Some(name) =
            [stream.as_str(), wire.kind].into_iter().find(|name| !mac::is_plain(name))
        {
            let broken = format!("{name:?} is no name of a stream or an event type");
            return Err(SubmitError::Unstorable(broken).into());
        }
        let data = canonical::to_vec(&wire.data).map_err(|broken| unstorable(wire.kind, broken))?;
        limit("event_bytes", data.len() + meta.len(), settings.event_bytes)?;
        let before = if let Some(cached) = changed.remove(stream) {
            cached
        } else {
            touched.push(stream.clone());
            view.get(stream).cloned().ok_or_else(|| Refused::Cold(stream.clone()))?
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
        let after = Cached { version, state: Ok(Some(Arc::new(state))), ..before };
        changed.insert(stream.clone(), after);
        encoded.push((stream.clone(), version, wire, data));
    }
    Ok((decision, Share { encoded, meta, changed, touched }))
}

/// The streams that a command reads, as far as they are in memory.
fn load<M: Model>(
    view: &mut View<'_, M>,
    command: &M::Command,
) -> Result<Loaded<M::State>, Refused> {
    let mut loaded = Loaded::default();
    loop {
        let mut grew = false;
        let names = view.reads(command, &loaded);
        limit("streams_per_command", names.len(), view.streams_per_command())?;
        for name in names {
            if loaded.contains(&name) {
                continue;
            }
            let state = match view.get(&name) {
                Some(Cached { state: Ok(state), .. }) => state.clone(),
                Some(Cached { state: Err(error), .. }) => {
                    return Err(SubmitError::Corrupt(format!("{name}: {error}")).into());
                }
                None => return Err(Refused::Cold(name)),
            };
            loaded.insert(name, state);
            grew = true;
        }
        if !grew {
            return Ok(loaded);
        }
    }
}

/// The greater of this machine's clock and the head's, so that it never decreases.
fn recorded_at(head: &Head) -> DateTime<Utc> {
    let now = Utc::now().trunc_subsecs(6);
    head.recorded_at.map_or(now, |head| head.max(now))
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

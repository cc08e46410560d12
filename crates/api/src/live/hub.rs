//! All questions that are followed: told what changed, each evaluated once for all who follow it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use daybook_identity::{ApiKeys, Principal};
use daybook_projection::{Answer, Changes, DeclaredQuery, News, Queries, QueryError, ReadChange};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Asked, Question,
    group::{Group, State, key_of_change},
    places::{Place, Places},
};
use crate::{limits::Limits, problem::Failure, queries};

/// Least time between two evaluations of a question about one row.
const ROW_EVERY: Duration = Duration::from_millis(25);
/// Least time between two evaluations of any other question.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// Wait before an evaluation that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A question that nobody follows is kept until it was found so twice, this far apart: a client
/// that comes back meanwhile isn't sent again what it has seen.
const UNUSED: Duration = Duration::from_secs(30);

/// The hub. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    queries: Queries,
    places: Places,
    groups: Mutex<Groups>,
    /// Room for evaluations.
    evaluations: Semaphore,
    streams: usize,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct Groups {
    by_question: HashMap<Question, Arc<Group>>,
    by_projection: HashMap<(String, i32), Interested>,
}

/// Groups whose answers a projection may change.
#[derive(Default)]
struct Interested {
    by_row: HashMap<String, Vec<Arc<Group>>>,
    by_any: Vec<Arc<Group>>,
}

impl Hub {
    /// A hub that works until shutdown.
    pub(crate) fn start(
        queries: Queries,
        keys: ApiKeys,
        limits: &Limits,
        shutdown: CancellationToken,
    ) -> Self {
        metrics::describe_gauge!("daybook_live_streams", "Streams that follow a query.");
        metrics::describe_counter!(
            "daybook_live_evaluations_total",
            "Evaluations of followed queries after a change."
        );
        let changes = queries.positions().changes();
        let inner = Arc::new(Inner {
            queries,
            places: Places::new(limits),
            groups: Mutex::default(),
            evaluations: Semaphore::new(limits.stream_queries),
            streams: limits.streams,
            shutdown: shutdown.clone(),
        });
        let hub = Self { inner };
        let (dispatching, places) = (hub.clone(), hub.inner.places.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = dispatching.dispatch(changes) => {}
                () = places.watch_keys(&keys, shutdown.clone()) => {}
            }
        });
        hub
    }

    /// A place for one more stream of a principal that came with this API key.
    pub(crate) fn place(&self, principal: &Principal, key: &str) -> Result<Place, Failure> {
        self.inner.places.take(principal, ApiKeys::id_of(key).unwrap_or_default())
    }

    /// The answers to a question from now on. The first one is there already: `answer` is asked
    /// for it where nobody follows the question yet or a newer position is wanted.
    pub(super) async fn follow(
        &self,
        asked: Asked,
        query: &DeclaredQuery,
        wanted: Option<i64>,
        answer: impl AsyncFnOnce() -> Result<Answer, Failure>,
    ) -> Result<watch::Receiver<State>, Failure> {
        let (group, answers) = self.join(asked, query);
        // Who wants a position may wait long; nobody else should wait for that.
        let _one_at_a_time = if wanted.is_none() { Some(group.first.lock().await) } else { None };
        let known = {
            let state = answers.borrow();
            state.shown.is_some() && wanted.is_none_or(|wanted| wanted <= state.checked)
        };
        if !known {
            match answer().await {
                Ok(answer) => group.offer(answer),
                Err(failure) => {
                    drop(answers);
                    self.inner.remove_unused(&group);
                    return Err(failure);
                }
            }
        }
        Ok(answers)
    }

    /// The group of a question, made if there is none. Whoever joins is counted before a change
    /// could pass it by.
    fn join(&self, asked: Asked, query: &DeclaredQuery) -> (Arc<Group>, watch::Receiver<State>) {
        let mut groups = self.inner.lock();
        if let Some(group) = groups.by_question.get(&asked.question) {
            return (Arc::clone(group), group.state.subscribe());
        }
        if groups.by_question.len() >= self.inner.streams {
            // Kept for those who may come back; there is no room for that now.
            let unused: Vec<_> =
                groups.by_question.values().filter(|g| g.is_unused()).cloned().collect();
            for group in &unused {
                groups.remove(group);
            }
        }
        let group = Arc::new(Group::new(asked, query));
        groups.add(&group);
        let answers = group.state.subscribe();
        drop(groups);
        tokio::spawn(keep(Arc::clone(&self.inner), Arc::clone(&group)));
        (group, answers)
    }

    /// Tells groups what may have changed their answers, until there are no changes any more.
    async fn dispatch(&self, mut changes: Changes) {
        let mut declared = self.inner.queries.changed();
        loop {
            let news = tokio::select! {
                news = changes.next() => match news {
                    Some(news) => news,
                    None => return,
                },
                // a query may ask something else now, or be for others
                changed = declared.changed() => match changed {
                    Ok(()) => News::Missed,
                    Err(_) => return,
                },
            };
            let groups = self.inner.lock();
            match news {
                News::Changed(change) => groups.touch(&change),
                News::Missed => {
                    groups.by_question.values().for_each(|group| group.dirty.notify_one());
                }
            }
        }
    }
}

impl Groups {
    fn interested(&mut self, group: &Group) -> &mut Vec<Arc<Group>> {
        let place = (group.query.projection.clone(), group.question.tenant);
        let interested = self.by_projection.entry(place).or_default();
        match &group.row {
            Some(row) if group.is_bound() => interested.by_row.entry(row.clone()).or_default(),
            _ => &mut interested.by_any,
        }
    }

    fn add(&mut self, group: &Arc<Group>) {
        self.interested(group).push(Arc::clone(group));
        self.by_question.insert(group.question.clone(), Arc::clone(group));
    }

    fn remove(&mut self, group: &Arc<Group>) {
        let same = |known: &Arc<Group>| Arc::ptr_eq(known, group);
        if self.by_question.get(&group.question).is_some_and(same) {
            self.by_question.remove(&group.question);
        }
        self.interested(group).retain(|known| !same(known));
        for interested in self.by_projection.values_mut() {
            if let Some(row) = &group.row
                && interested.by_row.get(row).is_some_and(Vec::is_empty)
            {
                interested.by_row.remove(row);
            }
        }
        self.by_projection.retain(|_, i| !i.by_row.is_empty() || !i.by_any.is_empty());
    }

    fn touch(&self, change: &ReadChange) {
        let place = (change.projection.to_string(), change.tenant);
        let Some(interested) = self.by_projection.get(&place) else { return };
        let Some(keys) = &change.keys else {
            let all = interested.by_row.values().flatten().chain(&interested.by_any);
            all.for_each(|group| group.touch(change.position));
            return;
        };
        if keys.is_empty() {
            return;
        }
        let rows = keys.iter().filter_map(|key| key_of_change(key));
        let rows = rows.filter_map(|row| interested.by_row.get(&row));
        let touched = rows.flatten().chain(&interested.by_any);
        touched.for_each(|group| group.touch(change.position));
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().expect("no code panics while holding it")
    }

    /// Forgets a group that nobody follows; whether it did.
    fn remove_unused(&self, group: &Arc<Group>) -> bool {
        let mut groups = self.lock();
        let unused = group.is_unused();
        if unused {
            groups.remove(group);
        }
        unused
    }

    /// Asks the question again, for all who follow it. `Err`: it has to be tried once more.
    async fn evaluate(&self, group: &Group) -> Result<Evaluated, QueryError> {
        let _turn = self.evaluations.acquire().await;
        let declared = self.queries.declared();
        let now = declared.queries.iter().find(|query| query.name == group.query.name);
        if !now.is_some_and(|now| asks_the_same(now, &group.query)) {
            return Ok(Evaluated::Ended("query-changed"));
        }
        let query = group.query.name.clone();
        metrics::counter!("daybook_live_evaluations_total", "query" => query).increment(1);
        let (tenant, scope) = (group.question.tenant, group.scope());
        let answer = self
            .queries
            .run(&group.query, tenant, scope, &group.parameters, None, Duration::ZERO)
            .await;
        match answer {
            Ok(answer) => match queries::shown(&group.query, &group.positions, answer) {
                Ok(answer) => {
                    group.offer(answer);
                    Ok(Evaluated::GoOn)
                }
                Err(_) => Ok(Evaluated::Ended("query-changed")),
            },
            Err(QueryError::NotFound) => Ok(Evaluated::Ended("gone")),
            Err(
                QueryError::Unknown(_)
                | QueryError::BadParameter { .. }
                | QueryError::BadOrder { .. },
            ) => Ok(Evaluated::Ended("query-changed")),
            Err(error) => Err(error),
        }
    }
}

/// Whether a query that was declared anew may still be asked so, by the same people. What it answers
/// may be something else.
fn asks_the_same(now: &DeclaredQuery, then: &DeclaredQuery) -> bool {
    (&now.path, now.answer, now.live, &now.key, &now.roles, &now.parameters, &now.positions)
        == (
            &then.path,
            then.answer,
            then.live,
            &then.key,
            &then.roles,
            &then.parameters,
            &then.positions,
        )
}

enum Evaluated {
    GoOn,
    Ended(&'static str),
}

/// Keeps one group's answer up to date for as long as somebody follows it.
async fn keep(inner: Arc<Inner>, group: Arc<Group>) {
    let every = if group.is_bound() { ROW_EVERY } else { LIST_EVERY };
    let mut unused = false;
    loop {
        tokio::select! {
            () = inner.shutdown.cancelled() => return,
            () = group.dirty.notified() => {}
            () = tokio::time::sleep(UNUSED) => {
                if unused && inner.remove_unused(&group) {
                    return;
                }
                unused = group.is_unused();
                continue;
            }
        }
        if inner.remove_unused(&group) {
            return;
        }
        let started = Instant::now();
        let pause = match inner.evaluate(&group).await {
            Ok(Evaluated::GoOn) => every,
            Ok(Evaluated::Ended(reason)) => {
                inner.lock().remove(&group);
                group.end(reason);
                return;
            }
            Err(error) => {
                tracing::debug!(query = group.query.name, %error, "a followed query failed");
                group.dirty.notify_one();
                RETRY
            }
        };
        tokio::select! {
            () = inner.shutdown.cancelled() => return,
            () = tokio::time::sleep_until(started + pause) => {}
        }
    }
}

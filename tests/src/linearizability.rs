//! A checker for linearizability: is there one order of the operations, each somewhere between its
//! call and its answer, in which a simple model gives every answer that was given?
//!
//! The search of Wing and Gong (1993) with the memory of Lowe (2017): a set of operations that were
//! put in order, together with the state that they led to, is not looked at twice. An operation
//! without an answer may have taken effect at any time after its call, or never.

use std::{collections::HashSet, fmt::Debug, hash::Hash};

/// What the operations should look like: a sequential object.
pub trait Model {
    /// Its state.
    type State: Clone + Eq + Hash + Debug;
    /// What is asked of it.
    type Call: Debug + PartialEq;
    /// What it answers.
    type Answer: Debug;

    /// The state after a call, if the object in `state` may answer so. Without an answer: the
    /// state after the call took effect, `None` if it can take none.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// One operation of a history.
#[derive(Debug, Clone, Copy)]
pub struct Operation<C, A> {
    /// What was asked.
    pub call: C,
    /// What was answered; `None`: nothing that tells.
    pub answer: Option<A>,
    /// When it was asked, in any unit.
    pub called_at: u64,
    /// When it was answered, in the same unit. Without an answer it has no meaning.
    pub answered_at: u64,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// There is such an order: the places of the operations in it.
    Linearizable(Vec<usize>),
    /// There is none. How many operations with an answer could be put in order at most.
    Not(usize),
    /// So many steps were made without an end.
    Undecided(usize),
}

/// One decision of the search: the state before it, and what else may come next there.
struct Branch<S> {
    state: S,
    candidates: std::vec::IntoIter<usize>,
    chosen: Option<usize>,
}

/// Looks for an order of the operations, at most so many steps long.
pub fn check<M: Model>(
    model: &M,
    initial: M::State,
    history: &[Operation<M::Call, M::Answer>],
    most_steps: usize,
) -> Checked {
    let answered = history.iter().filter(|operation| operation.answer.is_some()).count();
    let mut done = Done::new(history.len());
    let mut done_answered = 0;
    let mut farthest = 0;
    let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let candidates = may_follow(model, &initial, history, &done);
    let mut path = vec![Branch { state: initial, candidates, chosen: None }];
    let mut steps = 0;
    while let Some(branch) = path.last_mut() {
        if done_answered == answered {
            return Checked::Linearizable(path.iter().filter_map(|b| b.chosen).collect());
        }
        // Back from the candidate tried before.
        if let Some(tried) = branch.chosen.take() {
            done.remove(tried);
            done_answered -= usize::from(history[tried].answer.is_some());
        }
        let Some(next) = branch.candidates.next() else {
            path.pop();
            continue;
        };
        steps += 1;
        if steps > most_steps {
            return Checked::Undecided(most_steps);
        }
        let operation = &history[next];
        let Some(state) = model.step(&branch.state, &operation.call, operation.answer.as_ref())
        else {
            continue;
        };
        done.insert(next);
        if seen.insert((done.words.clone(), state.clone())) {
            branch.chosen = Some(next);
            done_answered += usize::from(operation.answer.is_some());
            farthest = farthest.max(done_answered);
            let candidates = may_follow(model, &state, history, &done);
            path.push(Branch { state, candidates, chosen: None });
        } else {
            done.remove(next);
        }
    }
    Checked::Not(farthest)
}

/// Operations that may come next: none that was called after another one, still to come, had been
/// answered. Answered ones first, the sooner answered the sooner.
fn may_follow<M: Model>(
    model: &M,
    state: &M::State,
    history: &[Operation<M::Call, M::Answer>],
    done: &Done,
) -> std::vec::IntoIter<usize> {
    let open = || (0..history.len()).filter(|index| !done.contains(*index));
    let first_answer = open()
        .filter(|index| history[*index].answer.is_some())
        .map(|index| history[index].answered_at)
        .min()
        .unwrap_or(u64::MAX);
    let mut all: Vec<usize> =
        open().filter(|index| history[*index].called_at <= first_answer).collect();
    all.sort_by_key(|index| {
        let operation = &history[*index];
        let open = operation.answer.is_none();
        (open, if open { operation.called_at } else { operation.answered_at })
    });
    let mut distinct: Vec<usize> = Vec::with_capacity(all.len());
    for index in all {
        let operation = &history[index];
        if operation.answer.is_some() {
            // One that fits and changes nothing may come now, whatever comes after it: any order
            // with it in a later place is as good with it here.
            let after = model.step(state, &operation.call, operation.answer.as_ref());
            if after.as_ref() == Some(state) {
                return vec![index].into_iter();
            }
            distinct.push(index);
            continue;
        }
        // Of equal calls without an answer, the first may stand for all: whatever holds with a
        // later one in its place holds with it.
        let equal = |other: &usize| {
            history[*other].answer.is_none() && history[*other].call == operation.call
        };
        if !distinct.iter().any(equal) {
            distinct.push(index);
        }
    }
    distinct.into_iter()
}

/// A set of operations.
struct Done {
    words: Vec<u64>,
}

impl Done {
    fn new(operations: usize) -> Self {
        Self { words: vec![0; operations.div_ceil(64)] }
    }

    fn contains(&self, index: usize) -> bool {
        self.words[index / 64] & (1 << (index % 64)) != 0
    }

    fn insert(&mut self, index: usize) {
        self.words[index / 64] |= 1 << (index % 64);
    }

    fn remove(&mut self, index: usize) {
        self.words[index / 64] &= !(1 << (index % 64));
    }
}

/// A product's stock: what is available, and the version of its stream.
#[derive(Debug, Clone, Default)]
pub struct Stock {
    /// Versions that answers name as theirs: no operation without an answer had one of them.
    claimed: HashSet<i64>,
}

impl Stock {
    /// The stock that a history is of.
    pub fn of(history: &[Operation<StockCall, StockAnswer>]) -> Self {
        let version = |answer: StockAnswer| match answer {
            StockAnswer::Accepted(version) => Some(version),
            StockAnswer::Refused(_) => None,
        };
        let answers = history.iter().filter_map(|operation| operation.answer);
        Self { claimed: answers.filter_map(version).collect() }
    }
}

/// What is asked of a stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockCall {
    /// Take units in.
    Receive(i64),
    /// Reserve units for an order.
    Place(i64),
}

/// What a stock answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockAnswer {
    /// Done: the stream is at this version now.
    Accepted(i64),
    /// There are only so many units available.
    Refused(i64),
}

/// Units available and the stream's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StockState {
    /// Units that nobody has reserved.
    pub available: i64,
    /// Events so far.
    pub version: i64,
}

impl Model for Stock {
    type State = StockState;
    type Call = StockCall;
    type Answer = StockAnswer;

    fn step(
        &self,
        state: &StockState,
        call: &StockCall,
        answer: Option<&StockAnswer>,
    ) -> Option<StockState> {
        let version = state.version + 1;
        let available = match call {
            StockCall::Receive(units) => state.available + units,
            StockCall::Place(units) => state.available - units,
        };
        let accepted = (available >= 0).then_some(StockState { available, version });
        match answer {
            None => accepted.filter(|_| !self.claimed.contains(&version)),
            Some(StockAnswer::Accepted(at)) => accepted.filter(|_| *at == version),
            Some(StockAnswer::Refused(left)) => {
                (accepted.is_none() && *left == state.available).then_some(*state)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use StockAnswer::{Accepted, Refused};
    use StockCall::{Place, Receive};

    use super::*;

    const EMPTY: StockState = StockState { available: 0, version: 0 };

    fn operation(
        call: StockCall,
        answer: Option<StockAnswer>,
        called_at: u64,
        answered_at: u64,
    ) -> Operation<StockCall, StockAnswer> {
        Operation { call, answer, called_at, answered_at }
    }

    fn checked(history: &[Operation<StockCall, StockAnswer>]) -> Checked {
        check(&Stock::of(history), EMPTY, history, 1_000_000)
    }

    fn is_linearizable(history: &[Operation<StockCall, StockAnswer>]) -> bool {
        match checked(history) {
            Checked::Linearizable(_) => true,
            Checked::Not(_) => false,
            Checked::Undecided(steps) => panic!("undecided after {steps} steps"),
        }
    }

    #[test]
    fn one_after_the_other_in_order_is_linearizable() {
        let history = [
            operation(Receive(5), Some(Accepted(1)), 0, 1),
            operation(Place(3), Some(Accepted(2)), 2, 3),
            operation(Place(3), Some(Refused(2)), 4, 5),
            operation(Place(2), Some(Accepted(3)), 6, 7),
        ];
        assert_eq!(checked(&history), Checked::Linearizable(vec![0, 1, 2, 3]));
    }

    #[test]
    fn operations_at_the_same_time_may_take_effect_in_any_order() {
        let history = [
            operation(Place(3), Some(Accepted(2)), 0, 10),
            operation(Receive(5), Some(Accepted(1)), 1, 9),
            operation(Place(3), Some(Refused(2)), 2, 8),
        ];
        assert_eq!(checked(&history), Checked::Linearizable(vec![1, 0, 2]));
    }

    #[test]
    fn oversold_units_are_found() {
        // Two orders of three at the same time from a stock of five, both accepted.
        let history = [
            operation(Receive(5), Some(Accepted(1)), 0, 1),
            operation(Place(3), Some(Accepted(2)), 2, 9),
            operation(Place(3), Some(Accepted(3)), 3, 8),
        ];
        assert_eq!(checked(&history), Checked::Not(2));
    }

    #[test]
    fn a_lost_update_is_found() {
        let history = [
            operation(Receive(5), Some(Accepted(1)), 0, 1),
            operation(Receive(5), Some(Accepted(2)), 2, 3),
            operation(Place(6), Some(Refused(5)), 4, 5),
        ];
        assert_eq!(checked(&history), Checked::Not(2));
    }

    #[test]
    fn an_answer_from_the_past_is_found() {
        // What was received before the call was not seen: true once, but not between call and
        // answer.
        let history = [
            operation(Receive(1), Some(Accepted(1)), 0, 1),
            operation(Receive(9), Some(Accepted(2)), 2, 3),
            operation(Place(5), Some(Refused(1)), 4, 5),
        ];
        assert!(!is_linearizable(&history));
        // The same answer is right for a call that was made before the second receipt ended.
        let mut overlapping = history;
        overlapping[2].called_at = 2;
        assert!(is_linearizable(&overlapping));
    }

    #[test]
    fn two_that_see_each_other_s_effect_the_wrong_way_round_are_found() {
        // Each version was given once, but the later call got the earlier version.
        let history = [
            operation(Receive(1), Some(Accepted(2)), 0, 1),
            operation(Receive(1), Some(Accepted(1)), 2, 3),
        ];
        assert!(!is_linearizable(&history));
        let twice = [
            operation(Receive(1), Some(Accepted(1)), 0, 5),
            operation(Receive(1), Some(Accepted(1)), 1, 4),
        ];
        assert!(!is_linearizable(&twice), "one version for two");
    }

    #[test]
    fn an_unknown_outcome_may_take_effect_late_or_never_but_not_before_its_call() {
        let with = |unknown_called_at, last| {
            is_linearizable(&[
                operation(Receive(5), None, unknown_called_at, 0),
                operation(Receive(1), Some(Accepted(1)), 1, 2),
                operation(Place(1), Some(Accepted(2)), 10, 11),
                operation(Place(4), Some(last), 20, 21),
            ])
        };
        assert!(with(0, Refused(0)), "never");
        assert!(with(0, Accepted(4)), "in between");
        assert!(with(15, Accepted(4)), "late");
        assert!(!with(22, Accepted(4)), "after it was needed");
        assert!(!with(0, Accepted(3)), "it has no version of its own");
        // An order of unknown outcome can't take what was not there.
        assert!(!is_linearizable(&[
            operation(Place(1), None, 0, 0),
            operation(Receive(1), Some(Accepted(2)), 1, 2),
        ]));
    }

    #[test]
    fn many_at_once_are_decided_quickly_and_one_wrong_answer_among_them_is_found() {
        // Ten clients without pause: each answer overlaps with nine others.
        let mut history = vec![operation(Receive(1_000), Some(Accepted(1)), 0, 1)];
        for n in 0..300 {
            let answer = if n % 7 == 3 { None } else { Some(Accepted(i64::from(n) + 2)) };
            let at = u64::try_from(n).unwrap_or(0) * 10 + 10;
            history.push(operation(Place(1), answer, at, at + 95));
        }
        assert!(is_linearizable(&history));
        let last = history.len() - 1;
        history[last].answer = Some(Accepted(17));
        assert!(!is_linearizable(&history));
    }
}

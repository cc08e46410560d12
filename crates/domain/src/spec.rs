//! Given / when / then: what happened before, what is asked, and what comes of it.

use std::fmt::Debug;

use crate::Aggregate;

/// A history, folded.
#[derive(Debug, Clone)]
pub(crate) struct Given<A>(pub(crate) A);

/// Folds a history into a state. Panics if an event does not fit.
pub(crate) fn given<A: Aggregate>(history: &[A::Event]) -> Given<A> {
    Given(fold(A::default(), history))
}

pub(crate) fn fold<A: Aggregate>(state: A, events: &[A::Event]) -> A {
    events.iter().fold(state, |state, event| state.evolve(event).expect("history fits"))
}

impl<A: Aggregate> Given<A>
where
    A::Event: Debug + PartialEq,
    A::Refusal: Debug + PartialEq,
{
    /// Asks.
    pub(crate) fn when(self, command: &A::Command) -> When<A> {
        let outcome = self.0.decide(command);
        if let Ok(events) = &outcome {
            // Whatever is decided can be folded.
            fold(self.0.clone(), events);
        }
        When { before: self.0, outcome }
    }
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct When<A: Aggregate> {
    before: A,
    outcome: Result<Vec<A::Event>, A::Refusal>,
}

impl<A: Aggregate> When<A>
where
    A::Event: Debug + PartialEq,
    A::Refusal: Debug + PartialEq,
{
    /// These events, no more. Returns the history with them, to go on from.
    #[track_caller]
    pub(crate) fn then(self, expected: &[A::Event]) -> Given<A> {
        let events = self.events();
        assert_eq!(events.1, expected);
        events.0
    }

    /// Accepted, whatever the events are.
    #[track_caller]
    pub(crate) fn accepted(self) -> Given<A> {
        self.events().0
    }

    /// Refused so.
    #[track_caller]
    pub(crate) fn refused(self, expected: &A::Refusal) {
        assert_eq!(self.outcome.as_ref().err(), Some(expected), "got {:?}", self.outcome);
    }

    #[track_caller]
    fn events(self) -> (Given<A>, Vec<A::Event>) {
        match self.outcome {
            Ok(events) => (Given(fold(self.before, &events)), events),
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
    }
}

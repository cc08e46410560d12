//! The shape that all aggregates share.

/// A state that decides commands and folds events.
///
/// The default is the state before the first event.
pub trait Aggregate: Clone + Default + PartialEq + std::fmt::Debug {
    /// What may be asked of it.
    type Command;
    /// What happens to it.
    type Event;
    /// Why it says no.
    type Refusal;

    /// The events that `command` causes (none, if it asks for what is already so), or why not.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after `event`. Accepts whatever [`Aggregate::decide`] returned for this state.
    fn evolve(self, event: &Self::Event) -> Result<Self, Misfit>;
}

/// An event that can't have happened to the state it meets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not fit {state}")]
pub struct Misfit {
    /// Name of the event.
    pub event: &'static str,
    /// Name of the phase it met, or of the rule it would break.
    pub state: &'static str,
}

impl Misfit {
    pub(crate) fn new(event: &'static str, state: &'static str) -> Self {
        Self { event, state }
    }
}

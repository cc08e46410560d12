//! What holds whatever is asked of the shop, in whatever order: random histories through all its
//! streams, as the journal's writer would run them, beside a book that is kept by simpler rules.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod book;
mod desk;
mod steps;

use std::collections::BTreeSet;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use self::{
    desk::{Desk, Tally},
    steps::{Step, history},
};

/// Runs a history, and checks every number after every step.
fn run(steps: &[Step], tally: &mut Tally) {
    let mut desk = Desk::new();
    for step in steps {
        desk.step(step, tally);
        desk.agree();
    }
    desk.hold();
}

proptest! {
    #![proptest_config(Config { cases: 160, ..Config::default() })]

    #[test]
    fn the_shop_keeps_its_books(steps in history(150)) {
        run(&steps, &mut Tally::default());
    }
}

/// The generator reaches what it is meant to: from fixed seeds every command is accepted and every
/// refusable one refused, every type of event happens, and so do the rare turns of a history.
#[test]
fn random_histories_go_everywhere() {
    let mut tally = Tally::default();
    for seed in 0..8 {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
        let seen = std::cell::RefCell::new(&mut tally);
        TestRunner::new_with_rng(config, rng)
            .run(&history(250), |steps| {
                run(&steps, &mut seen.borrow_mut());
                Ok(())
            })
            .unwrap();
    }

    let clients = daybook_commands::catalogue().into_iter().map(|command| command.name);
    let backend = [
        "ExpireOrder",
        "RecordDispute",
        "RecordGatewayPayment",
        "RecordPaymentOutcome",
        "RecordRefundOutcome",
    ];
    let commands: BTreeSet<&str> = clients.chain(backend).collect();
    assert_eq!(tally.accepted.keys().copied().collect::<BTreeSet<_>>(), commands);
    let events: BTreeSet<&str> = daybook_commands::event_types().iter().copied().collect();
    assert_eq!(tally.events.keys().copied().collect::<BTreeSet<_>>(), events);
    let refusable: BTreeSet<&str> = tally.refused.keys().copied().collect();
    assert!(commands.difference(&refusable).all(|command| command.starts_with("Record")));
    for (command, times) in &tally.accepted {
        assert!(*times >= 10, "{command} was accepted {times} times only");
    }
    for turn in desk::TURNS {
        assert!(tally.turns.contains_key(turn), "{turn} never happened");
    }
}

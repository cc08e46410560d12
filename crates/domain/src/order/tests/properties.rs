//! What holds whatever is asked, in whatever order.
#![expect(clippy::wildcard_enum_match_arm, reason = "only some matter to a property")]

use proptest::prelude::*;

use super::*;
use crate::spec::fold;

fn any_money() -> impl Strategy<Value = Money> {
    prop_oneof![8 => (1..1100_i64).prop_map(gbp), 1 => Just(eur(5)), 1 => Just(gbp(1000))]
}

fn any_by() -> impl Strategy<Value = RefundBy> {
    prop_oneof![Just(RefundBy::Gateway), Just(RefundBy::Elsewhere)]
}

fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![Just(at(15)), Just(at(60))]
}

fn any_command() -> impl Strategy<Value = Command> {
    let n = 0..4_u128;
    let line = (0..4_u32, 1..4_i64);
    prop_oneof![
        1 => Just(Command::Place(new_order())),
        3 => (n.clone(), any_money()).prop_map(|(n, money)| open(n, money)),
        2 => (n.clone(), any_money()).prop_map(|(n, money)| record(n, money)),
        3 => n.clone().prop_map(capture),
        2 => n.clone().prop_map(close),
        2 => (prop::collection::vec(line, 0..3), any::<bool>()).prop_map(|(lines, on_account)| {
            let line = |(line, units)| ShipLine { line, quantity: quantity(units) };
            Command::Ship { lines: Some(lines.into_iter().map(line).collect()), on_account }
        }),
        1 => any::<bool>().prop_map(|on_account| Command::Ship { lines: None, on_account }),
        1 => Just(Command::Deliver),
        3 => (0..4_u32, 1..4_i64, prop::option::of(0..700_i64), any_by(), any::<u128>()).prop_map(
            |(line, units, credit, by, seed)| Command::Return {
                lines: vec![ReturnLine {
                    line,
                    quantity: quantity(units),
                    credit: credit.map(amount),
                }],
                by,
                seed: RefundSeed(Uuid::from_u128(seed)),
            }
        ),
        2 => (n, any_money(), any_by(), any::<u128>()).prop_map(|(n, money, by, seed)| {
            let (payment, reason) = (pay(n), "sorry".into());
            let seed = RefundSeed(Uuid::from_u128(seed));
            Command::Refund(Goodwill { payment, money, by, reason, seed })
        }),
        1 => Just(cancel()),
        1 => any_time().prop_map(expire),
    ]
}

/// Asks, and answers a refund under way as `succeeds` says, now and then.
fn run(commands: &[(Command, Option<bool>)]) -> (Order, Vec<Event>) {
    let mut order = Order::default();
    let mut history: Vec<Event> = Vec::new();
    let mut under_way: Vec<(PaymentId, RefundId, Money)> = Vec::new();
    for (command, answer) in commands {
        let mut asked = vec![command.clone()];
        if let (Some(succeeds), Some((payment, refund, money))) = (answer, under_way.pop()) {
            asked.push(if *succeeds {
                Command::RecordRefundDone { payment, refund, money, after_failure: false }
            } else {
                let reason = "no".into();
                Command::RecordRefundFailure { payment, refund, money, reason }
            });
        }
        for command in &asked {
            let Ok(events) = order.decide(command) else { continue };
            order = fold(order, &events);
            for event in &events {
                match event {
                    Event::RefundOpened { payment, refund, money, .. } => {
                        under_way.push((*payment, *refund, *money));
                    }
                    Event::RefundSettled { refund, .. } | Event::RefundFailed { refund, .. } => {
                        under_way.retain(|(_, known, _)| known != refund);
                    }
                    _ => {}
                }
            }
            history.extend(events);
        }
    }
    (order, history)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_decision_folds_and_the_bounds_hold(
        commands in prop::collection::vec((any_command(), prop::option::of(any::<bool>())), 1..60)
    ) {
        let commands: Vec<_> =
            [(Command::Place(new_order()), None)].into_iter().chain(commands).collect();
        let (order, history) = run(&commands);
        let details = order.details().unwrap();
        let ledger = details.ledger();
        prop_assert!(ledger.credited() <= ledger.total());
        for part in ledger.parts() {
            if let PartPhase::Captured { refunding, refunded, .. } = part.phase {
                prop_assert!(refunding.get() + refunded.get() <= part.amount.get());
            }
        }
        prop_assert!(ledger.kept() <= ledger.captured());
        for (line, progress) in details.with_progress() {
            prop_assert!(0 <= progress.returned && progress.returned <= progress.shipped);
            prop_assert!(progress.shipped <= line.quantity.get());
        }
        // More is kept than is due only where a refund failed.
        let failed = history.iter().any(|event| matches!(event, Event::RefundFailed { .. }));
        prop_assert!(failed || ledger.excess().is_zero());
        // Folding the whole history gives the same state as folding as it went.
        prop_assert_eq!(fold(Order::default(), &history), order);
    }

    #[test]
    fn nothing_unpaid_leaves_unless_on_account(
        commands in prop::collection::vec((any_command(), prop::option::of(any::<bool>())), 1..40)
    ) {
        let commands: Vec<_> = [(Command::Place(new_order()), None)]
            .into_iter()
            .chain(commands)
            .map(|(command, answer)| match command {
                Command::Ship { lines, .. } => (Command::Ship { lines, on_account: false }, answer),
                other => (other, answer),
            })
            .collect();
        let (_, history) = run(&commands);
        let mut order = Order::default();
        for event in &history {
            if matches!(event, Event::Shipped { .. }) {
                prop_assert!(order.details().unwrap().ledger().is_paid());
            }
            order = order.evolve(event).unwrap();
        }
    }
}

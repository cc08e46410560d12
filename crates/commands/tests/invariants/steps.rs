//! What may be asked, at random. Numbers choose among what is there.

use proptest::prelude::*;

/// How much is asked for, of what is still to be paid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sum {
    /// All of it.
    Rest,
    /// One more than all of it.
    Over,
    /// So much.
    Some(i64),
}

/// What the gateway, or a person, is to say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Taken,
    /// Another amount was taken.
    OtherSum,
    /// It is known by another id.
    OtherId,
    NotTaken,
    Unclear,
}

/// Something to ask.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    AddProduct {
        product: usize,
    },
    ChangePrice {
        product: usize,
        price: i64,
        foreign: bool,
    },
    Discontinue {
        product: usize,
    },
    Receive {
        product: usize,
        units: i64,
    },
    Adjust {
        product: usize,
        units: i64,
    },
    Place {
        who: usize,
        lines: Vec<(usize, i64, Option<i64>)>,
        shipping: Option<i64>,
        tax: Option<i64>,
        /// How far what the buyer was shown is from what it costs.
        shown: Option<i64>,
    },
    Charge {
        order: usize,
        sum: Sum,
        stranger: bool,
        foreign: bool,
    },
    Record {
        order: usize,
        sum: Sum,
        foreign: bool,
    },
    GatewayId {
        payment: usize,
        other: bool,
    },
    Outcome {
        payment: usize,
        says: Says,
    },
    Resolve {
        payment: usize,
        says: Says,
    },
    Dispute {
        payment: usize,
        won: bool,
    },
    Cancel {
        order: usize,
        stranger: bool,
    },
    Ship {
        order: usize,
        lines: Option<Vec<(usize, i64)>>,
        on_account: bool,
    },
    Deliver {
        order: usize,
    },
    Return {
        order: usize,
        lines: Vec<(usize, i64, Option<i64>)>,
        elsewhere: bool,
    },
    Goodwill {
        payment: usize,
        amount: i64,
        foreign: bool,
        elsewhere: bool,
    },
    RefundOutcome {
        refund: usize,
        back: bool,
    },
    Expire {
        order: usize,
        early: bool,
    },
}

/// The shop is opened and filled, and then anything.
pub(crate) fn history(length: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 1..length).prop_map(|steps| {
        let opened = (0..4).map(|product| Step::AddProduct { product });
        let filled = [0, 1, 3].map(|product| Step::Receive { product, units: 15 });
        opened.chain(filled).chain(steps).collect()
    })
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn any_sum() -> impl Strategy<Value = Sum> {
    prop_oneof![5 => Just(Sum::Rest), 1 => Just(Sum::Over), 4 => (1..400_i64).prop_map(Sum::Some)]
}

fn any_says() -> impl Strategy<Value = Says> {
    prop_oneof![
        6 => Just(Says::Taken),
        1 => Just(Says::OtherSum),
        1 => Just(Says::OtherId),
        3 => Just(Says::NotTaken),
        3 => Just(Says::Unclear),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    // Counted from the latest.
    let n = || prop_oneof![3 => 0..3_usize, 1 => 0..8_usize];
    let product = || 0..4_usize;
    let some = any::<bool>;
    let named = |most: i64| prop::option::weighted(0.1, 0..most);
    let line = || prop_oneof![12 => 1..3_usize, 1 => 0..5_usize];
    let ordered = || prop_oneof![4 => 0..3_usize, 1 => Just(3_usize)];
    let basket = prop::collection::vec((ordered(), 1..5_i64, named(500)), 1..4);
    // Euros are kept to themselves, mostly.
    let basket = basket.prop_map(|mut lines| {
        if lines[0].0 == 3 {
            for line in &mut lines {
                line.0 = 3;
            }
        }
        lines
    });
    let place = (0..5_usize, basket, named(90), named(90), prop::option::weighted(0.3, 0..2_i64));
    let returned = prop::collection::vec((line(), 1..3_i64, named(700)), 1..3);
    prop_oneof![
        2 => product().prop_map(|product| Step::AddProduct { product }),
        4 => (product(), prop_oneof![1 => Just(0), 4 => 0..600_i64], rarely())
            .prop_map(|(product, price, foreign)| Step::ChangePrice { product, price, foreign }),
        1 => product().prop_map(|product| Step::Discontinue { product }),
        4 => (product(), 1..9_i64).prop_map(|(product, units)| Step::Receive { product, units }),
        4 => (product(), -9..6_i64).prop_map(|(product, units)| Step::Adjust { product, units }),
        10 => place.prop_map(|(who, lines, shipping, tax, shown)| {
            Step::Place { who, lines, shipping, tax, shown }
        }),
        28 => (n(), any_sum(), rarely(), rarely()).prop_map(|(order, sum, stranger, foreign)| {
            Step::Charge { order, sum, stranger, foreign }
        }),
        18 => (n(), any_sum(), rarely())
            .prop_map(|(order, sum, foreign)| Step::Record { order, sum, foreign }),
        8 => (n(), rarely()).prop_map(|(payment, other)| Step::GatewayId { payment, other }),
        36 => (n(), any_says()).prop_map(|(payment, says)| Step::Outcome { payment, says }),
        12 => (n(), any_says()).prop_map(|(payment, says)| Step::Resolve { payment, says }),
        4 => (n(), some()).prop_map(|(payment, won)| Step::Dispute { payment, won }),
        6 => (n(), rarely()).prop_map(|(order, stranger)| Step::Cancel { order, stranger }),
        32 => (
            n(),
            prop::option::of(prop::collection::vec((line(), 1..4_i64), 1..3)),
            prop::bool::weighted(0.3)
        )
            .prop_map(|(order, lines, on_account)| Step::Ship { order, lines, on_account }),
        10 => n().prop_map(|order| Step::Deliver { order }),
        28 => (n(), returned, prop::bool::weighted(0.4))
            .prop_map(|(order, lines, elsewhere)| Step::Return { order, lines, elsewhere }),
        12 => (n(), 1..400_i64, rarely(), prop::bool::weighted(0.4)).prop_map(
            |(payment, amount, foreign, elsewhere)| {
                Step::Goodwill { payment, amount, foreign, elsewhere }
            }
        ),
        28 => (n(), prop::bool::weighted(0.6))
            .prop_map(|(refund, back)| Step::RefundOutcome { refund, back }),
        8 => (n(), rarely()).prop_map(|(order, early)| Step::Expire { order, early }),
    ]
}

//! That all commands get there, in the end, whatever fails on the way.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use daybook_journal::{Accepted, Outcome, Refusal, SubmitError, Verdict};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        plan::{Action, Plan},
        progress::Progress,
        send::{Desk, Limits, Stopped, Tally, send},
        source::Contents,
    },
    plan_of, whole_file,
};

type Answer = Result<Outcome, SubmitError>;

/// A shop in memory behind a queue that decides batches of several sizes, some of which end
/// without an outcome, with or without effect.
struct FakeShop<'a> {
    plan: &'a Plan,
    queue: RefCell<VecDeque<(usize, oneshot::Sender<Answer>)>>,
    state: RefCell<State>,
    random: Cell<u64>,
    /// One batch in so many fails; 0: none.
    failing: u64,
}

#[derive(Default, Clone)]
struct State {
    accepted: HashSet<usize>,
    products: HashSet<u32>,
    stock: HashMap<u32, i64>,
    placed: HashSet<usize>,
    paid: HashSet<usize>,
    shipped: HashSet<usize>,
}

impl<'a> FakeShop<'a> {
    fn new(plan: &'a Plan, seed: u64, failing: u64) -> Self {
        Self {
            plan,
            queue: RefCell::default(),
            state: RefCell::default(),
            random: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            failing,
        }
    }

    /// A number below `end` (xorshift).
    fn random(&self, end: u64) -> u64 {
        let mut next = self.random.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.random.set(next);
        next % end
    }

    async fn work(&self) {
        loop {
            tokio::task::yield_now().await;
            let size = self.random(40) + 1;
            let batch: Vec<_> = {
                let mut queue = self.queue.borrow_mut();
                let size = queue.len().min(usize::try_from(size).unwrap());
                queue.drain(..size).collect()
            };
            let mut state = self.state.borrow().clone_if(self.failing > 0);
            let state = match &mut state {
                Some(copy) => copy,
                None => &mut self.state.borrow_mut(),
            };
            let answers: Vec<_> = batch
                .into_iter()
                .map(|(step, tell)| (state.decide(self.plan, step), tell))
                .collect();
            let fails = self.failing > 0 && self.random(self.failing) == 0;
            if self.failing > 0 && (!fails || self.random(2) == 0) {
                self.state.replace(state.clone());
            }
            for (answer, tell) in answers {
                let answer = match (fails, self.random(3)) {
                    (false, _) => Ok(answer),
                    (true, 0) => Err(SubmitError::Unavailable("the database restarts".into())),
                    (true, _) => Err(SubmitError::OutcomeUnknown),
                };
                tell.send(answer).unwrap();
            }
        }
    }
}

impl State {
    fn clone_if(&self, wanted: bool) -> Option<Self> {
        wanted.then(|| self.clone())
    }

    fn decide(&mut self, plan: &Plan, index: usize) -> Outcome {
        let accepted = |repeated| Outcome {
            verdict: Verdict::Accepted(Accepted {
                position: 1,
                streams: Vec::new(),
                result: Value::Null,
                open: false,
            }),
            repeated,
        };
        if self.accepted.contains(&index) {
            return accepted(true);
        }
        let refused = |code: &str| Outcome {
            verdict: Verdict::Refused(Refusal {
                code: code.to_owned(),
                detail: String::new(),
                values: Value::Null,
            }),
            repeated: false,
        };
        let known = |code: &u32| self.products.contains(code);
        let allowed = match &plan.steps[index].action {
            Action::AddProduct { code } if known(code) => return refused("product-exists"),
            Action::AddProduct { .. } => true,
            Action::ReceiveStock { code, .. } => known(code),
            Action::AdjustStock { adjustment } => known(&plan.adjustments[*adjustment].code),
            Action::PlaceOrder { order } => {
                plan.orders[*order].lines.iter().all(|line| known(&line.code))
                    && !self.placed.contains(order)
            }
            Action::RecordPayment { order } => self.placed.contains(order),
            Action::ShipOrder { order } => {
                self.placed.contains(order)
                    && (self.paid.contains(order) || plan.orders[*order].total == 0)
            }
            Action::ReturnItems { piece } => self.shipped.contains(&plan.pieces[*piece].order),
        };
        if !allowed {
            return refused("wrong-state");
        }
        let mut moves: HashMap<u32, i64> = HashMap::new();
        plan.stock_moves(index, |code, units| *moves.entry(code).or_default() += units);
        let level = |code: &u32| self.stock.get(code).copied().unwrap_or(0);
        if moves.iter().any(|(code, units)| level(code) + units < 0) {
            return refused("out-of-stock");
        }
        for (code, units) in moves {
            *self.stock.entry(code).or_default() += units;
        }
        match plan.steps[index].action {
            Action::AddProduct { code } => drop(self.products.insert(code)),
            Action::PlaceOrder { order } => drop(self.placed.insert(order)),
            Action::RecordPayment { order } => drop(self.paid.insert(order)),
            Action::ShipOrder { order } => drop(self.shipped.insert(order)),
            Action::ReceiveStock { .. }
            | Action::AdjustStock { .. }
            | Action::ReturnItems { .. } => {}
        }
        self.accepted.insert(index);
        accepted(false)
    }
}

struct Queued(oneshot::Receiver<Answer>);

impl Future for Queued {
    type Output = Answer;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Answer> {
        std::pin::Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap())
    }
}

impl Desk for FakeShop<'_> {
    type Pending = Queued;

    async fn enqueue(&self, index: usize) -> Queued {
        let (tell, hear) = oneshot::channel();
        self.queue.borrow_mut().push_back((index, tell));
        Queued(hear)
    }
}

fn limits(in_flight: usize) -> Limits {
    Limits {
        in_flight,
        pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        patience: Duration::from_mins(1),
    }
}

async fn sent(shop: &FakeShop<'_>, in_flight: usize, shutdown: &CancellationToken) -> Tally {
    patiently_sent(shop, &limits(in_flight), shutdown).await
}

async fn patiently_sent(
    shop: &FakeShop<'_>,
    limits: &Limits,
    shutdown: &CancellationToken,
) -> Tally {
    let mut progress = Progress::new(shop.plan.row_count, true);
    tokio::select! {
        tally = send(shop.plan, shop, limits, &mut progress, shutdown) => tally,
        () = shop.work() => unreachable!("it works for ever"),
    }
}

fn total(tally: &Tally) -> (u64, u64) {
    let sum = |of: fn(&super::super::send::Counts) -> u64| tally.by_command.values().map(of).sum();
    (sum(|counts| counts.accepted), sum(|counts| counts.repeated))
}

/// A shop where the same few goods are sold and brought back all the time: as little stock as
/// can be, so that every command matters to those that follow.
fn tight_shop(seed: u64) -> Plan {
    let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let rows: Vec<String> = (1..=400)
        .map(|number| {
            let (code, customer, quantity) = (below(3), below(3), below(9) + 1);
            let at = "2010-12-01 08:26:00";
            match below(10) {
                0..=4 => format!("{number},P{code},x,{quantity},{at},1,{customer}.0,UK"),
                5..=7 => format!("C{number},P{code},x,-{quantity},{at},1,{customer}.0,UK"),
                8 => format!("{number},P{code},x,{quantity},{at},0,,UK"),
                _ => format!("{number},P{code},x,-{quantity},{at},0,,UK"),
            }
        })
        .collect();
    let plan = plan_of(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    plan.check();
    plan
}

#[tokio::test]
async fn all_is_accepted_once_whatever_fails() {
    for seed in 1..=300 {
        let plan = tight_shop(seed);
        let shop = FakeShop::new(&plan, seed, 3);
        let tally = sent(&shop, 100, &CancellationToken::new()).await;
        assert_eq!(tally.unaccepted, [], "seed {seed}");
        assert_eq!(tally.stopped, None);
        assert!(tally.rewinds > 0);
        let (accepted, repeated) = total(&tally);
        assert_eq!(accepted + repeated, plan.steps.len() as u64);
        let state = shop.state.borrow();
        assert_eq!(state.accepted.len(), plan.steps.len());
        for (code, product) in (0..).zip(&plan.products) {
            assert_eq!(state.stock.get(&code).copied().unwrap_or(0), product.closing);
        }
    }
}

#[tokio::test]
async fn a_second_run_repeats_and_an_interrupted_one_goes_on() {
    let plan = tight_shop(1);
    let shop = FakeShop::new(&plan, 1, 0);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let tally = sent(&shop, 100, &cancelled).await;
    assert_eq!((tally.decided, tally.stopped), (0, Some(Stopped::Asked)));
    let all = plan.steps.len() as u64;
    let tally = sent(&shop, 100, &CancellationToken::new()).await;
    assert_eq!(total(&tally), (all, 0));
    let tally = sent(&shop, 7, &CancellationToken::new()).await;
    assert_eq!(total(&tally), (0, all));
}

#[tokio::test]
async fn a_refusal_is_counted_and_does_not_stop_the_rest() {
    let plan =
        plan_of(&["1,A,x,1,2010-12-01 08:26:00,1,1.0,UK", "2,B,x,1,2010-12-01 08:26:00,1,1.0,UK"]);
    let shop = FakeShop::new(&plan, 1, 0);
    shop.state.borrow_mut().products.insert(1);
    shop.state.borrow_mut().placed.insert(0);
    let tally = sent(&shop, 3, &CancellationToken::new()).await;
    assert_eq!(tally.decided, plan.steps.len());
    assert_eq!(tally.unaccepted_count, 1);
    let refused = &tally.unaccepted[0];
    assert_eq!((refused.row, refused.command), (1, "PlaceOrder"));
    assert_eq!(tally.by_command["PlaceOrder"].refused["wrong-state"], 1);
    assert_eq!(tally.by_command["AddProduct"].refused["product-exists"], 1, "no harm");
}

#[tokio::test]
async fn it_gives_up_when_nothing_succeeds_for_too_long() {
    let plan = tight_shop(1);
    let shop = FakeShop::new(&plan, 1, 1);
    let impatient = Limits { patience: Duration::ZERO, ..limits(10) };
    let tally = patiently_sent(&shop, &impatient, &CancellationToken::new()).await;
    assert!(matches!(tally.stopped, Some(Stopped::Unavailable(_))));
}

#[tokio::test]
async fn the_whole_file_gets_there() {
    let Some(path) = whole_file::real_file() else { return };
    let plan = Plan::new(Contents::read(&path).unwrap());
    let shop = FakeShop::new(&plan, 1, 0);
    let tally = sent(&shop, 2000, &CancellationToken::new()).await;
    assert_eq!(tally.unaccepted, []);
    assert_eq!(total(&tally), (plan.steps.len() as u64, 0));
}

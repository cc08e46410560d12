//! How far a long run over events is: a bar where standard error is a terminal, else a line every few
//! seconds.

use std::{
    io::{IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the bar changes.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// A bar for positions, in one or more stages.
pub(crate) struct Bar {
    quiet: bool,
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: &'static str,
    /// `None`: lines.
    bar: Option<ProgressBar>,
    total: u64,
    begun: Instant,
    /// What was done already when it began, which says nothing about its speed.
    before: u64,
    shown: Instant,
}

impl Bar {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, stage: Mutex::new(None) }
    }

    /// A stage of `total` events begins, `before` of which are done.
    pub(crate) fn begin(&self, name: &'static str, total: u64, before: u64) {
        self.end();
        if self.quiet {
            return;
        }
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let template = "{prefix} {bar:30} {percent:>3}%  {human_pos} of {human_len}  {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
            bar.set_prefix(name);
            bar.set_position(before);
            bar
        });
        let now = Instant::now();
        let stage = Stage { name, bar, total, begun: now, before, shown: now };
        *self.stage.lock().expect("nothing panics while holding it") = Some(stage);
    }

    /// So many of the stage's events are done.
    pub(crate) fn reached(&self, done: u64) {
        if let Some(stage) = self.stage.lock().expect("nothing panics while holding it").as_mut() {
            stage.reached(done);
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        let stage = self.stage.lock().expect("nothing panics while holding it").take();
        if let Some(bar) = stage.and_then(|stage| stage.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Stage {
    fn reached(&mut self, done: u64) {
        let now = Instant::now();
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if now.duration_since(self.shown) < every {
            return;
        }
        self.shown = now;
        let elapsed = now.duration_since(self.begun).as_secs_f64().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
        let rate = done.saturating_sub(self.before) as f64 / elapsed;
        #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52")]
        let left = self.total.saturating_sub(done) as f64 / rate.max(1.0);
        let left = HumanDuration(Duration::from_secs_f64(left));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!("{rate:.0} events/s  {left} left"));
            return;
        }
        let (name, done, total) = (self.name, HumanCount(done), HumanCount(self.total));
        // Nobody reading standard error is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "{name}: {done} of {total}, {rate:.0} events/s, about {left} left"
        );
    }
}

//! How far it is: a bar where standard error is a terminal, else a line every few seconds.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the figures of the bar change.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Shows how far an import is and remembers when it passed each tenth of the file.
pub(crate) struct Progress {
    view: View,
    rows: u32,
    started: Instant,
    shown: Instant,
    row: u32,
    commands: u64,
    tenths: Vec<Instant>,
}

enum View {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// For a file of so many rows.
    pub(crate) fn new(rows: u32, quiet: bool) -> Self {
        let view = if quiet {
            View::Nothing
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(u64::from(rows));
            let template = "{bar:30} {percent:>3}%  row {human_pos} of {human_len}  {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
            View::Bar(bar)
        } else {
            View::Lines
        };
        let now = Instant::now();
        Self { view, rows, started: now, shown: now, row: 0, commands: 0, tenths: Vec::new() }
    }

    /// Everything up to `row` is decided, with one command more than at the last call.
    pub(crate) fn reached(&mut self, row: u32) {
        self.commands += 1;
        self.row = self.row.max(row);
        let mut now = None;
        while self.tenths.len() < 10 && self.row >= self.tenth_end(self.tenths.len() + 1) {
            self.tenths.push(*now.get_or_insert_with(Instant::now));
        }
        // A look at the clock costs little, but not nothing.
        if self.commands.is_multiple_of(64) {
            self.show(Instant::now());
        }
    }

    /// Tells the person who watches about something that happened.
    pub(crate) fn note(&self, text: &str) {
        match &self.view {
            View::Nothing => {}
            View::Lines => line(text),
            View::Bar(bar) => bar.println(text),
        }
    }

    /// Ends the display. Returns how long sending took and the rows/s of each tenth of the file
    /// that was passed.
    pub(crate) fn finish(self) -> (Duration, Vec<f64>) {
        if let View::Bar(bar) = &self.view {
            bar.set_position(u64::from(self.row));
            bar.abandon();
        }
        let mut from = self.started;
        let by_tenth = (1..)
            .zip(&self.tenths)
            .map(|(tenth, passed)| {
                let rows = self.tenth_end(tenth) - self.tenth_end(tenth - 1);
                let seconds = passed.duration_since(from).as_secs_f64();
                from = *passed;
                f64::from(rows) / seconds.max(1e-6)
            })
            .collect();
        (self.started.elapsed(), by_tenth)
    }

    fn tenth_end(&self, tenth: usize) -> u32 {
        let rows = u64::from(self.rows) * tenth as u64 / 10;
        u32::try_from(rows).unwrap_or(self.rows)
    }

    fn show(&mut self, now: Instant) {
        let every = match self.view {
            View::Nothing => return,
            View::Lines => LINE_EVERY,
            View::Bar(_) => BAR_EVERY,
        };
        if now.duration_since(self.shown) < every {
            return;
        }
        self.shown = now;
        let elapsed = now.duration_since(self.started).as_secs_f64();
        let rate = per_second(self.commands, elapsed);
        let left = f64::from(self.rows - self.row) * elapsed / f64::from(self.row.max(1));
        let left = HumanDuration(Duration::from_secs_f64(left));
        let (row, rows) = (HumanCount(u64::from(self.row)), HumanCount(u64::from(self.rows)));
        match &self.view {
            View::Nothing => {}
            View::Lines => {
                line(&format!("row {row} of {rows}, {rate:.0} commands/s, about {left} left"));
            }
            View::Bar(bar) => {
                bar.set_position(u64::from(self.row));
                bar.set_message(format!("{rate:.0} commands/s  {left} left"));
            }
        }
    }
}

/// `count` a second; 0 if no time has passed.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people; counts are far below 2^52")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// Nobody reading standard error is no reason to stop.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_are_of_the_file_and_none_is_lost() {
        let mut progress = Progress::new(95, true);
        progress.reached(9);
        assert_eq!(progress.tenths.len(), 1);
        progress.reached(40);
        progress.reached(30);
        assert_eq!(progress.tenths.len(), 4, "rows 9, 19, 28 and 38 are passed");
        progress.reached(95);
        assert_eq!(progress.finish().1.len(), 10);
    }
}

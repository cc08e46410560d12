//! When an event of a replay is due.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How fast events are played.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    Full,
    /// Events a second, and how many there were.
    Rate(f64, u64),
    /// Times the original pace, and when the first event was recorded.
    Times(f64, Option<DateTime<Utc>>),
}

impl Pace {
    /// At most one of both is given.
    pub(super) fn new(rate: Option<f64>, times: Option<f64>) -> Self {
        match (rate, times) {
            (Some(rate), _) => Self::Rate(rate, 0),
            (None, Some(times)) => Self::Times(times, None),
            (None, None) => Self::Full,
        }
    }

    /// When the next event is due, since the start; `None`: at once.
    pub(super) fn due(&mut self, recorded_at: DateTime<Utc>) -> Option<Duration> {
        match self {
            Self::Full => None,
            Self::Rate(rate, before) => {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let due = *before as f64 / *rate;
                *before += 1;
                Duration::try_from_secs_f64(due).ok()
            }
            Self::Times(times, first) => {
                let first = *first.get_or_insert(recorded_at);
                // A clock that went back leaves nothing to wait for.
                let since = (recorded_at - first).to_std().unwrap_or_default();
                Duration::try_from_secs_f64(since.as_secs_f64() / *times).ok()
            }
        }
    }
}

/// A number above 0.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number >= 1e-6 {
        Ok(number)
    } else {
        Err("must be above 0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_000_000 + ms).unwrap()
    }

    #[test]
    fn a_rate_spaces_events_evenly_whenever_they_were_recorded() {
        let mut pace = Pace::new(Some(4.0), None);
        let due = [0, 0, 90].map(|ms| pace.due(at(ms)).unwrap().as_millis());
        assert_eq!(due, [0, 250, 500]);
    }

    #[test]
    fn the_original_pace_is_that_of_recording() {
        let mut pace = Pace::new(None, Some(2.0));
        let due = [0, 500, 400, -7].map(|ms| pace.due(at(ms)).unwrap().as_millis());
        assert_eq!(due, [0, 250, 200, 0]);
        assert_eq!(Pace::new(None, None).due(at(0)), None);
    }

    #[test]
    fn only_a_number_above_0_is_a_pace() {
        assert_eq!(factor("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "inf", "NaN", "x", "1e-9"] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
    }
}

//! When a failed job is tried again.

use std::time::Duration;

/// Exponential backoff with jitter, up to a number of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Longest delay after the first failure, milliseconds; doubles with each failure.
    pub first_ms: u64,
    /// Longest delay ever, milliseconds.
    pub ceiling_ms: u64,
    /// How often a job is tried before it becomes a dead letter, at least 1.
    pub max_attempts: u32,
}

impl Default for RetryPolicy {
    /// A quarter of a second up to two minutes; the last attempt comes after a little over two
    /// hours, well after a payment's deadline: until then an answer may still come by itself.
    fn default() -> Self {
        Self { first_ms: 250, ceiling_ms: 120_000, max_attempts: 100 }
    }
}

impl RetryPolicy {
    /// How long to wait after failed attempt number `attempt` (from 1), or `None` when that was
    /// the last one. `chance` in `[0, 1)` spreads the delay over the upper half of its range, so
    /// that jobs which failed together don't come back together, and none comes back at once.
    pub fn delay(&self, attempt: u32, chance: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(63);
        let longest = self.first_ms.saturating_mul(1 << doublings).min(self.ceiling_ms);
        let half = Duration::from_millis(longest) / 2;
        Some(half + half.mul_f64(chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy { first_ms: 100, ceiling_ms: 5_000, max_attempts: 10 };

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn delays_double_up_to_the_ceiling() {
        let longest: Vec<_> = (1..=8).map(|attempt| POLICY.delay(attempt, 1.0).unwrap()).collect();
        assert_eq!(
            longest,
            [ms(100), ms(200), ms(400), ms(800), ms(1_600), ms(3_200), ms(5_000), ms(5_000)]
        );
    }

    #[test]
    fn jitter_covers_the_upper_half() {
        assert_eq!(POLICY.delay(3, 0.0), Some(ms(200)));
        assert_eq!(POLICY.delay(3, 0.5), Some(ms(300)));
        assert!(POLICY.delay(3, 0.999).unwrap() < Duration::from_millis(400));
    }

    #[test]
    fn the_last_attempt_has_no_next() {
        assert!(POLICY.delay(9, 0.3).is_some());
        assert_eq!(POLICY.delay(10, 0.3), None);
        assert_eq!(POLICY.delay(11, 0.3), None);
    }

    #[test]
    fn a_huge_attempt_number_stays_within_the_ceiling() {
        let policy = RetryPolicy { max_attempts: u32::MAX, ..POLICY };
        assert_eq!(policy.delay(u32::MAX - 1, 1.0), Some(ms(5_000)));
        let policy = RetryPolicy { first_ms: u64::MAX, ceiling_ms: 1_000, max_attempts: u32::MAX };
        assert_eq!(policy.delay(70, 1.0), Some(ms(1_000)));
    }

    #[test]
    fn the_default_outlasts_a_gateway_that_is_down_for_ten_minutes() {
        let policy = RetryPolicy::default();
        let total: Duration =
            (1..policy.max_attempts).filter_map(|attempt| policy.delay(attempt, 0.0)).sum();
        assert!(total > Duration::from_mins(10), "only {total:?}");
    }
}

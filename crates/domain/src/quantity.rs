//! Numbers of units.

use crate::money::MAX_INTEGER;

/// Units of one product, 1 to 2^53 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

impl Quantity {
    /// `None` outside 1 to 2^53 − 1.
    pub fn new(units: i64) -> Option<Self> {
        (1..=MAX_INTEGER).contains(&units).then_some(Self(units))
    }

    /// The number of units.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The sum, `None` beyond 2^53 − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }
}

/// A correction of a number of units, up or down: never 0, magnitude up to 2^53 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Change(i64);

impl Change {
    /// `None` for 0 and beyond a magnitude of 2^53 − 1.
    pub fn new(units: i64) -> Option<Self> {
        (units != 0 && (-MAX_INTEGER..=MAX_INTEGER).contains(&units)).then_some(Self(units))
    }

    /// The signed number of units.
    pub fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_positive_and_exact_in_every_language() {
        assert_eq!(Quantity::new(0), None);
        assert_eq!(Quantity::new(-1), None);
        assert_eq!(Quantity::new(MAX_INTEGER).map(Quantity::get), Some(MAX_INTEGER));
        assert_eq!(Quantity::new(MAX_INTEGER + 1), None);
        let one = Quantity::new(1).unwrap();
        assert_eq!(one.checked_add(Quantity::new(MAX_INTEGER).unwrap()), None);
        assert_eq!(one.checked_add(one).map(Quantity::get), Some(2));
    }

    #[test]
    fn a_change_goes_up_or_down_but_not_nowhere() {
        assert_eq!(Change::new(0), None);
        assert_eq!(Change::new(-80_995).map(Change::get), Some(-80_995));
        assert_eq!(Change::new(-MAX_INTEGER - 1), None);
    }
}

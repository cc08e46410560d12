//! Money: a whole number of minor units and a currency.

use std::fmt;

use crate::quantity::Quantity;

/// Largest integer that every JSON reader keeps exact: 2^53 − 1.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// A number of minor units (pence, cents), 0 to 2^53 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The greatest amount.
    pub const MAX: Self = Self(MAX_INTEGER);

    /// `None` outside 0 to 2^53 − 1.
    pub fn new(minor_units: i64) -> Option<Self> {
        (0..=MAX_INTEGER).contains(&minor_units).then_some(Self(minor_units))
    }

    /// The nearest amount: negative becomes 0, too large the greatest.
    pub fn clamp(minor_units: i64) -> Self {
        Self(minor_units.clamp(0, MAX_INTEGER))
    }

    /// The number of minor units.
    pub fn get(self) -> i64 {
        self.0
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, `None` beyond 2^53 − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }

    /// The difference, `None` below 0.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::new(self.0 - other.0)
    }

    /// The difference, 0 where it would be less.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self::clamp(self.0 - other.0)
    }

    /// This price for each of `quantity` units, `None` beyond 2^53 − 1.
    pub fn checked_mul(self, quantity: Quantity) -> Option<Self> {
        self.0.checked_mul(quantity.get()).and_then(Self::new)
    }

    /// This amount in a currency.
    pub fn of(self, currency: Currency) -> Money {
        Money { amount: self, currency }
    }
}

/// An amount and the currency it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units.
    pub amount: Amount,
    /// Their currency.
    pub currency: Currency,
}

/// A currency of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(u8);

impl Currency {
    /// The currency with this code of three capital letters, `None` if ISO 4217 lists none.
    pub fn from_code(code: &str) -> Option<Self> {
        let index = CURRENCIES.binary_search_by(|(known, _)| (*known).cmp(code)).ok()?;
        u8::try_from(index).ok().map(Self)
    }

    /// Its code, as `GBP`.
    pub fn code(self) -> &'static str {
        CURRENCIES[usize::from(self.0)].0
    }

    /// How many decimal digits its minor unit stands for: 2 for pence, 0 for yen.
    pub fn minor_digits(self) -> u8 {
        CURRENCIES[usize::from(self.0)].1
    }

    /// Codes of all currencies, in order.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        CURRENCIES.iter().map(|(code, _)| *code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// ISO 4217: codes in order, with the digits of the minor unit. Without metals, test codes and
/// units of account that have no minor unit. Codes are never taken out: events may carry them.
#[rustfmt::skip]
static CURRENCIES: [(&str, u8); 166] = [
    ("AED", 2), ("AFN", 2), ("ALL", 2), ("AMD", 2), ("ANG", 2), ("AOA", 2), ("ARS", 2),
    ("AUD", 2), ("AWG", 2), ("AZN", 2), ("BAM", 2), ("BBD", 2), ("BDT", 2), ("BGN", 2),
    ("BHD", 3), ("BIF", 0), ("BMD", 2), ("BND", 2), ("BOB", 2), ("BOV", 2), ("BRL", 2),
    ("BSD", 2), ("BTN", 2), ("BWP", 2), ("BYN", 2), ("BZD", 2), ("CAD", 2), ("CDF", 2),
    ("CHE", 2), ("CHF", 2), ("CHW", 2), ("CLF", 4), ("CLP", 0), ("CNY", 2), ("COP", 2),
    ("COU", 2), ("CRC", 2), ("CUP", 2), ("CVE", 2), ("CZK", 2), ("DJF", 0), ("DKK", 2),
    ("DOP", 2), ("DZD", 2), ("EGP", 2), ("ERN", 2), ("ETB", 2), ("EUR", 2), ("FJD", 2),
    ("FKP", 2), ("GBP", 2), ("GEL", 2), ("GHS", 2), ("GIP", 2), ("GMD", 2), ("GNF", 0),
    ("GTQ", 2), ("GYD", 2), ("HKD", 2), ("HNL", 2), ("HTG", 2), ("HUF", 2), ("IDR", 2),
    ("ILS", 2), ("INR", 2), ("IQD", 3), ("IRR", 2), ("ISK", 0), ("JMD", 2), ("JOD", 3),
    ("JPY", 0), ("KES", 2), ("KGS", 2), ("KHR", 2), ("KMF", 0), ("KPW", 2), ("KRW", 0),
    ("KWD", 3), ("KYD", 2), ("KZT", 2), ("LAK", 2), ("LBP", 2), ("LKR", 2), ("LRD", 2),
    ("LSL", 2), ("LYD", 3), ("MAD", 2), ("MDL", 2), ("MGA", 2), ("MKD", 2), ("MMK", 2),
    ("MNT", 2), ("MOP", 2), ("MRU", 2), ("MUR", 2), ("MVR", 2), ("MWK", 2), ("MXN", 2),
    ("MXV", 2), ("MYR", 2), ("MZN", 2), ("NAD", 2), ("NGN", 2), ("NIO", 2), ("NOK", 2),
    ("NPR", 2), ("NZD", 2), ("OMR", 3), ("PAB", 2), ("PEN", 2), ("PGK", 2), ("PHP", 2),
    ("PKR", 2), ("PLN", 2), ("PYG", 0), ("QAR", 2), ("RON", 2), ("RSD", 2), ("RUB", 2),
    ("RWF", 0), ("SAR", 2), ("SBD", 2), ("SCR", 2), ("SDG", 2), ("SEK", 2), ("SGD", 2),
    ("SHP", 2), ("SLE", 2), ("SOS", 2), ("SRD", 2), ("SSP", 2), ("STN", 2), ("SVC", 2),
    ("SYP", 2), ("SZL", 2), ("THB", 2), ("TJS", 2), ("TMT", 2), ("TND", 3), ("TOP", 2),
    ("TRY", 2), ("TTD", 2), ("TWD", 2), ("TZS", 2), ("UAH", 2), ("UGX", 0), ("USD", 2),
    ("USN", 2), ("UYI", 0), ("UYU", 2), ("UYW", 4), ("UZS", 2), ("VED", 2), ("VES", 2),
    ("VND", 0), ("VUV", 0), ("WST", 2), ("XAF", 0), ("XCD", 2), ("XCG", 2), ("XOF", 0),
    ("XPF", 0), ("YER", 2), ("ZAR", 2), ("ZMW", 2), ("ZWG", 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(minor: i64) -> Amount {
        Amount::new(minor).unwrap()
    }

    #[test]
    fn amounts_stay_between_nothing_and_what_every_json_reader_keeps() {
        assert_eq!(Amount::new(-1), None);
        assert_eq!(Amount::new(MAX_INTEGER + 1), None);
        assert_eq!(Amount::MAX.checked_add(amount(1)), None);
        assert_eq!(amount(1).checked_sub(amount(2)), None);
        assert_eq!(amount(1).saturating_sub(amount(2)), Amount::ZERO);
        assert_eq!(amount(255).checked_mul(Quantity::new(6).unwrap()), Some(amount(1530)));
        assert_eq!(Amount::MAX.checked_mul(Quantity::new(MAX_INTEGER).unwrap()), None);
        assert_eq!(Amount::MAX.checked_mul(Quantity::new(2).unwrap()), None);
    }

    #[test]
    fn currencies_are_those_of_iso_4217() {
        let digits = |code| Currency::from_code(code).map(Currency::minor_digits);
        assert_eq!(digits("GBP"), Some(2));
        assert_eq!(digits("JPY"), Some(0));
        assert_eq!(digits("KWD"), Some(3));
        assert_eq!(digits("gbp"), None);
        assert_eq!(digits("XXX"), None);
        assert_eq!(digits(""), None);
    }

    #[test]
    fn every_code_is_found_by_itself() {
        for code in Currency::codes() {
            assert_eq!(Currency::from_code(code).map(Currency::code), Some(code));
        }
    }
}

//! Values of commands and events as they stand in JSON: checked when they are read.

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_domain as domain;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::cards;

/// Why a value can't stand in a field. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(Cow<'static, str>);

const SKU_RULE: &str = "expected a code of 1 to 64 printable ASCII characters without \" and \\, \
                        not beginning or ending with a space";
const SKU_PATTERN: &str = r"^[!#-\[\]-~]([ !#-\[\]-~]{0,62}[!#-\[\]-~])?$";
const AMOUNT_RULE: &str = "expected whole minor units from 0 to 9007199254740991";
const POSITIVE_RULE: &str = "expected whole minor units from 1 to 9007199254740991";
const QUANTITY_RULE: &str = "expected a whole number from 1 to 9007199254740991";
const CHANGE_RULE: &str = "expected a whole number other than 0, up to 9007199254740991 either way";
const CURRENCY_RULE: &str = "expected a currency code of ISO 4217, as GBP";
const TIME_RULE: &str = "expected a time as 2011-12-09T12:50:00.000000Z";
const TOKEN_RULE: &str = "expected 1 to 255 printable ASCII characters";
const CARD_RULE: &str = "looks like a card number: send the token that the gateway gave for it";

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($domain:ty), $rule:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name($domain);

        impl $name {
            /// Refused outside the range above.
            pub fn new(value: i64) -> Result<Self, Invalid> {
                <$domain>::new(value).map(Self).ok_or(Invalid($rule.into()))
            }

            /// The value that the shop decides on.
            pub fn domain(self) -> $domain {
                self.0
            }

            /// The number.
            pub fn get(self) -> i64 {
                self.0.get()
            }
        }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                Self(value)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.0.get())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = deserializer.deserialize_i64(Integer($rule))?;
                Self::new(value).map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

number! {
    /// Minor units, 0 to 2^53 − 1.
    Amount(domain::Amount), AMOUNT_RULE,
    { "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_i64 }
}
number! {
    /// Units, 1 to 2^53 − 1.
    Quantity(domain::Quantity), QUANTITY_RULE,
    { "type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_i64 }
}
number! {
    /// Units up or down, not 0, up to 2^53 − 1 either way.
    Change(domain::Change), CHANGE_RULE,
    {
        "type": "integer",
        "minimum": -9_007_199_254_740_991_i64,
        "maximum": 9_007_199_254_740_991_i64,
        "not": { "const": 0 }
    }
}

/// Reads an integer that is written as one: `1.0` and `1e3` are none.
struct Integer(&'static str);

impl de::Visitor<'_> for Integer {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_start_matches("expected "))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::custom(self.0))
    }
}

/// Minor units, 1 to 2^53 − 1: money that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PositiveAmount(Amount);

impl PositiveAmount {
    /// Refused outside 1 to 2^53 − 1.
    pub fn new(minor_units: i64) -> Result<Self, Invalid> {
        match Amount::new(minor_units) {
            Ok(amount) if minor_units > 0 => Ok(Self(amount)),
            Ok(_) | Err(_) => Err(Invalid(POSITIVE_RULE.into())),
        }
    }

    /// The value that the shop decides on.
    pub fn domain(self) -> domain::Amount {
        self.0.domain()
    }
}

impl<'de> Deserialize<'de> for PositiveAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_i64(Integer(POSITIVE_RULE))?;
        Self::new(value).map_err(de::Error::custom)
    }
}

impl JsonSchema for PositiveAmount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PositiveAmount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_i64
        })
    }
}

/// Reads a string and makes something of it.
struct Parsed<T, F>(&'static str, F, PhantomData<T>);

impl<T, F: FnOnce(&str) -> Result<T, Invalid>> de::Visitor<'_> for Parsed<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    what: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Parsed(what, parse, PhantomData))
}

/// A product's code. It becomes part of a stream's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sku(domain::Sku);

impl Sku {
    /// Refused unless it keeps to the rules of [`domain::Sku`].
    pub fn new(code: &str) -> Result<Self, Invalid> {
        domain::Sku::new(code).map(Self).ok_or(Invalid(SKU_RULE.into()))
    }

    /// The value that the shop decides on.
    pub fn domain(&self) -> &domain::Sku {
        &self.0
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<domain::Sku> for Sku {
    fn from(sku: domain::Sku) -> Self {
        Self(sku)
    }
}

impl Serialize for Sku {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a product's code", Self::new)
    }
}

impl JsonSchema for Sku {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sku".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SKU_PATTERN })
    }
}

/// A currency of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(domain::Currency);

impl Currency {
    /// Refused unless ISO 4217 lists the code.
    pub fn new(code: &str) -> Result<Self, Invalid> {
        domain::Currency::from_code(code).map(Self).ok_or(Invalid(CURRENCY_RULE.into()))
    }

    /// The value that the shop decides on.
    pub fn domain(self) -> domain::Currency {
        self.0
    }
}

impl From<domain::Currency> for Currency {
    fn from(currency: domain::Currency) -> Self {
        Self(currency)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a currency code of ISO 4217, as GBP", Self::new)
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A currency of ISO 4217.",
            "type": "string",
            "enum": domain::Currency::codes().collect::<Vec<_>>()
        })
    }
}

/// Text of `MIN` to `MAX` characters, without control characters and card numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text<const MIN: usize, const MAX: usize>(Arc<str>);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// Refused when too short or too long, with a control character (so U+0000 too), or with
    /// something that looks like a card number.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let length = text.chars().take(MAX + 1).count();
        if !(MIN..=MAX).contains(&length) {
            return Err(Invalid(format!("expected text of {MIN} to {MAX} characters").into()));
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid("text may not hold control characters".into()));
        }
        if cards::found_in(text) {
            return Err(Invalid(CARD_RULE.into()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The value that the shop decides on.
    pub fn domain(&self) -> domain::Text {
        Arc::clone(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Text<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "text", Self::new)
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Text{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": MIN, "maxLength": MAX })
    }
}

/// What a gateway gave a frontend to charge a card by. Not shown when printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayToken(String);

impl GatewayToken {
    /// Refused unless it is 1 to 255 printable ASCII characters and no card number.
    pub fn new(token: &str) -> Result<Self, Invalid> {
        if token.is_empty() || token.len() > 255 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Invalid(TOKEN_RULE.into()));
        }
        if cards::found_in(token) {
            return Err(Invalid(CARD_RULE.into()));
        }
        Ok(Self(token.to_owned()))
    }

    /// The token; leaves nothing behind.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for GatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayToken(..)")
    }
}

impl Serialize for GatewayToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GatewayToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a gateway's token", Self::new)
    }
}

impl JsonSchema for GatewayToken {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GatewayToken".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What the gateway gave for the card. Never a card number.",
            "type": "string", "pattern": "^[!-~]{1,255}$", "writeOnly": true
        })
    }
}

/// What a gateway had to say: never refused, but cleaned of control characters, cut to 200
/// characters, and replaced when something in it looks like a card number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Said(Arc<str>);

impl Said {
    /// The value that the shop writes down.
    pub fn domain(&self) -> domain::Text {
        Arc::clone(&self.0)
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        if cards::found_in(text) {
            return Self("(held something like a card number)".into());
        }
        let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        Self(clean.into())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// A time in UTC, written with microseconds: `2011-12-09T12:50:00.000000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, "a time as 2011-12-09T12:50:00.000000Z", |text| {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| Invalid(TIME_RULE.into()))?;
            Ok(Self(time.to_utc()))
        })
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

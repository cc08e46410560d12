//! One data row of the UCI Online Retail file, typed, or the reason why it can't be read.

use std::collections::HashMap;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Europe::London;
use daybook_commands::{Country, Invalid, Note, Reference, Sku};

use super::line;

/// The columns, exactly.
pub(crate) const HEADER: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// Greatest number of units in one row.
const MAX_QUANTITY: i64 = 1_000_000_000;
/// Greatest unit price: 10 million pounds, in thousandths.
const MAX_PRICE_MILLS: i64 = 10_000_000_000;

/// A row that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BadRow {
    /// Number of the row, 1 is the first after the header.
    pub(crate) row: u32,
    /// Why, for a person.
    pub(crate) reason: String,
}

/// What an invoice's number says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Series {
    /// Digits only: a sale or a stock adjustment.
    Plain,
    /// C…: a return.
    Credit,
    /// A…: a bad debt.
    BadDebt,
}

/// A price in thousandths of a pound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Price {
    mills: i64,
}

impl Price {
    /// An exact decimal of at most three places, as `2.55` or `-0.001`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("UnitPrice {text:?} is not a decimal number");
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.')
        {
            return Err(wrong());
        }
        if fraction.len() > 3 {
            return Err(format!("UnitPrice {text:?} has more than three decimals"));
        }
        let too_much = || format!("UnitPrice {text:?} is beyond what a price may be");
        let whole: i64 = whole.parse().map_err(|_| too_much())?;
        let fraction: i64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        let mills = whole
            .checked_mul(1000)
            .and_then(|mills| mills.checked_add(fraction))
            .filter(|mills| *mills <= MAX_PRICE_MILLS)
            .ok_or_else(too_much)?;
        Ok(Self { mills: if negative { -mills } else { mills } })
    }

    /// In whole pence, half a penny away from zero; 0.001 is 0.
    pub(crate) fn pence(self) -> i64 {
        (self.mills.abs() + 5) / 10 * self.mills.signum()
    }

    /// Whether pence can express it.
    pub(crate) fn is_whole_pence(self) -> bool {
        self.mills % 10 == 0
    }

    /// Less than 0.
    pub(crate) fn is_negative(self) -> bool {
        self.mills < 0
    }

    /// Exactly 0.
    pub(crate) fn is_zero(self) -> bool {
        self.mills == 0
    }
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.is_negative() { "-" } else { "" };
        let (whole, fraction) = (self.mills.abs() / 1000, self.mills.abs() % 1000);
        if self.is_whole_pence() {
            write!(f, "{sign}{whole}.{:02}", fraction / 10)
        } else {
            write!(f, "{sign}{whole}.{fraction:03}")
        }
    }
}

/// Texts that repeat, kept once: a row holds their numbers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Names {
    /// The number of `text`, a new one at first sight. Numbers go up from 0 in that order.
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).expect("fewer texts than rows, a u32");
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The text of a number that [`Self::number`] gave out.
    pub(crate) fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// The texts of a file's columns.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    /// InvoiceNo.
    pub(crate) invoices: Names,
    /// StockCode, as written.
    pub(crate) codes: Names,
    /// Description, as written.
    pub(crate) descriptions: Names,
    /// CustomerID without its `.0`.
    pub(crate) customers: Names,
    /// Country.
    pub(crate) countries: Names,
}

impl Dictionary {
    /// Whether texts, where they are new, are such as commands may hold.
    fn check(
        &self,
        invoice: &str,
        code: &str,
        description: &str,
        country: &str,
    ) -> Result<(), String> {
        fn new<T>(
            names: &Names,
            column: &str,
            text: &str,
            check: impl FnOnce(&str) -> Result<T, Invalid>,
        ) -> Result<(), String> {
            if names.numbers.contains_key(text) {
                return Ok(());
            }
            check(text).map(drop).map_err(|error| format!("{column} {text:?}: {error}"))
        }
        new(&self.invoices, "InvoiceNo", invoice, Reference::new)?;
        new(&self.codes, "StockCode", code, Sku::new)?;
        new(&self.descriptions, "Description", description, Note::new)?;
        new(&self.countries, "Country", country, Country::new)
    }
}

/// A row that can be read. The numbers are those of [`Dictionary`].
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Number of the row, 1 is the first after the header.
    pub(crate) number: u32,
    /// What the invoice's number says.
    pub(crate) series: Series,
    /// Its invoice.
    pub(crate) invoice: u32,
    /// Its product.
    pub(crate) code: u32,
    /// Its description, `None` if blank.
    pub(crate) description: Option<u32>,
    /// Units; never 0, negative only where the series allows it.
    pub(crate) quantity: i64,
    /// When.
    pub(crate) at: DateTime<Utc>,
    /// Price of a unit.
    pub(crate) price: Price,
    /// Its customer; `None` for a guest.
    pub(crate) customer: Option<u32>,
    /// Its country.
    pub(crate) country: u32,
}

impl Row {
    /// Reads a line without its line break.
    pub(crate) fn parse(number: u32, line: &[u8], names: &mut Dictionary) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|error| {
            format!("wrong encoding: not UTF-8 at byte {}", error.valid_up_to() + 1)
        })?;
        let fields = line::split(line).map_err(|bad| bad.reason().to_owned())?;
        let [invoice, code, description, quantity, date, price, customer, country] =
            fields.as_slice()
        else {
            return Err(format!("{} columns instead of {}", fields.len(), HEADER.len()));
        };
        for (column, field) in HEADER.iter().zip(&fields) {
            if field.chars().any(char::is_control) {
                return Err(format!("{column} has a control character"));
            }
            if field.is_empty() && !matches!(*column, "Description" | "CustomerID") {
                return Err(format!("{column} is empty"));
            }
        }
        names.check(invoice, code, description, country)?;
        let series = series(invoice)?;
        let quantity = parse_quantity(quantity)?;
        let price = Price::parse(price)?;
        match series {
            Series::Plain if price.is_negative() => {
                return Err(format!("UnitPrice {price} of a sale is negative"));
            }
            Series::Credit if price.is_negative() => {
                return Err(format!("UnitPrice {price} of a return is negative"));
            }
            Series::Credit if quantity > 0 => {
                return Err(format!("Quantity {quantity} of a return is not negative"));
            }
            Series::Plain | Series::Credit | Series::BadDebt => {}
        }
        let customer = parse_customer(customer)?;
        if series == Series::Plain && quantity < 0 && !(price.is_zero() && customer.is_none()) {
            return Err(format!("Quantity {quantity} of a sale is negative"));
        }
        let at = parse_time(date)?;
        Ok(Self {
            number,
            series,
            invoice: names.invoices.number(invoice),
            code: names.codes.number(code),
            description: (!description.trim().is_empty())
                .then(|| names.descriptions.number(description)),
            quantity,
            at,
            price,
            customer: customer.map(|customer| names.customers.number(customer)),
            country: names.countries.number(country),
        })
    }
}

fn series(invoice: &str) -> Result<Series, String> {
    let (series, digits) = match invoice.as_bytes() {
        [b'C', ..] => (Series::Credit, &invoice[1..]),
        [b'A', ..] => (Series::BadDebt, &invoice[1..]),
        _ => (Series::Plain, invoice),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("InvoiceNo {invoice:?} is not digits, with C or A before them or not"));
    }
    Ok(series)
}

fn parse_quantity(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Quantity {text:?} is not a whole number"));
    }
    match text.parse() {
        Ok(0) => Err("Quantity is 0".to_owned()),
        Ok(quantity) if (-MAX_QUANTITY..=MAX_QUANTITY).contains(&quantity) => Ok(quantity),
        Ok(_) | Err(_) => Err(format!("Quantity {text} is beyond {MAX_QUANTITY}")),
    }
}

fn parse_customer(text: &str) -> Result<Option<&str>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_suffix(".0").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("CustomerID {text:?} is not a number"));
    }
    Ok(Some(digits))
}

/// UK local time. In the hour that autumn has twice, its first.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
        .map_err(|_| format!("InvoiceDate {text:?} is not a time as 2010-12-01 08:26:00"))?;
    match London.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Ok(at.with_timezone(&Utc)),
        LocalResult::None => {
            Err(format!("InvoiceDate {text} does not exist in the UK (clocks went forward)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Row, String> {
        Row::parse(1, line.as_bytes(), &mut Dictionary::default())
    }

    #[test]
    fn a_price_is_exact() {
        let pence = |text: &str| Price::parse(text).map(Price::pence);
        assert_eq!(pence("2.55"), Ok(255));
        assert_eq!(pence("8.5"), Ok(850));
        assert_eq!(pence("7"), Ok(700));
        assert_eq!(pence("0.29"), Ok(29), "a float would say 28.999…");
        assert_eq!(pence("-11062.06"), Ok(-1_106_206));
        assert_eq!(pence("0.001"), Ok(0));
        assert_eq!(pence("0.005"), Ok(1));
        assert!(!Price::parse("0.001").unwrap().is_whole_pence());
        assert_eq!(Price::parse("0.001").unwrap().to_string(), "0.001");
        assert_eq!(Price::parse("-8.5").unwrap().to_string(), "-8.50");
        for wrong in ["", "-", ".5", "5.", "1,5", "1e3", "+1", "0.0001", "nan", "99999999999"] {
            assert!(pence(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_is_typed() {
        let mut names = Dictionary::default();
        let row = Row::parse(
            7,
            br#"536365,85123A,"A ""B"", C",6,2011-07-01 08:26:00,2.55,17850.0,United Kingdom"#,
            &mut names,
        )
        .unwrap();
        assert_eq!(row.number, 7);
        assert_eq!(names.descriptions.text(row.description.unwrap()), r#"A "B", C"#);
        assert_eq!(names.customers.text(row.customer.unwrap()), "17850");
        assert_eq!(row.at.to_rfc3339(), "2011-07-01T07:26:00+00:00", "summer time");
        assert_eq!(row.price.pence(), 255);
    }

    #[test]
    fn times_are_of_the_united_kingdom() {
        let utc = |text| parse_time(text).map(|at| at.format("%H:%M").to_string());
        assert_eq!(utc("2010-12-01 08:26:00"), Ok("08:26".into()));
        assert_eq!(utc("2011-10-30 01:30:00"), Ok("00:30".into()), "the first of two");
        assert!(utc("2011-03-27 01:30:00").unwrap_err().contains("does not exist"));
        assert!(utc("2011-02-29 10:00:00").is_err());
        assert!(utc("01/12/2010 08:26").is_err());
    }

    #[test]
    fn bad_rows_are_named() {
        for (line, reason) in [
            ("1,A,x,6,2010-12-01 08:26:00,2.55,1.0", "7 columns instead of 8"),
            ("1,A,x,6,2010-12-01 08:26:00,2.55,1.0,UK,", "9 columns instead of 8"),
            ("", "1 columns instead of 8"),
            (",A,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "InvoiceNo is empty"),
            ("1,,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "StockCode is empty"),
            ("1,A,x,6,2010-12-01 08:26:00,2.55,1.0,", "Country is empty"),
            ("1,A,x,six,2010-12-01 08:26:00,2.55,1.0,UK", "Quantity \"six\" is not"),
            ("1,A,x,6.5,2010-12-01 08:26:00,2.55,1.0,UK", "Quantity \"6.5\" is not"),
            ("1,A,x,0,2010-12-01 08:26:00,2.55,1.0,UK", "Quantity is 0"),
            ("1,A,x,99999999999999999999,2010-12-01 08:26:00,1,,UK", "is beyond"),
            ("1,A,x,-6,2010-12-01 08:26:00,2.55,1.0,UK", "of a sale is negative"),
            ("1,A,x,-6,2010-12-01 08:26:00,0,1.0,UK", "of a sale is negative"),
            ("1,A,x,6,2010-12-01 08:26:00,-2.55,1.0,UK", "of a sale is negative"),
            ("C1,A,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "of a return is not negative"),
            ("1,A,x,6,2010-12-01 08:26:00,2.5555,1.0,UK", "more than three decimals"),
            ("1,A,x,6,yesterday,2.55,1.0,UK", "InvoiceDate \"yesterday\""),
            ("1,A,x,6,2010-12-01 08:26:00,2.55,abc,UK", "CustomerID \"abc\""),
            ("X1,A,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "InvoiceNo \"X1\""),
            ("1,A,\"x,6,2010-12-01 08:26:00,2.55,1.0,UK", "broken quote"),
            ("1,A ,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "StockCode \"A \": expected a code"),
            ("1,£,x,6,2010-12-01 08:26:00,2.55,1.0,UK", "StockCode \"£\": expected a code"),
            ("1,A,4242 4242 4242 4242,6,2010-12-01 08:26:00,2.55,1.0,UK", "a card number"),
            ("1,A,x\0,6,2010-12-01 08:26:00,2.55,1.0,UK", "control character"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        let latin1 = b"1,A,\xa3,6,2010-12-01 08:26:00,2.55,1.0,UK";
        let error = Row::parse(1, latin1, &mut Dictionary::default()).unwrap_err();
        assert_eq!(error, "wrong encoding: not UTF-8 at byte 5");
    }

    #[test]
    fn negative_quantities_where_they_belong() {
        assert_eq!(parse("1,A,,-6,2010-12-01 08:26:00,0,,UK").unwrap().quantity, -6);
        assert_eq!(parse("C1,A,x,-6,2010-12-01 08:26:00,1,5.0,UK").unwrap().series, Series::Credit);
        assert!(parse("A1,B,x,1,2010-12-01 08:26:00,-1,,UK").unwrap().price.is_negative());
    }
}

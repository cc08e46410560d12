//! Formats of a list: which one a request gets, and how rows become it.

use std::fmt::{self, Write as _};

use daybook_projection::{AnswerShape, Format};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use warp::http::{HeaderMap, header};

use crate::problem::Failure;

/// Ranges of an `Accept` header that are looked at.
const MAX_RANGES: usize = 50;
/// What a text in a CSV cell must not begin with as it is: spreadsheets take it for a formula
/// (OWASP, CSV Injection), the wide forms included. The apostrophe is here so that what was put
/// in front can be taken off again.
const FORMULA: [char; 12] =
    ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '\''];

/// Name of a format with the parameters it is sent with.
pub(crate) fn media_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv; charset=utf-8; header=present",
    }
}

/// Name of a format without parameters.
pub(crate) fn bare(format: Format) -> &'static str {
    media_type(format).split(';').next().unwrap_or_default()
}

/// The format that a request prefers of those offered.
pub(crate) fn choose(headers: &HeaderMap, offered: &[Format]) -> Result<Format, Failure> {
    let types: Vec<&'static str> = offered.iter().map(|format| media_type(*format)).collect();
    preferred(headers, &types).map(|place| offered[place])
}

/// Whether a request accepts an answer that has only this media type.
pub(crate) fn check(headers: &HeaderMap, media_type: &'static str) -> Result<(), Failure> {
    preferred(headers, &[media_type]).map(|_place| ())
}

/// Place of the media type that a request prefers of those offered (RFC 9110 §12.5.1): the highest
/// quality, then what is named most exactly, then what is offered first.
fn preferred(headers: &HeaderMap, offered: &[&'static str]) -> Result<usize, Failure> {
    let ranges: Vec<Range> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::read)
        .take(MAX_RANGES)
        .collect();
    let accept = headers.get_all(header::ACCEPT);
    if accept.iter().all(|value| value.as_bytes().trim_ascii().is_empty()) {
        return Ok(0);
    }
    // The last of equals counts, so the offered ones are looked at from the end.
    let wanted = offered.iter().enumerate().rev().filter_map(|(place, media_type)| {
        let named =
            ranges.iter().filter_map(|range| Some((range.matches(media_type)?, range.quality)));
        let (exactness, quality) = named.max_by_key(|(exactness, _)| *exactness)?;
        (quality > 0).then_some((quality, exactness, place))
    });
    let wanted = wanted.max_by_key(|(quality, exactness, _)| (*quality, *exactness));
    let Some((_, _, place)) = wanted else {
        let offered = offered.iter().map(|t| t.split(';').next().unwrap_or_default()).collect();
        return Err(Failure::NotAcceptable { offered });
    };
    Ok(place)
}

/// One media range of an `Accept` header.
struct Range {
    name: String,
    parameters: Vec<(String, String)>,
    /// In thousandths.
    quality: u16,
}

impl Range {
    /// `None` for what is no media range: it asks for nothing.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let (kind, _) = name.split_once('/')?;
        if kind.is_empty() {
            return None;
        }
        let (mut parameters, mut quality) = (Vec::new(), 1_000);
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            if name == "q" {
                quality = thousandths(&value)?;
            } else {
                parameters.push((name, value));
            }
        }
        Some(Self { name, parameters, quality })
    }

    /// How exactly it names a media type; `None` if it doesn't.
    fn matches(&self, media_type: &str) -> Option<usize> {
        let mut parts = media_type.split(';').map(str::trim);
        let name = parts.next()?;
        let exactness = match self.name.split_once('/')? {
            ("*", "*") => 0,
            (kind, "*") if name.split('/').next() == Some(kind) => 1,
            _ if self.name == name => 2 + self.parameters.len(),
            _ => return None,
        };
        let sent: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let all = self
            .parameters
            .iter()
            .all(|(name, value)| sent.contains(&(name.as_str(), value.as_str())));
        all.then_some(exactness)
    }
}

/// `0.5` as 500; `None` for what is no quality.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    if places.len() > 3 || !places.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let quality = format!("{whole}{places:0<3}").parse().ok()?;
    (quality <= 1_000).then_some(quality)
}

/// Rows, a JSON array of objects, as one object a line.
pub(crate) fn ndjson(items: &str) -> Result<String, Failure> {
    let rows: Vec<&RawValue> = serde_json::from_str(items).map_err(|error| damaged(&error))?;
    let mut text = String::with_capacity(items.len() + rows.len());
    for row in rows {
        text.push_str(&one_line(row.get()));
        text.push('\n');
    }
    Ok(text)
}

/// The same JSON without line breaks: inside a string there can be none.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

/// Rows, a JSON array of objects, as CSV (RFC 4180): a header, a record a row, cells in the order
/// of `columns`. Null and the empty text are both an empty cell, objects and arrays are JSON. A
/// text that a spreadsheet would take for a formula gets an apostrophe in front, and so does one
/// that begins with an apostrophe.
pub(crate) fn csv(items: &str, columns: &[String]) -> Result<String, Failure> {
    let rows: Vec<Row<'_>> = serde_json::from_str(items).map_err(|error| damaged(&error))?;
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::with_capacity(items.len()));
    let unwritten = |error: csv::Error| Failure::Internal(format!("CSV: {error}"));
    writer.write_record(columns).map_err(unwritten)?;
    for Row(members) in rows {
        let cells = members.iter().map(|(_, value)| cell(value)).collect::<Result<Vec<_>, _>>()?;
        writer.write_record(&cells).map_err(unwritten)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::Internal(format!("CSV: {error}")))?;
    String::from_utf8(bytes).map_err(|error| Failure::Internal(format!("CSV: {error}")))
}

fn cell(value: &RawValue) -> Result<String, Failure> {
    let raw = value.get();
    if raw == "null" {
        return Ok(String::new());
    }
    if !raw.starts_with('"') {
        return Ok(one_line(raw));
    }
    let text: String = serde_json::from_str(raw).map_err(|error| damaged(&error))?;
    if text.starts_with(FORMULA) {
        return Ok(format!("'{text}"));
    }
    Ok(text)
}

fn damaged(error: &serde_json::Error) -> Failure {
    Failure::Internal(format!("PostgreSQL's JSON can't be read: {error}"))
}

/// The same answer, with these members of its rows, which are positions, as texts that `show` makes.
pub(crate) fn with_positions(
    json: &str,
    shape: AnswerShape,
    columns: &[String],
    show: impl Fn(i64) -> String,
) -> Result<String, Failure> {
    let rows: Vec<Row<'_>> = match shape {
        AnswerShape::One => vec![serde_json::from_str(json).map_err(|error| damaged(&error))?],
        AnswerShape::List => serde_json::from_str(json).map_err(|error| damaged(&error))?,
    };
    let mut texts = Vec::with_capacity(rows.len());
    for Row(members) in rows {
        let mut text = String::from("{");
        for (name, value) in members {
            let comma = if text.len() > 1 { "," } else { "" };
            let name_json = serde_json::Value::from(name.as_str());
            let position = value.get().parse().ok().filter(|_| columns.contains(&name));
            match position {
                Some(position) => {
                    let shown = serde_json::Value::from(show(position));
                    write!(text, "{comma}{name_json}:{shown}")
                }
                None => write!(text, "{comma}{name_json}:{value}"),
            }
            .expect("writing to a string can't fail");
        }
        text.push('}');
        texts.push(text);
    }
    Ok(match shape {
        AnswerShape::One => texts.concat(),
        AnswerShape::List => format!("[{}]", texts.join(",")),
    })
}

/// Names and values of an object in their order, which a map would not keep.
struct Row<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Row(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

    #[test]
    fn positions_of_rows_become_texts_and_nothing_else_changes() {
        let show = |position: i64| format!("<{position}>");
        let columns = ["change".to_owned(), "since".to_owned()];
        let with = |json: &str, shape| with_positions(json, shape, &columns, show).unwrap();
        assert_eq!(
            with(r#"{"a\"": 1.50, "change": 7, "x": {"change": 8}, "n": "7"}"#, AnswerShape::One),
            r#"{"a\"":1.50,"change":"<7>","x":{"change": 8},"n":"7"}"#
        );
        assert_eq!(
            with(r#"[{"change": 7, "since": null}, {"since": 9}]"#, AnswerShape::List),
            r#"[{"change":"<7>","since":null},{"since":"<9>"}]"#
        );
        assert_eq!(with("[]", AnswerShape::List), "[]");
    }

    fn chosen(accept: &str, offered: &[Format]) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        match choose(&headers, offered) {
            Ok(format) => Some(format),
            Err(Failure::NotAcceptable { offered: named }) => {
                assert_eq!(named.len(), offered.len());
                None
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_format_is_what_the_client_likes_best_and_json_where_it_does_not_care() {
        assert_eq!(choose(&HeaderMap::new(), &ALL).unwrap(), Format::Json);
        for (accept, format) in [
            ("*/*", Format::Json),
            (" ", Format::Json),
            ("text/html, application/xhtml+xml, */*;q=0.8", Format::Json),
            ("application/*", Format::Json),
            ("text/csv", Format::Csv),
            ("TEXT/CSV; Header=present", Format::Csv),
            ("text/*", Format::Csv),
            ("text/csv, */*", Format::Csv),
            ("text/csv;q=0.5, application/json;q=0.4", Format::Csv),
            ("text/csv;q=0.5, application/json", Format::Json),
            ("application/x-ndjson, application/json", Format::Json),
            ("application/x-ndjson;q=1.000, application/json;q=0.999", Format::Ndjson),
            ("*/*, application/json;q=0", Format::Ndjson),
            ("nonsense, text/csv", Format::Csv),
        ] {
            assert_eq!(chosen(accept, &ALL), Some(format), "{accept}");
        }
        for accept in [
            "text/html",
            "text/csv;q=0",
            "text/csv;q=2",
            "text/csv;header=absent",
            "*/*;q=0",
            "csv",
        ] {
            assert_eq!(chosen(accept, &ALL), None, "{accept}");
        }
        assert_eq!(chosen("text/csv", &[Format::Json]), None);
    }

    #[test]
    fn rows_become_lines() {
        let items = "[{\"a\":1,\"b\":\"x\\ny\"}, \n {\"a\":\n2}]";
        assert_eq!(ndjson(items).unwrap(), "{\"a\":1,\"b\":\"x\\ny\"}\n{\"a\": 2}\n");
        assert_eq!(ndjson("[]").unwrap(), "");
    }

    fn csv_of(items: &str, columns: &[&str]) -> String {
        csv(items, &columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn rows_become_records_in_the_order_of_their_columns_and_are_read_back() {
        let items = r#"[{"z": 1, "a": "x, \"y\"\r\nz", "n": null, "j": [1, {"b": "c"}]},
                        {"z": -2.50, "a": "", "n": true, "j": {}}]"#;
        let text = csv_of(items, &["z", "a", "n", "j"]);
        assert_eq!(
            text,
            "z,a,n,j\r\n1,\"x, \"\"y\"\"\r\nz\",,\"[1, {\"\"b\"\": \"\"c\"\"}]\"\r\n-2.50,,true,{}\r\n"
        );
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let read: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(&read[0][1], "x, \"y\"\r\nz");
        assert_eq!(csv_of("[]", &["z", "a"]), "z,a\r\n");
    }

    #[test]
    fn no_text_is_a_formula_and_every_text_can_be_had_back() {
        let texts = [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "\u{ff1d}1",
            "'",
            "'=1",
            "x=1",
            "1-1",
            "",
        ];
        let items = serde_json::json!(texts.map(|t| serde_json::json!({"t": t, "n": -1})));
        let text = csv_of(&items.to_string(), &["n", "t"]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for (record, original) in reader.records().zip(texts) {
            let record = record.unwrap();
            // `json!` sorts names: n is first
            assert_eq!(&record[0], "-1", "numbers are numbers");
            let cell = &record[1];
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}']),
                "{cell}"
            );
            assert_eq!(cell.strip_prefix('\'').unwrap_or(cell), original);
        }
    }
}

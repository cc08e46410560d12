//! What is read from a request beside its body: headers, path and query.

use std::{collections::HashMap, time::Duration};

use daybook_commands::BadCommand;
use warp::http::{HeaderMap, HeaderName, header};

use crate::{
    positions::{Positions, Sought},
    problem::{Failure, Part},
};

/// Header that makes a command take effect once.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header with the position that an answer must at least have.
pub(crate) const MIN_POSITION: &str = "daybook-min-position";
/// Header with the position that an answer has.
pub(crate) const POSITION: &str = "daybook-position";
/// Header of an answer that was remembered.
pub(crate) const REPLAYED: &str = "idempotency-replayed";
/// Header with the id of a request, the correlation id of its events.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// Longest idempotency key, characters.
const MAX_KEY: usize = 255;
/// Deepest nesting of a JSON body. The deepest command has three levels.
const MAX_DEPTH: usize = 16;

/// What a client prefers (RFC 7240).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// How long it would wait.
    pub(crate) wait: Option<Duration>,
    /// Whether an older answer is better than none.
    pub(crate) lenient: bool,
}

/// The one value of a header as text; `None` where it is missing.
fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(name, "The header stands more than once."));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value.trim())),
        Err(_) => Err(invalid(name, "The header is not visible ASCII.")),
    }
}

fn invalid(name: &str, detail: &str) -> Failure {
    Failure::Invalid { part: Part::Header, field: shown(name), detail: detail.to_owned() }
}

/// `idempotency-key` as `Idempotency-Key`.
fn shown(name: &str) -> String {
    let words: Vec<String> = name
        .split('-')
        .map(|word| {
            let mut word = word.to_owned();
            if let Some(first) = word.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            word
        })
        .collect();
    words.join("-")
}

/// The text after `Authorization: Bearer`; `None` without one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The idempotency key: required, 1 to 255 visible ASCII characters.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Failure> {
    match text(headers, IDEMPOTENCY_KEY)? {
        None => Err(Failure::Missing { part: Part::Header, field: shown(IDEMPOTENCY_KEY) }),
        Some(key) if valid_key(key) => Ok(key.to_owned()),
        Some(_) => Err(invalid(
            IDEMPOTENCY_KEY,
            "An Idempotency-Key has 1 to 255 visible ASCII characters.",
        )),
    }
}

/// Whether this can be an idempotency key.
pub(crate) fn valid_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// Version that the client insists on: `If-Match: "<version>"`, or `If-None-Match: *` for 0.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<i32>, Failure> {
    let none_match = match text(headers, "if-none-match")? {
        None => None,
        Some("*") => Some(0),
        Some(_) => return Err(invalid("if-none-match", "Only If-None-Match: * is understood.")),
    };
    let Some(value) = text(headers, "if-match")? else { return Ok(none_match) };
    if none_match.is_some() {
        return Err(invalid("if-match", "If-Match and If-None-Match exclude each other."));
    }
    let version = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    match version {
        Some(version) => Ok(Some(version)),
        None => Err(invalid("if-match", "If-Match must be one version in quotes, as \"3\".")),
    }
}

/// Whether `If-None-Match` of a query names this ETag (weak comparison, RFC 9110 §13.1.2).
pub(crate) fn etag_matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Position that an answer must at least have.
pub(crate) fn min_position(
    headers: &HeaderMap,
    positions: &Positions,
) -> Result<Option<Sought>, Failure> {
    let Some(token) = text(headers, MIN_POSITION)? else { return Ok(None) };
    let sought = positions.read(token);
    sought
        .map(Some)
        .ok_or_else(|| invalid(MIN_POSITION, "This is no position that an answer carried."))
}

/// Position of the last event that a client of a stream has seen. What is none counts as none: a
/// client sends back whatever it was given.
pub(crate) fn last_event_id(headers: &HeaderMap, positions: &Positions) -> Option<i64> {
    match positions.read(headers.get("last-event-id")?.to_str().ok()?.trim())? {
        Sought::Position(position) => Some(position),
        Sought::Elsewhere => None,
    }
}

/// `Prefer: wait=<s>, handling=lenient`. Other preferences are ignored, as the standard has it.
/// `wait` is cut to `max_wait`.
pub(crate) fn prefer(headers: &HeaderMap, max_wait: Duration) -> Result<Prefer, Failure> {
    let mut prefer = Prefer::default();
    for value in headers.get_all("prefer") {
        let Ok(value) = value.to_str() else {
            return Err(invalid("prefer", "The header is not visible ASCII."));
        };
        for preference in value.split(',') {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" => {
                    let Ok(seconds) = value.parse() else {
                        return Err(invalid("prefer", "wait must be a whole number of seconds."));
                    };
                    // The first of a repeated preference counts.
                    prefer.wait = prefer.wait.or(Some(Duration::from_secs(seconds).min(max_wait)));
                }
                "handling" => prefer.lenient |= value == "lenient",
                _ => {}
            }
        }
    }
    Ok(prefer)
}

/// The W3C trace context, where it is well formed; a broken one is ignored, as the standard says.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?.trim();
    let mut parts = value.split('-');
    let hex = |part: Option<&str>, length: usize| {
        part.is_some_and(|part| {
            part.len() == length
                && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    };
    let well_formed = hex(parts.next(), 2)
        && hex(parts.next(), 32)
        && hex(parts.next(), 16)
        && hex(parts.next(), 2)
        && parts.next().is_none();
    well_formed.then(|| value.to_owned())
}

/// Whether the body is declared as plain JSON.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity") {
        return Err(Failure::MediaType);
    }
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(declared) = declared else { return Err(Failure::MediaType) };
    let mut parts = declared.split(';');
    let json = parts.next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.trim().split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    });
    if json && utf8 { Ok(()) } else { Err(Failure::MediaType) }
}

/// Refuses bodies nested deeper than any command, before they are parsed.
pub(crate) fn check_depth(body: &[u8]) -> Result<(), Failure> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
        if depth > MAX_DEPTH {
            return Err(Failure::Command(BadCommand {
                code: "invalid-command",
                field: None,
                detail: format!("The body is nested deeper than {MAX_DEPTH} levels."),
            }));
        }
    }
    Ok(())
}

/// Parameters of a query string, each at most once.
pub(crate) fn query(raw: &str) -> Result<HashMap<String, String>, Failure> {
    let mut parameters = HashMap::new();
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        if parameters.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(Failure::Invalid {
                part: Part::Query,
                field: name.into_owned(),
                detail: "The parameter stands more than once.".to_owned(),
            });
        }
    }
    Ok(parameters)
}

/// Takes an optional number within bounds out of the parameters.
pub(crate) fn number<T>(
    parameters: &mut HashMap<String, String>,
    name: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<Option<T>, Failure>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Some(value) = parameters.remove(name) else { return Ok(None) };
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        Ok(_) | Err(_) => Err(Failure::Invalid {
            part: Part::Query,
            field: name.to_owned(),
            detail: format!("{name} is a whole number from {} to {}.", range.start(), range.end()),
        }),
    }
}

/// Refuses parameters that nobody has taken.
pub(crate) fn none_left(parameters: &HashMap<String, String>) -> Result<(), Failure> {
    match parameters.keys().min() {
        None => Ok(()),
        Some(name) => Err(Failure::Invalid {
            part: Part::Query,
            field: name.clone(),
            detail: "There is no such parameter here.".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    fn field(failure: Failure) -> String {
        match failure {
            Failure::Missing { field, .. } | Failure::Invalid { field, .. } => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_idempotency_key_is_required_and_visible_ascii() {
        let key = |value: &str| idempotency_key(&headers(&[("idempotency-key", value)]));
        assert_eq!(key("a").unwrap(), "a");
        assert_eq!(key(&"k".repeat(255)).unwrap().len(), 255);
        assert!(matches!(
            idempotency_key(&HeaderMap::new()),
            Err(Failure::Missing { part: Part::Header, field }) if field == "Idempotency-Key"
        ));
        for wrong in ["", &"k".repeat(256), "a b", "ä"] {
            assert_eq!(field(key(wrong).unwrap_err()), "Idempotency-Key", "{wrong:?}");
        }
        let twice = headers(&[("idempotency-key", "a"), ("idempotency-key", "b")]);
        assert_eq!(field(idempotency_key(&twice).unwrap_err()), "Idempotency-Key");
    }

    #[test]
    fn if_match_is_one_version_in_quotes_and_a_star_that_must_not_match_is_version_0() {
        let read = |name, value: &str| if_match(&headers(&[(name, value)]));
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read("if-match", "\"3\"").unwrap(), Some(3));
        assert_eq!(read("if-none-match", "*").unwrap(), Some(0));
        for wrong in
            ["3", "\"\"", "\"-1\"", "\"+1\"", "*", "W/\"3\"", "\"1\", \"2\"", "\"99999999999\""]
        {
            assert_eq!(field(read("if-match", wrong).unwrap_err()), "If-Match", "{wrong}");
        }
        assert_eq!(field(read("if-none-match", "\"1\"").unwrap_err()), "If-None-Match");
        assert!(if_match(&headers(&[("if-match", "\"1\""), ("if-none-match", "*")])).is_err());
    }

    #[test]
    fn preferences_are_read_in_all_their_spellings_and_wait_is_bounded() {
        let read = |value: &str| prefer(&headers(&[("prefer", value)]), Duration::from_secs(30));
        let wait = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(read("wait=5").unwrap(), Prefer { wait: wait(5), lenient: false });
        assert_eq!(
            read("respond-async, Wait = 7; foo, handling=lenient").unwrap(),
            Prefer { wait: wait(7), lenient: true }
        );
        assert_eq!(read("wait=100").unwrap().wait, wait(30));
        assert_eq!(read("wait=1, wait=2").unwrap().wait, wait(1));
        assert_eq!(read("handling=strict").unwrap(), Prefer::default());
        for wrong in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=soon"] {
            assert_eq!(field(read(wrong).unwrap_err()), "Prefer", "{wrong}");
        }
    }

    #[test]
    fn a_bearer_key_is_found_whatever_the_case_of_the_scheme() {
        let read = |value: &str| bearer(&headers(&[("authorization", value)])).map(str::to_owned);
        assert_eq!(read("Bearer k"), Some("k".to_owned()));
        assert_eq!(read("bearer  k"), Some("k".to_owned()));
        assert_eq!(read("Basic k"), None);
        assert_eq!(read("Bearer"), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn only_json_in_utf_8_is_a_body() {
        let read = |value: &str| check_json(&headers(&[("content-type", value)])).is_ok();
        assert!(read("application/json"));
        assert!(read("Application/JSON; charset=\"UTF-8\""));
        assert!(!read("application/json; charset=latin1"));
        assert!(!read("text/json"));
        assert!(!read("application/x-www-form-urlencoded"));
        assert!(check_json(&HeaderMap::new()).is_err());
        let packed = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert!(check_json(&packed).is_err());
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        assert!(check_depth(&[b'['; MAX_DEPTH]).is_ok());
        assert!(check_depth(&[b'['; MAX_DEPTH + 1]).is_err());
        let brackets = format!(r#"{{"a": "{}\"["}}"#, "[".repeat(100));
        assert!(check_depth(brackets.as_bytes()).is_ok());
        assert!(check_depth("[]".repeat(100).as_bytes()).is_ok());
        assert!(check_depth(b"\"\\").is_ok());
    }

    #[test]
    fn an_etag_matches_weakly_and_in_a_list() {
        let read = |value: &str| etag_matches(&headers(&[("if-none-match", value)]), "\"a\"");
        assert!(read("\"a\"") && read("W/\"a\"") && read("\"b\", \"a\"") && read("*"));
        assert!(!read("\"b\"") && !read("a"));
        assert!(!etag_matches(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn a_trace_context_is_passed_on_only_if_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers(&[("traceparent", good)])).as_deref(), Some(good));
        for wrong in ["", "00-4bf9-00f0-01", &good.to_uppercase(), &format!("{good}-x")] {
            assert_eq!(traceparent(&headers(&[("traceparent", wrong)])), None, "{wrong}");
        }
    }

    #[test]
    fn a_parameter_that_is_repeated_unknown_or_out_of_bounds_is_named() {
        assert_eq!(field(query("a=1&b=2&a=3").unwrap_err()), "a");
        let mut parameters = query("limit=10&stream_prefix=order-%20x&y=1").unwrap();
        assert_eq!(parameters["stream_prefix"], "order- x");
        assert_eq!(number(&mut parameters, "limit", 1..=10).unwrap(), Some(10));
        assert_eq!(number(&mut parameters, "limit", 1..=10).unwrap(), None, "taken");
        assert_eq!(field(number(&mut parameters, "y", 2..=10).unwrap_err()), "y");
        assert_eq!(field(none_left(&parameters).unwrap_err()), "stream_prefix");
        for wrong in ["x", "", "1.5", "99999999999999999999"] {
            let mut one = HashMap::from([("limit".to_owned(), wrong.to_owned())]);
            assert!(number(&mut one, "limit", 1_i64..=10).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_position_is_what_an_answer_carried() {
        let read = |value: &str| {
            min_position(&headers(&[("daybook-min-position", value)]), &Positions::default())
        };
        assert_eq!(read("12").unwrap(), Some(Sought::Position(12)));
        assert_eq!(read("0").unwrap(), Some(Sought::Position(0)));
        for wrong in ["-1", "x", "", "99999999999999999999"] {
            assert_eq!(field(read(wrong).unwrap_err()), "Daybook-Min-Position", "{wrong}");
        }
    }
}

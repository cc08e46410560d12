//! The canonical form of stored JSON (RFC 8785) and the rules that make it the same everywhere.

use serde_json::Value;

/// Largest magnitude of an integer that every JSON reader keeps exact: 2^53 − 1.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Why a value may not stand in an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RuleBroken {
    /// Where, as `lines[2].quantity`.
    pub path: String,
    /// Which rule.
    pub reason: &'static str,
}

/// Bytes of `value` in RFC 8785 form.
///
/// Allowed are objects, arrays, strings without U+0000, booleans, null and integers of magnitude
/// at most [`MAX_INTEGER`]; member names are `[a-z][a-z0-9_]*` or `$sealed`. Under these rules the
/// RFC's order of members (by UTF-16 code unit) is the order of their bytes and its number
/// format is plain decimal.
pub fn to_vec(value: &Value) -> Result<Vec<u8>, RuleBroken> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out).map_err(|mut broken| {
        broken.path = broken.path.trim_start_matches('.').to_owned();
        broken
    })?;
    Ok(out)
}

/// The RFC 8785 form of an object of texts, those that are there, whose names are given in order.
pub(crate) fn object_of_texts<const N: usize>(
    members: [(&'static str, Option<&str>); N],
) -> Result<Vec<u8>, RuleBroken> {
    debug_assert!(members.is_sorted_by_key(|(name, _)| *name));
    let mut out = Vec::with_capacity(320);
    out.push(b'{');
    for (name, text) in members {
        let Some(text) = text else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_string(text, &mut out).map_err(|broken| below(&broken, name))?;
    }
    out.push(b'}');
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), RuleBroken> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_i64() {
            Some(n) if (-MAX_INTEGER..=MAX_INTEGER).contains(&n) => {
                out.extend_from_slice(n.to_string().as_bytes());
            }
            Some(_) => return Err(broken("integers go to 2^53 - 1")),
            None => return Err(broken("numbers are integers of at most 2^53 - 1")),
        },
        Value::String(text) => write_string(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out).map_err(|b| below(&b, &format!("[{index}]")))?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            // Sorted here, whatever map type features of serde_json chose.
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            for (index, name) in names.into_iter().enumerate() {
                if !is_member_name(name) {
                    return Err(below(
                        &broken("member names are [a-z][a-z0-9_]*"),
                        &format!(".{name}"),
                    ));
                }
                if index > 0 {
                    out.push(b',');
                }
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                write(&members[name], out).map_err(|b| below(&b, &format!(".{name}")))?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), RuleBroken> {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            0 => return Err(broken("text may not hold U+0000")),
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            0x0c => b"\\f",
            b'\r' => b"\\r",
            1..0x20 => {
                out.extend_from_slice(&text.as_bytes()[plain_from..at]);
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                plain_from = at + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        out.extend_from_slice(short);
        plain_from = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
    out.push(b'"');
    Ok(())
}

fn is_member_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        || name == "$sealed"
}

fn broken(reason: &'static str) -> RuleBroken {
    RuleBroken { path: String::new(), reason }
}

fn below(inner: &RuleBroken, step: &str) -> RuleBroken {
    RuleBroken { path: format!("{step}{}", inner.path), reason: inner.reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn members_are_sorted_and_strings_escaped_as_rfc_8785_says() {
        assert_eq!(text(&json!({"b": [1, true, null], "a": {}})), r#"{"a":{},"b":[1,true,null]}"#);
        assert_eq!(
            text(&json!("\u{8}\t\n\u{c}\r\u{1f}\u{7f}\"\\/€😀")),
            "\"\\b\\t\\n\\f\\r\\u001f\u{7f}\\\"\\\\/€😀\""
        );
        assert_eq!(text(&json!({"$sealed": "x"})), r#"{"$sealed":"x"}"#);
    }

    #[test]
    fn what_other_languages_would_read_differently_is_refused_by_path() {
        let refused = |value: Value| to_vec(&value).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"lines": [{"quantity": 1}, {"quantity": 1.5}]})),
            "lines[1].quantity: numbers are integers of at most 2^53 - 1"
        );
        assert_eq!(refused(json!({"a": MAX_INTEGER + 1})), "a: integers go to 2^53 - 1");
        assert_eq!(refused(json!({"a": u64::MAX})), "a: numbers are integers of at most 2^53 - 1");
        assert_eq!(refused(json!({"a": "x\u{0}"})), "a: text may not hold U+0000");
        assert_eq!(refused(json!({"Name": 1})), "Name: member names are [a-z][a-z0-9_]*");
        assert_eq!(refused(json!({"": 1})), ": member names are [a-z][a-z0-9_]*");
        assert!(to_vec(&json!({"a": -MAX_INTEGER})).is_ok());
    }
}

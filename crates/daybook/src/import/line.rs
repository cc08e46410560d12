//! One line of a CSV file into its fields (RFC 4180), strictly: a broken quote is an error of
//! this line and can't swallow the next.

use std::borrow::Cow;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadLine {
    /// A quoted field has no closing quote.
    Unclosed,
    /// A quote stands inside a field that doesn't begin with one.
    Bare,
    /// Something other than a comma follows a closing quote.
    AfterQuote,
}

impl BadLine {
    /// A sentence for a person.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unclosed => "broken quote: a quoted field is not closed",
            Self::Bare => "broken quote: a quote inside a field that doesn't begin with one",
            Self::AfterQuote => "broken quote: text after a closing quote",
        }
    }
}

/// The fields of `line`, which has no line break.
pub(crate) fn split(line: &str) -> Result<Vec<Cow<'_, str>>, BadLine> {
    let mut fields = Vec::with_capacity(8);
    let mut rest = line;
    loop {
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let end = closing_quote(quoted).ok_or(BadLine::Unclosed)?;
            let text = &quoted[..end];
            fields.push(if text.contains('"') {
                Cow::Owned(text.replace("\"\"", "\""))
            } else {
                Cow::Borrowed(text)
            });
            &quoted[end + 1..]
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(BadLine::Bare);
            }
            fields.push(Cow::Borrowed(&rest[..end]));
            &rest[end..]
        };
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(BadLine::AfterQuote),
        }
    }
}

/// Where the quote stands that closes a field; a doubled quote is part of the text.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            if bytes.get(at + 1) != Some(&b'"') {
                return Some(at);
            }
            at += 1;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_quoted_fields() {
        assert_eq!(split("a,,c").unwrap(), ["a", "", "c"]);
        assert_eq!(split("").unwrap(), [""]);
        assert_eq!(split("a,").unwrap(), ["a", ""]);
        assert_eq!(
            split(r#"1,"CREAM ""LOVE"" SIGN, SMALL","",x"#).unwrap(),
            ["1", r#"CREAM "LOVE" SIGN, SMALL"#, "", "x"]
        );
        assert_eq!(split(r#""£""""#).unwrap(), ["£\""]);
    }

    #[test]
    fn broken_quotes_are_errors() {
        assert_eq!(split(r#"a,"b,c"#), Err(BadLine::Unclosed));
        assert_eq!(split(r#"a,"b"",c"#), Err(BadLine::Unclosed));
        assert_eq!(split(r#"a,b"c",d"#), Err(BadLine::Bare));
        assert_eq!(split(r#"a,"b"c,d"#), Err(BadLine::AfterQuote));
    }
}

//! Just enough of SQL's lexical structure to find names outside strings and comments.

use std::collections::BTreeSet;

/// A stretch of SQL text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text in which names and operators count.
    Code(&'a str),
    /// A string, quoted identifier, dollar-quoted body or comment: passed through as it is.
    Opaque(&'a str),
}

/// Cuts SQL into code and opaque pieces; joined together they are the text again.
pub(crate) fn pieces(sql: &str) -> Vec<Piece<'_>> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'\'' => Some(end_of_quoted(bytes, at, b'\'', is_escape_string(bytes, at))),
            b'"' => Some(end_of_quoted(bytes, at, b'"', false)),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                Some(sql[at..].find('\n').map_or(bytes.len(), |n| at + n))
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => Some(end_of_comment(bytes, at)),
            b'$' if at == 0 || !is_name(bytes[at - 1]) => end_of_dollar_quoted(sql, at),
            _ => None,
        };
        if let Some(end) = end {
            if start < at {
                out.push(Piece::Code(&sql[start..at]));
            }
            out.push(Piece::Opaque(&sql[at..end]));
            start = end;
            at = end;
        } else {
            at += 1;
        }
    }
    if start < bytes.len() {
        out.push(Piece::Code(&sql[start..]));
    }
    out
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// `E'…'`: a backslash escapes the next character.
fn is_escape_string(bytes: &[u8], quote: usize) -> bool {
    quote > 0
        && matches!(bytes[quote - 1], b'e' | b'E')
        && (quote == 1 || !is_name(bytes[quote - 2]))
}

fn end_of_quoted(bytes: &[u8], open: usize, quote: u8, backslash: bool) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        if backslash && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn end_of_comment(bytes: &[u8], open: usize) -> usize {
    let (mut at, mut depth) = (open + 2, 1);
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
            (b'*', b'/') => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_dollar_quoted(sql: &str, open: usize) -> Option<usize> {
    let rest = &sql[open + 1..];
    let tag = rest.find('$')?;
    let name = &rest.as_bytes()[..tag];
    if name.first().is_some_and(u8::is_ascii_digit) || !name.iter().all(|b| is_name(*b)) {
        return None;
    }
    let quote = &sql[open..open + tag + 2];
    let body = open + quote.len();
    Some(sql[body..].find(quote).map_or(sql.len(), |n| body + n + quote.len()))
}

/// Replaces `:name` outside strings and comments by what `bind` says for it. `::type`, `:=` and
/// `:1` are left alone. An array slice must be written with a space (`a[1 : n]`).
pub(crate) fn bind_named<E>(
    sql: &str,
    mut bind: impl FnMut(&str) -> Result<String, E>,
) -> Result<String, E> {
    let mut out = String::with_capacity(sql.len() + 64);
    for piece in pieces(sql) {
        let code = match piece {
            Piece::Opaque(text) => {
                out.push_str(text);
                continue;
            }
            Piece::Code(code) => code,
        };
        let bytes = code.as_bytes();
        let (mut copied, mut at) = (0, 0);
        while at < bytes.len() {
            if bytes[at] != b':' {
                at += 1;
                continue;
            }
            if bytes.get(at + 1) == Some(&b':') {
                at += 2;
                continue;
            }
            let name_start = at + 1;
            if !bytes.get(name_start).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
                at += 1;
                continue;
            }
            let length = bytes[name_start..]
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count();
            out.push_str(&code[copied..at]);
            out.push_str(&bind(&code[name_start..name_start + length])?);
            at = name_start + length;
            copied = at;
        }
        out.push_str(&code[copied..]);
    }
    Ok(out)
}

/// Something in the folder's own schema that SQL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnName<'a> {
    /// As it is written; empty where it is quoted.
    pub(crate) name: &'a str,
    /// A parenthesis follows: it is called.
    pub(crate) is_call: bool,
    /// It stands behind `::`.
    pub(crate) is_type: bool,
    /// It stands in a dollar-quoted body.
    pub(crate) in_body: bool,
}

impl OwnName<'_> {
    fn is_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("event")
    }

    /// Whether it is the table of that name, read as a table by the statement itself.
    pub(crate) fn is_table(&self, table: &str) -> bool {
        self.name.eq_ignore_ascii_case(table) && !self.is_call && !self.is_type && !self.in_body
    }
}

/// What stands in place of a name in the folder's own schema.
enum Put {
    /// Another schema, the name as it is.
    Schema(String),
    /// Another name, without a schema.
    Name(String),
}

/// The folder's `read.` turned into the schema of a version, and `read.event` into the engine's
/// type; in the bodies of dollar-quoted functions too, in strings and comments never.
pub(crate) fn requalify(sql: &str, schema: &str) -> String {
    rewrite(sql, false, &mut |own| in_schema(own, schema))
}

/// The same, but the table of that name stands alone and in quotes, where something else may take
/// its place.
pub(crate) fn requalify_without(sql: &str, schema: &str, table: &str) -> String {
    rewrite(sql, false, &mut |own| {
        if own.is_table(table) { Put::Name(format!("\"{table}\"")) } else { in_schema(own, schema) }
    })
}

/// Everything in the folder's own schema that SQL names, in order.
pub(crate) fn own_names(sql: &str, mut each: impl FnMut(OwnName<'_>)) {
    rewrite(sql, false, &mut |own| {
        each(own);
        in_schema(own, "read")
    });
}

fn in_schema(own: OwnName<'_>, schema: &str) -> Put {
    Put::Schema(if own.is_event() { "projection" } else { schema }.to_owned())
}

fn rewrite(sql: &str, in_body: bool, put: &mut dyn FnMut(OwnName<'_>) -> Put) -> String {
    let mut out = String::with_capacity(sql.len() + 64);
    let all = pieces(sql);
    for (index, piece) in all.iter().enumerate() {
        match piece {
            Piece::Code(code) => rewrite_code(code, in_body, put, &mut out),
            Piece::Opaque(text) if text.starts_with('$') => {
                let tag = text[1..].find('$').map_or(text.len(), |n| n + 2);
                let (open, rest) = text.split_at(tag);
                let (body, close) =
                    rest.strip_suffix(open).map_or((rest, ""), |body| (body, &rest[body.len()..]));
                out.push_str(open);
                out.push_str(&rewrite(body, true, put));
                out.push_str(close);
            }
            Piece::Opaque("\"read\"")
                if matches!(all.get(index + 1), Some(Piece::Code(next))
                    if next.trim_start().starts_with('.')) =>
            {
                let own = OwnName { name: "", is_call: false, is_type: false, in_body };
                match put(own) {
                    Put::Schema(text) | Put::Name(text) => out.push_str(&text),
                }
            }
            Piece::Opaque(text) => out.push_str(text),
        }
    }
    out
}

fn rewrite_code(
    code: &str,
    in_body: bool,
    put: &mut dyn FnMut(OwnName<'_>) -> Put,
    out: &mut String,
) {
    let bytes = code.as_bytes();
    let word_end = |from: usize| from + bytes[from..].iter().take_while(|b| is_name(**b)).count();
    let blank_end =
        |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let (mut copied, mut at, mut qualified) = (0, 0, false);
    while at < bytes.len() {
        if !is_name(bytes[at]) {
            qualified = bytes[at] == b'.' || (qualified && bytes[at].is_ascii_whitespace());
            at += 1;
            continue;
        }
        let mut end = word_end(at);
        let dot = blank_end(end);
        if !qualified && code[at..end].eq_ignore_ascii_case("read") && bytes.get(dot) == Some(&b'.')
        {
            let name = blank_end(dot + 1);
            let name_end = word_end(name);
            let own = OwnName {
                name: &code[name..name_end],
                is_call: bytes.get(blank_end(name_end)) == Some(&b'('),
                is_type: code[..at].trim_end().ends_with("::"),
                in_body,
            };
            out.push_str(&code[copied..at]);
            match put(own) {
                Put::Schema(schema) => out.push_str(&schema),
                Put::Name(text) => {
                    out.push_str(&text);
                    end = name_end;
                }
            }
            copied = end;
        }
        (at, qualified) = (end, false);
    }
    out.push_str(&code[copied..]);
}

/// Words, parameters with their colon, and single characters outside comments, in lower case; a
/// string or quoted name is a `'` or `"`.
pub(crate) fn tokens(sql: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for piece in pieces(sql) {
        let code = match piece {
            Piece::Opaque(text) if text.starts_with("--") || text.starts_with("/*") => continue,
            Piece::Opaque(text) => {
                out.push(text.get(..1).unwrap_or_default().to_owned());
                continue;
            }
            Piece::Code(code) => code,
        };
        let mut in_word = false;
        for c in code.chars() {
            let is_word = c.is_alphanumeric() || c == '_';
            match out.last_mut() {
                Some(last) if (in_word && is_word) || (c == ':' && last == ":") => last.push(c),
                Some(last) if is_word && last == ":" => {
                    last.push(c);
                    in_word = true;
                    continue;
                }
                _ if c.is_whitespace() => {}
                _ => out.push(c.to_string()),
            }
            in_word = is_word;
        }
    }
    for token in &mut out {
        token.make_ascii_lowercase();
    }
    out
}

/// Which columns of row `e` a piece of SQL may read: the names in `e.name` and `(e).name`, or
/// `None` where `e` stands alone, so that any may be read.
pub(crate) fn columns_of_e(sql: &str) -> Option<BTreeSet<String>> {
    let mut columns = BTreeSet::new();
    for piece in pieces(sql) {
        let Piece::Code(code) = piece else { continue };
        let bytes = code.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let alone = (at == 0 || (!is_name(bytes[at - 1]) && bytes[at - 1] != b'.'))
                && !bytes.get(at + 1).is_some_and(|b| is_name(*b));
            if !matches!(byte, b'e' | b'E') || !alone {
                continue;
            }
            let rest = code[at + 1..].trim_start();
            let rest = rest.strip_prefix(')').map_or(rest, str::trim_start);
            let name: String = rest
                .strip_prefix('.')?
                .trim_start()
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if name.is_empty() {
                return None;
            }
            columns.insert(name.to_ascii_lowercase());
        }
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(sql: &str) -> String {
        bind_named(sql, |name| Ok::<_, ()>(format!("<{name}>"))).unwrap()
    }

    #[test]
    fn named_parameters_are_found_only_in_code() {
        assert_eq!(bound("a = :a and b=:b_2"), "a = <a> and b=<b_2>");
        assert_eq!(
            bound("':a' \":a\" -- :a\n/* :a /* :b */ :c */ :d"),
            "':a' \":a\" -- :a\n/* :a /* :b */ :c */ <d>"
        );
        assert_eq!(bound("$$ :a $$ $x$ :a $$ $x$ :b"), "$$ :a $$ $x$ :a $$ $x$ <b>");
        assert_eq!(bound("'it''s :a' e'it\\'s :a' :b"), "'it''s :a' e'it\\'s :a' <b>");
    }

    #[test]
    fn casts_assignments_and_numbers_are_left_alone() {
        assert_eq!(bound("x::text :a::date"), "x::text <a>::date");
        assert_eq!(bound("x := :a"), "x := <a>");
        assert_eq!(bound("a[1:2] a[1 : n]"), "a[1:2] a[1 : n]");
        assert_eq!(bound("'é' || :ä :a"), "'é' || :ä <a>");
    }

    #[test]
    fn the_folders_schema_becomes_the_versions() {
        let moved = |sql| requalify(sql, "read_x_1");
        assert_eq!(moved("create table read.x ()"), "create table read_x_1.x ()");
        assert_eq!(moved("READ . x, \"read\".x"), "read_x_1 . x, read_x_1.x");
        assert_eq!(moved("f(e read.event) read.events"), "f(e projection.event) read_x_1.events");
        assert_eq!(moved("as $$ read.x -- read.x\n$$"), "as $$ read_x_1.x -- read.x\n$$");
        assert_eq!(moved("$b$ $c$read.x$c$ $b$ $1"), "$b$ $c$read_x_1.x$c$ $b$ $1");
        for other in [
            "'read.x' /* read.x */ \"read.x\"",
            "spread.x a.read.x a . read.x read_.x read",
            "\"read\" x",
        ] {
            assert_eq!(moved(other), other);
        }
    }

    #[test]
    fn the_folders_table_can_be_left_to_something_else() {
        let moved = |sql| requalify_without(sql, "read_x_1", "x");
        assert_eq!(
            moved("select read.x.a, read.x(1), null::read.x, read.xy from READ . X x, 'read.x'"),
            "select \"x\".a, read_x_1.x(1), null::read_x_1.x, read_x_1.xy from \"x\" x, 'read.x'"
        );
        assert_eq!(moved("\"read\".x read.\"x\""), "read_x_1.x read_x_1.\"x\"");
        let mut names = Vec::new();
        own_names("read.x read.f(a) $$ read.y $$ \"read\".x read.\"x\" a::read.x", |own| {
            names.push((own.name.to_owned(), own.is_call, own.is_type, own.in_body));
        });
        let found: Vec<_> = names.iter().map(|n| (n.0.as_str(), n.1, n.2, n.3)).collect();
        assert_eq!(
            found,
            [
                ("x", false, false, false),
                ("f", true, false, false),
                ("y", false, false, true),
                ("", false, false, false),
                ("", false, false, false),
                ("x", false, true, false),
            ]
        );
    }

    #[test]
    fn tokens_are_words_parameters_and_signs() {
        assert_eq!(
            tokens("A.b = :c_1 -- x\n and d::text<>'e' or f=:g)"),
            [
                "a", ".", "b", "=", ":c_1", "and", "d", "::", "text", "<", ">", "'", "or", "f",
                "=", ":g", ")"
            ]
        );
    }

    #[test]
    fn pieces_are_the_text_again() {
        for sql in
            ["", "'open", "\"open", "/* open", "$x$ open", "a$1", "-- end", "$1 + $2", "E'\\"]
        {
            let joined: String = pieces(sql)
                .iter()
                .map(|p| match p {
                    Piece::Code(t) | Piece::Opaque(t) => *t,
                })
                .collect();
            assert_eq!(joined, sql);
        }
    }

    #[test]
    fn columns_of_e_are_known_or_all() {
        let named = |sql| columns_of_e(sql).map(|c| c.into_iter().collect::<Vec<_>>());
        assert_eq!(
            named("e.type = r.e and (e).data->>'x' is null -- e"),
            Some(vec!["data".into(), "type".into()])
        );
        assert_eq!(
            named("case e . occurred_at when 1 then 'e' end"),
            Some(vec!["occurred_at".into()])
        );
        assert_eq!(named("f(e)"), None);
        assert_eq!(named("e.*"), None);
        assert_eq!(named("the.end of some 1e5"), Some(vec![]));
    }
}

//! Whether and how a declared query can be answered as of a position, by what its folder says.

use std::collections::{BTreeSet, HashMap};

use crate::{
    definition::{BOUND, DeclaredQuery},
    lexer::{self, Piece},
    parameter::Parameter,
};

/// Beginnings of statements that define the table and read nothing.
const DEFINING: [&[&str]; 5] = [
    &["create", "table"],
    &["create", "index"],
    &["create", "unique", "index"],
    &["alter", "table"],
    &["comment", "on"],
];
/// Words that may stand in front of `column = :parameter`, and behind it, where every row of the
/// answer meets it.
const BEFORE: [&str; 4] = ["where", "and", "or", "("];
const BEHIND: [&str; 6] = ["and", ")", "or", "order", "group", "limit"];
/// Words with which a query may also answer from rows that a condition leaves out.
const BESIDE: [&str; 5] = ["not", "filter", "union", "except", "intersect"];

/// How a query is answered as of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AsOfPlan {
    /// Names of the streams that hold the events of a row, columns of its key in braces.
    streams: Vec<String>,
    /// Those columns, and the parameters that the query compares them with; empty where it need not
    /// be about one row.
    key: Vec<(String, String)>,
    /// Types of the events that the projection reads.
    pub(super) events: Vec<String>,
}

impl AsOfPlan {
    /// `None`: the query reads more than its projection's table, so folding that is not enough.
    pub(crate) fn new(
        projection: &str,
        sql: &str,
        table_sql: &str,
        streams: &[String],
        events: &[String],
        parameters: &[Parameter],
    ) -> Option<Self> {
        let (mut tables, mut others) = (0, false);
        lexer::own_names(sql, |own| match own {
            _ if own.is_table(projection) => tables += 1,
            _ => others |= !own.is_call || own.in_body,
        });
        if others || is_read_by_functions(projection, table_sql) {
            return None;
        }
        let columns: BTreeSet<&str> = streams.iter().flat_map(|s| placeholders(s)).collect();
        let compared = if tables == 1 { compared(sql) } else { Vec::new() };
        let key: Option<Vec<_>> = columns
            .into_iter()
            .map(|column| {
                let own = compared.iter().find(|(name, parameter)| {
                    name == column && parameters.iter().any(|p| p.name == *parameter)
                });
                own.cloned()
            })
            .collect();
        let key = key.unwrap_or_default();
        Some(Self { streams: streams.to_vec(), key, events: events.to_vec() })
    }

    /// Whether these parameters say which row it is.
    pub(crate) fn is_bound(&self, params: &HashMap<String, String>) -> bool {
        !self.key.is_empty() && self.key.iter().all(|(_, name)| params.contains_key(name))
    }

    /// Streams and key as SQL arguments.
    pub(crate) fn arguments(&self, query: &DeclaredQuery) -> String {
        let streams: Vec<_> = self.streams.iter().map(|s| format!("'{s}'")).collect();
        let key: Vec<_> = self
            .key
            .iter()
            .filter_map(|(column, name)| {
                let at = query.parameters.iter().position(|p| p.name == *name)?;
                let kind = query.parameters[at].kind.sql_name();
                Some(format!("'{column}', ${}::{kind}", BOUND.len() + at + 1))
            })
            .collect();
        format!("array[{}], jsonb_build_object({})", streams.join(", "), key.join(", "))
    }
}

/// Refuses names of streams that can't be.
pub(crate) fn check_streams(streams: &[String]) -> Result<(), String> {
    for stream in streams {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:{}".contains(c);
        if placeholders(stream).count() == 0 || !stream.chars().all(plain) {
            return Err(format!(
                "streams: \"{stream}\" is no name with a column of the key in braces"
            ));
        }
    }
    Ok(())
}

/// The names in braces.
pub(crate) fn placeholders(stream: &str) -> impl Iterator<Item = &str> {
    stream.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// Whether functions or views of `table.sql` read the table: they would go on reading today's.
fn is_read_by_functions(projection: &str, table_sql: &str) -> bool {
    let mut in_body = false;
    lexer::own_names(table_sql, |own| {
        in_body |= own.in_body && own.name.eq_ignore_ascii_case(projection) && !own.is_call;
    });
    let code = lexer::pieces(table_sql).into_iter().map(|piece| match piece {
        Piece::Code(code) => code,
        Piece::Opaque(_) => " ' ",
    });
    let code: String = code.collect();
    in_body
        || code.split(';').any(|statement| {
            let words = lexer::tokens(statement);
            let mut reads = false;
            lexer::own_names(statement, |own| reads |= own.is_table(projection));
            reads
                && !DEFINING.iter().any(|begin| {
                    words.iter().map(String::as_str).take(begin.len()).eq(begin.iter().copied())
                })
        })
}

/// Columns and the parameters that every row of the answer has in them.
fn compared(sql: &str) -> Vec<(String, String)> {
    let tokens = lexer::tokens(sql);
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    let before = |at: usize, back: usize| at.checked_sub(back).map_or("", word);
    for (at, token) in tokens.iter().enumerate() {
        let is_beside = BESIDE.contains(&token.as_str())
            && !(token == "not" && before(at, 1) == "is" && word(at + 1) == "null");
        // `:parameter is null or …`: the rest holds where it is given
        let is_open = token == "or"
            && !(before(at, 1) == "null"
                && before(at, 2) == "is"
                && before(at, 3).starts_with(':'));
        if is_beside || is_open {
            return Vec::new();
        }
    }
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token != "=" {
            continue;
        }
        let Some(parameter) = word(at + 1).strip_prefix(':').filter(|p| !p.starts_with(':')) else {
            continue;
        };
        let column = before(at, 1);
        let left = if before(at, 2) == "." { before(at, 4) } else { before(at, 2) };
        let right = word(at + 2);
        if BEFORE.contains(&left) && (right.is_empty() || BEHIND.contains(&right)) {
            found.push((column.to_owned(), parameter.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::{ParameterKind, Place};

    const TABLE: &str = "create table read.t (id uuid); create index on read.t (id);
        create function read.f(a text) returns text language sql as $$ select a $$;";

    fn plan(sql: &str, table: &str, streams: &[&str]) -> Option<AsOfPlan> {
        let parameters = ["id", "n"].map(|name| Parameter {
            name: name.to_owned(),
            kind: ParameterKind::Uuid,
            required: false,
            place: Place::Query,
            title: String::new(),
        });
        let streams: Vec<_> = streams.iter().map(|s| (*s).to_owned()).collect();
        AsOfPlan::new("t", sql, table, &streams, &[], &parameters)
    }

    #[test]
    fn a_query_about_one_row_reads_that_rows_streams() {
        let is_keyed = |sql: &str| {
            let plan = plan(sql, TABLE, &["t-{id}"]).expect(sql);
            plan.is_bound(&HashMap::from([("id".to_owned(), String::new())]))
        };
        for sql in [
            "select 1 from read.t where tenant = :tenant and id = :id",
            "select read.f(a) from read.t x where (:id is null or x.id = :id) and a is not null",
            "select 1 from read.t where id = :id order by a",
        ] {
            assert!(is_keyed(sql), "{sql}");
        }
        for sql in [
            "select 1 from read.t where id > :id",
            "select 1 from read.t where not (id = :id)",
            "select 1 from read.t where id = :id or a",
            "select 1 from read.t where a or id = :id",
            "select 1 from read.t where id = :id union select 2",
            "select count(*) filter (where id = :id) from read.t",
            "select (select a from read.t limit 1) from read.t where id = :id",
            "select 1 from read.t where x + id = :id",
            "select 1 from read.t where id = :id::text",
            "select id = :id from read.t",
            "select 1 from read.t where other = :id",
            "select 1 from read.t -- where id = :id",
        ] {
            assert!(!is_keyed(sql), "{sql}");
        }
        let own = plan("select 1 from read.t where id = :id", TABLE, &["t-{id}"]).unwrap();
        assert!(!own.is_bound(&HashMap::new()), "not given");
        let other = plan("select 1 from read.t where id = :id", TABLE, &["t-{id}-{n}"]).unwrap();
        assert_eq!(other.key, [], "not the whole key");
        assert_eq!(plan("select 1 from read.t where id = :id", TABLE, &[]).unwrap().key, []);
    }

    #[test]
    fn a_query_that_reads_anything_but_its_table_can_not_look_back() {
        let offered = |sql: &str, table: &str| plan(sql, table, &[]).is_some();
        let sql = "select read.f(a) from read.t";
        assert!(offered(sql, TABLE));
        for other in ["read.v", "\"read\".t", "read.\"t\"", "(select null::read.t)"] {
            assert!(!offered(&format!("select 1 from {other}"), TABLE), "{other}");
        }
        for more in [
            "create function read.g() returns integer language sql as $$ select n from read.t $$",
            "create function read.g() returns integer language sql begin atomic; \
             select n from read.t; end",
            "create view read.v as select * from read.t",
        ] {
            assert!(!offered(sql, &format!("{TABLE}\n{more};")), "{more}");
        }
    }

    #[test]
    fn names_of_streams_have_a_column_in_braces() {
        let check = |stream: &str| check_streams(&[stream.to_owned()]);
        assert!(check("order-{order_id}").is_ok());
        for wrong in ["", "order", "order-'{id}", "order-{id", "order {id}"] {
            assert!(check(wrong).unwrap_err().contains("streams"), "{wrong}");
        }
    }
}

//! The queries of a projection, as its file declares them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{is_name, schema_of};
use crate::{
    as_of::{self, AsOfPlan},
    lexer,
    parameter::{Parameter, ParameterKind, Place},
};

/// Roles that a query may be declared for.
const ROLES: [&str; 6] = ["customer", "partner", "operator", "analyst", "auditor", "admin"];
/// Parameters that the server binds; a request can't give them.
pub(crate) const BOUND: [(&str, &str); 3] =
    [("tenant", "integer"), ("customer_id", "uuid"), ("partner_id", "uuid")];
/// Parameters that every list has.
pub(crate) const PAGING: [&str; 2] = ["limit", "cursor"];

/// Whether a query answers one row or a page of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerShape {
    /// One object, or nothing.
    One,
    /// An array of objects, with a cursor where there is more.
    List,
}

/// How the rows of a list may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object with the rows and the cursor of the next page.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// A header and a record a line (RFC 4180).
    Csv,
}

/// A query of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredQuery {
    /// The projection whose position its answers carry.
    pub projection: String,
    /// The version of the projection that it reads.
    pub(crate) version: String,
    /// Its name, unique in the catalogue.
    pub name: String,
    /// What it answers, in a few words.
    pub title: String,
    /// Path with parameters in braces, as `/v1/web/orders/{order_id}`; method GET.
    pub path: String,
    /// Roles that may send it.
    pub roles: Vec<String>,
    /// One or a list.
    pub answer: AnswerShape,
    /// Formats that its answers may have: JSON, which all have, first.
    pub formats: Vec<Format>,
    /// Whether its answers can be followed as they change.
    pub live: bool,
    /// The parameter that is the key of the one row it answers from, where the file says so.
    pub key: Option<String>,
    /// What columns hold, where the file says so.
    pub columns: BTreeMap<String, String>,
    /// Columns that are positions of the journal.
    pub positions: Vec<String>,
    /// Parameters that a request may give, those of the path first; lists have `limit` and
    /// `cursor` as well.
    pub parameters: Vec<Parameter>,
    pub(crate) sql: String,
    pub(crate) order: Order,
    /// How it is answered as of a position; `None`: it can't be.
    pub(crate) as_of: Option<AsOfPlan>,
}

/// The order of a list: columns that together are unique and never null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) columns: Vec<String>,
    pub(crate) descending: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryEntry {
    pub(super) name: String,
    title: String,
    path: String,
    roles: Vec<String>,
    answer: AnswerShape,
    #[serde(default)]
    formats: Option<Vec<Format>>,
    #[serde(default = "by_default")]
    live: bool,
    key: Option<String>,
    #[serde(default)]
    columns: BTreeMap<String, String>,
    #[serde(default)]
    positions: Vec<String>,
    #[serde(default)]
    order: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, ParameterEntry>,
}

fn by_default() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterEntry {
    #[serde(rename = "type")]
    kind: ParameterKind,
    title: String,
    #[serde(default)]
    required: bool,
}

impl DeclaredQuery {
    /// The SQL file, reading the version's own schema.
    pub(crate) fn sql_of_version(&self) -> String {
        lexer::requalify(&self.sql, &self.schema())
    }

    /// The same, with something else of its name in place of the projection's table.
    pub(crate) fn sql_without_table(&self) -> String {
        lexer::requalify_without(&self.sql, &self.schema(), &self.projection)
    }

    /// The schema of the version that it reads.
    pub(crate) fn schema(&self) -> String {
        schema_of(&self.projection, &self.version)
    }
}

pub(super) fn declared_query(
    projection: &str,
    version: &str,
    entry: QueryEntry,
    sql: &str,
) -> Result<DeclaredQuery, String> {
    if !is_name(&entry.name) {
        return Err("the name must be of a-z, 0-9 and _".into());
    }
    if let Some(role) = entry.roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
        return Err(format!("there is no role {role}"));
    }
    if entry.roles.is_empty() {
        return Err("it has no roles".into());
    }

    let mut used = BTreeSet::new();
    lexer::bind_named(sql, |name| {
        used.insert(name.to_owned());
        Ok::<_, String>(String::new())
    })?;
    // Scope by construction: a query can't be declared without the server's own values in it.
    for (role, scope) in [("customer", "customer_id"), ("partner", "partner_id")] {
        if entry.roles.iter().any(|r| r == role) && !used.contains(scope) {
            return Err(format!("it is for role {role} but doesn't use :{scope}"));
        }
    }
    if !used.remove("tenant") {
        return Err("it doesn't use :tenant".into());
    }
    used.remove("customer_id");
    used.remove("partner_id");

    let in_path = path_parameters(&entry.path)?;
    let mut parameters = Vec::new();
    for (name, parameter) in entry.parameters {
        let own = BOUND.iter().map(|(bound, _)| *bound).chain(PAGING).chain([as_of::PARAMETER]);
        if own.into_iter().any(|own| own == name) {
            return Err(format!("parameter {name}: the name is the server's own"));
        }
        if !used.remove(&name) {
            return Err(format!("parameter {name} is not used in the SQL file"));
        }
        let place = if in_path.contains(&name) { Place::Path } else { Place::Query };
        let required = parameter.required || place == Place::Path;
        parameters.push(Parameter {
            name,
            kind: parameter.kind,
            required,
            place,
            title: parameter.title,
        });
    }
    if let Some(name) = used.first() {
        return Err(format!("the SQL file uses :{name}, which is not declared"));
    }
    if let Some(name) = in_path.iter().find(|name| !parameters.iter().any(|p| p.name == **name)) {
        return Err(format!("the path's {{{name}}} is not declared"));
    }
    parameters
        .sort_by_key(|p| (in_path.iter().position(|n| *n == p.name).unwrap_or(99), p.name.clone()));

    let order = match entry.answer {
        AnswerShape::List => {
            for (name, kind, title) in [
                ("limit", ParameterKind::Integer, "most rows to answer, 1 to 500; default 50"),
                ("cursor", ParameterKind::Text, "where to go on: `next` of the page before"),
            ] {
                parameters.push(Parameter {
                    name: name.into(),
                    kind,
                    required: false,
                    place: Place::Query,
                    title: title.into(),
                });
            }
            parse_order(&entry.order)?
        }
        AnswerShape::One if entry.order.is_empty() => Order::default(),
        AnswerShape::One => return Err("order is for lists".into()),
    };
    let formats = formats(entry.answer, entry.formats)?;
    if let Some(key) = &entry.key
        && (entry.answer == AnswerShape::List
            || !parameters.iter().any(|p| p.name == *key && p.required))
    {
        return Err(format!("key: {key} must be a required parameter of a query that answers one"));
    }
    Ok(DeclaredQuery {
        formats,
        live: entry.live,
        key: entry.key,
        columns: entry.columns,
        positions: entry.positions,
        projection: projection.to_owned(),
        version: version.to_owned(),
        name: entry.name,
        title: entry.title,
        path: entry.path,
        roles: entry.roles,
        answer: entry.answer,
        parameters,
        sql: sql.trim_end().trim_end_matches(';').to_owned(),
        order,
        as_of: None,
    })
}

fn formats(answer: AnswerShape, declared: Option<Vec<Format>>) -> Result<Vec<Format>, String> {
    let mut formats = declared.unwrap_or_else(|| vec![Format::Json]);
    formats.sort_unstable();
    formats.dedup();
    if formats.first() != Some(&Format::Json) {
        return Err("formats: every query answers json".into());
    }
    if answer == AnswerShape::One && formats.len() > 1 {
        return Err("formats: other formats than json are for lists".into());
    }
    Ok(formats)
}

fn path_parameters(path: &str) -> Result<Vec<String>, String> {
    let Some(segments) = path.strip_prefix("/v1/") else {
        return Err("the path must begin with /v1/".into());
    };
    let mut names = Vec::new();
    for segment in segments.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            if !is_name(name) {
                return Err(format!("the path's {segment} is no parameter name"));
            }
            names.push(name.to_owned());
        } else if segment.is_empty()
            || !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(format!("the path's segment \"{segment}\" can't be"));
        }
    }
    Ok(names)
}

fn parse_order(order: &[String]) -> Result<Order, String> {
    let mut columns = Vec::new();
    let mut directions = BTreeSet::new();
    for entry in order {
        let (column, direction) = entry.split_once(' ').unwrap_or((entry, "asc"));
        let descending = match direction.trim() {
            "asc" => false,
            "desc" => true,
            other => return Err(format!("order: {other} is neither asc nor desc")),
        };
        if !is_name(column) {
            return Err(format!("order: {column} is no column name"));
        }
        directions.insert(descending);
        columns.push(column.to_owned());
    }
    match directions.len() {
        0 => Err("a list needs an order".into()),
        1 => Ok(Order { columns, descending: directions.contains(&true) }),
        _ => Err("order: all columns must go the same way".into()),
    }
}

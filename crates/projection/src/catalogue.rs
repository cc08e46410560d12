//! What stands in `projections/`: every folder read, checked and hashed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use daybook_journal::Upcasters;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    lexer,
    parameter::{Parameter, ParameterKind, Place},
};

/// Longest name of a projection: the generated names must fit PostgreSQL's 63 characters.
const NAME_MAX: usize = 40;
/// Roles that a query may be declared for.
const ROLES: [&str; 6] = ["customer", "partner", "operator", "analyst", "auditor", "admin"];
/// Parameters that the server binds; a request can't give them.
pub(crate) const BOUND: [(&str, &str); 3] =
    [("tenant", "integer"), ("customer_id", "uuid"), ("partner_id", "uuid")];
/// Parameters that every list has.
pub(crate) const PAGING: [&str; 2] = ["limit", "cursor"];

/// A folder of projections can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file says something that can't be.
    #[error("projection {projection}: {detail}")]
    Invalid {
        /// Name of the folder.
        projection: String,
        /// What is wrong, with the name of the file, query or parameter.
        detail: String,
    },
}

/// Every projection of one folder, in order of name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    projections: Vec<Definition>,
}

/// One projection as its folder declares it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name of folder and table.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// Types of the events it reads.
    pub events: Vec<String>,
    /// Its queries.
    pub queries: Vec<DeclaredQuery>,
    pub(crate) table_sql: String,
    pub(crate) key_sql: String,
    pub(crate) apply_sql: String,
    /// Hash of what decides the rows: the folder's own files, and what lifts the events they read.
    pub(crate) hash: String,
    files_hash: String,
    /// What its events are lifted by before they are folded.
    pub(crate) upcasters: Upcasters,
}

/// Whether a query answers one row or a page of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerShape {
    /// One object, or nothing.
    One,
    /// An array of objects, with a cursor where there is more.
    List,
}

/// A query of a projection.
#[derive(Debug, Clone)]
pub struct DeclaredQuery {
    /// The projection whose position its answers carry.
    pub projection: String,
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
    /// Parameters that a request may give, those of the path first; lists have `limit` and
    /// `cursor` as well.
    pub parameters: Vec<Parameter>,
    pub(crate) sql: String,
    pub(crate) order: Order,
}

/// The order of a list: columns that together are unique and never null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) columns: Vec<String>,
    pub(crate) descending: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectionFile {
    title: String,
    events: Vec<String>,
    #[serde(default)]
    query: Vec<QueryEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryEntry {
    name: String,
    title: String,
    path: String,
    roles: Vec<String>,
    answer: AnswerShape,
    #[serde(default)]
    order: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, ParameterEntry>,
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

impl Definition {
    /// Its version: a hash of what decides its rows, upcasters of its events included.
    pub fn version(&self) -> &str {
        &self.hash
    }

    /// Whether it reads events of this type.
    pub(crate) fn reads(&self, kind: &str) -> bool {
        self.events.binary_search_by(|event| event.as_str().cmp(kind)).is_ok()
    }
}

impl Catalogue {
    /// Reads every folder of `dir` that has a `projection.toml`.
    pub fn load(dir: &Path) -> Result<Self, CatalogueError> {
        let unreadable = |source| CatalogueError::Unreadable { path: dir.to_owned(), source };
        let mut folders = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.join("projection.toml").is_file() {
                folders.push(path);
            }
        }
        folders.sort();
        let projections =
            folders.iter().map(|folder| load_folder(folder)).collect::<Result<Vec<_>, _>>()?;

        let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for query in projections.iter().flat_map(|p| &p.queries) {
            let invalid =
                |detail| CatalogueError::Invalid { projection: query.projection.clone(), detail };
            if !names.insert(&query.name) {
                return Err(invalid(format!("query {}: the name is taken", query.name)));
            }
            let shape: Vec<_> =
                query.path.split('/').map(|s| if s.starts_with('{') { "{}" } else { s }).collect();
            if !paths.insert(shape) {
                return Err(invalid(format!("query {}: the path is taken", query.name)));
            }
        }
        Ok(Self { projections })
    }

    /// The same, folding events in the form that these upcasters lift them to. One that reads
    /// types they concern is another version of itself. Without this, events are folded in the
    /// form of whatever upcasters were installed last.
    #[must_use]
    pub fn reading(mut self, upcasters: &Upcasters) -> Self {
        for projection in &mut self.projections {
            let files = &projection.files_hash;
            projection.hash = upcasters.digest_for(|kind| projection.reads(kind)).map_or_else(
                || files.clone(),
                |lifts| {
                    let hash = Sha256::new().chain_update(files).chain_update(lifts);
                    hex::encode(hash.finalize())
                },
            );
            projection.upcasters = upcasters.clone();
        }
        self
    }

    /// The projections, in order of name.
    pub fn projections(&self) -> &[Definition] {
        &self.projections
    }

    /// The projection of this name.
    pub fn projection(&self, name: &str) -> Option<&Definition> {
        self.projections.iter().find(|p| p.name == name)
    }
}

fn load_folder(folder: &Path) -> Result<Definition, CatalogueError> {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(|source| CatalogueError::Unreadable { path, source })
    };
    let toml = read("projection.toml")?;
    let (table_sql, key_sql, apply_sql) =
        (read("table.sql")?, read("key.sql")?, read("apply.sql")?);
    definition(&name, &toml, table_sql, key_sql, apply_sql, |query| {
        read(&format!("queries/{query}.sql"))
    })
}

fn definition(
    name: &str,
    toml: &str,
    table_sql: String,
    key_sql: String,
    apply_sql: String,
    query_sql: impl Fn(&str) -> Result<String, CatalogueError>,
) -> Result<Definition, CatalogueError> {
    let invalid = |detail: String| CatalogueError::Invalid { projection: name.to_owned(), detail };
    if !is_name(name) || name.len() > NAME_MAX || name.contains("__") {
        return Err(invalid(format!(
            "the folder's name must be at most {NAME_MAX} of a-z, 0-9 and single _"
        )));
    }
    let file: ProjectionFile =
        toml::from_str(toml).map_err(|error| invalid(format!("projection.toml: {error}")))?;
    if file.events.is_empty() {
        return Err(invalid("projection.toml: it reads no events".into()));
    }
    let mut events = file.events;
    events.sort();
    if let Some([twice, ..]) = events.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(invalid(format!("projection.toml: event {twice} is named twice")));
    }
    if let Some(odd) = events.iter().find(|e| !e.chars().all(|c| c.is_ascii_alphanumeric())) {
        return Err(invalid(format!("projection.toml: {odd} is no event type")));
    }
    for (file, sql) in [("key.sql", &key_sql), ("apply.sql", &apply_sql)] {
        if sql.contains("$daybook$") {
            return Err(invalid(format!("{file}: the quote $daybook$ is the engine's own")));
        }
    }

    let mut hash = Sha256::new();
    for part in [&table_sql, &key_sql, &apply_sql].into_iter().chain(&events) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let queries = file
        .query
        .into_iter()
        .map(|entry| {
            let sql = query_sql(&entry.name)?;
            let query = entry.name.clone();
            declared_query(name, entry, &sql)
                .map_err(|detail| invalid(format!("query {query}: {detail}")))
        })
        .collect::<Result<_, _>>()?;
    let files_hash = hex::encode(hash.finalize());
    Ok(Definition {
        name: name.to_owned(),
        title: file.title,
        events,
        queries,
        table_sql,
        key_sql,
        apply_sql,
        hash: files_hash.clone(),
        files_hash,
        upcasters: Upcasters::default(),
    })
}

fn declared_query(projection: &str, entry: QueryEntry, sql: &str) -> Result<DeclaredQuery, String> {
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
        if BOUND.iter().any(|(bound, _)| *bound == name) || PAGING.contains(&name.as_str()) {
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
    Ok(DeclaredQuery {
        projection: projection.to_owned(),
        name: entry.name,
        title: entry.title,
        path: entry.path,
        roles: entry.roles,
        answer: entry.answer,
        parameters,
        sql: sql.trim_end().trim_end_matches(';').to_owned(),
        order,
    })
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

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use daybook_journal::Upcaster;

    use super::*;

    const LIST: &str = r#"
        title = "T"
        events = ["B", "A"]
        [[query]]
        name = "q"
        title = "Q"
        path = "/v1/web/q/{id}"
        roles = ["customer"]
        answer = "list"
        order = ["a desc", "id desc"]
        parameters.id = { type = "uuid", title = "it" }
        parameters.day = { type = "date", title = "day" }
    "#;
    const SQL: &str = "select a, id from read.t where tenant = :tenant \
                       and customer_id = :customer_id and id = :id and (:day is null or d = :day)";

    fn load(toml: &str, sql: &str) -> Result<Definition, String> {
        definition("t", toml, "t".into(), "k".into(), "a".into(), |_| Ok(sql.to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_is_read_with_its_queries_and_parameters() {
        let t = load(LIST, SQL).unwrap();
        assert_eq!(t.events, ["A", "B"]);
        let query = &t.queries[0];
        assert_eq!(query.answer, AnswerShape::List);
        let names: Vec<_> =
            query.parameters.iter().map(|p| (p.name.as_str(), p.place, p.required)).collect();
        assert_eq!(
            names,
            [
                ("id", Place::Path, true),
                ("day", Place::Query, false),
                ("limit", Place::Query, false),
                ("cursor", Place::Query, false)
            ]
        );
        assert_eq!(query.order, Order { columns: vec!["a".into(), "id".into()], descending: true });
    }

    #[test]
    fn what_can_not_be_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            assert!(LIST.contains(from) || SQL.contains(from), "{from}");
            load(&LIST.replace(from, to), &SQL.replace(from, to)).unwrap_err()
        };
        assert!(refused("customer_id = :customer_id", "true").contains(":customer_id"));
        assert!(refused("= :tenant", "= 1").contains(":tenant"));
        assert!(refused(":day", ":dya").contains("day"));
        assert!(refused("{id}", "{no}").contains("{no}"));
        assert!(refused("id desc", "id asc").contains("same way"));
        assert!(refused("id desc", "id; drop").contains("neither"));
        assert!(refused("\"date\"", "\"dat\"").contains("dat"));
        assert!(refused("answer = \"list\"", "answer = \"one\"").contains("order"));
        assert!(refused("[\"customer\"]", "[\"root\"]").contains("root"));
        assert!(refused("/v1/web", "/web").contains("/v1/"));
        assert!(refused("\"B\", \"A\"", "\"A\", \"A\"").contains("twice"));
        assert!(refused("parameters.day", "parameters.limit").contains("limit"));
        assert!(refused("title = \"T\"", "titel = \"T\"").contains("titel"));
    }

    #[test]
    fn only_what_decides_the_rows_is_hashed() {
        let hash = |toml: &str, sql: &str| load(toml, sql).unwrap().hash;
        assert_eq!(hash(LIST, SQL), hash(&LIST.replace("\"T\"", "\"U\""), &format!("{SQL} ")));
        assert_ne!(hash(LIST, SQL), hash(&LIST.replace("\"B\"", "\"C\""), SQL));
    }

    #[test]
    fn another_upcaster_makes_another_version_of_what_it_concerns() {
        let hash = |kind, sql| {
            let catalogue = Catalogue { projections: vec![load(LIST, SQL).unwrap()] };
            let steps = vec![Upcaster { kind, from: 1, sql }];
            catalogue.reading(&Upcasters::new(steps).unwrap()).projections[0].hash.clone()
        };
        let plain = load(LIST, SQL).unwrap().hash;
        assert_ne!(hash("A", "data"), plain);
        assert_ne!(hash("A", "data"), hash("A", "data || '{}'"));
        assert_eq!(hash("C", "data"), plain);
    }

    #[test]
    fn the_shipped_projections_load() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&dir).unwrap();
        let names: Vec<_> = catalogue.projections().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "attention",
                "customers",
                "orders",
                "payments",
                "sales_by_country",
                "sales_by_day",
                "sales_by_product",
                "stock"
            ]
        );
    }
}

//! One projection as its folder declares it: read, checked and hashed.

mod query;

use std::{collections::BTreeMap, path::PathBuf};

use daybook_journal::Upcasters;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::as_of::{self, AsOfPlan};

#[cfg(test)]
pub(crate) use query::Order;
pub use query::{AnswerShape, DeclaredQuery, Format};
pub(crate) use query::{BOUND, PAGING};
use query::{QueryEntry, declared_query};

/// Longest name of a projection: the generated names must fit PostgreSQL's 63 characters.
const NAME_MAX: usize = 40;
/// A folder of projections, or what the database keeps of one, can't be used.
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

/// One projection as its folder declares it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name of folder and table.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// Types of the events it reads.
    pub events: Vec<String>,
    /// What becomes of a key whose row an event can't be folded onto.
    pub on_error: OnError,
    /// Its queries.
    pub queries: Vec<DeclaredQuery>,
    /// Names of the streams that hold all events of a row, columns of its key in braces.
    pub(crate) streams: Vec<String>,
    pub(crate) texts: Texts,
    /// Hash of what decides the rows: the folder's own files, and what lifts the events they read.
    pub(crate) version: String,
    files_hash: String,
    /// Digest of what its events are lifted by before they are folded; empty: by nothing.
    pub(crate) upcasters: String,
}

/// What becomes of a key whose row an event can't be folded onto.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The whole projection stops at that event, for that tenant.
    #[default]
    Stop,
    /// The key alone is put aside: its row stays as it was, its later events wait.
    Park,
}

/// What the files of a folder say, as it is kept in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Texts {
    pub(crate) toml: String,
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) apply: String,
    /// By name; those that the toml declares.
    pub(crate) queries: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectionFile {
    title: String,
    events: Vec<String>,
    #[serde(default)]
    on_error: OnError,
    #[serde(default)]
    streams: Vec<String>,
    #[serde(default)]
    query: Vec<QueryEntry>,
}

impl Definition {
    /// Reads what a folder says.
    pub(crate) fn parse(name: &str, mut texts: Texts) -> Result<Self, CatalogueError> {
        let invalid =
            |detail: String| CatalogueError::Invalid { projection: name.to_owned(), detail };
        if !is_name(name) || name.len() > NAME_MAX || name.contains("__") {
            return Err(invalid(format!(
                "the folder's name must be at most {NAME_MAX} of a-z, 0-9 and single _"
            )));
        }
        if name == "event" {
            return Err(invalid("read.event is the type of an event: choose another name".into()));
        }
        let file: ProjectionFile = toml::from_str(&texts.toml)
            .map_err(|error| invalid(format!("projection.toml: {error}")))?;
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
        as_of::check_streams(&file.streams)
            .map_err(|detail| invalid(format!("projection.toml: {detail}")))?;
        for (file, sql) in [("key.sql", &texts.key), ("apply.sql", &texts.apply)] {
            if sql.contains("$daybook$") {
                return Err(invalid(format!("{file}: the quote $daybook$ is the engine's own")));
            }
        }

        let mut hash = Sha256::new();
        for part in [&texts.table, &texts.key, &texts.apply].into_iter().chain(&events) {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        if file.on_error == OnError::Park {
            hash.update("park");
        }
        let version = hex::encode(hash.finalize());
        let mut queries = Vec::new();
        for entry in file.query {
            let query = entry.name.clone();
            let invalid = |detail: String| invalid(format!("query {query}: {detail}"));
            let sql = texts
                .queries
                .get(&query)
                .ok_or_else(|| invalid(format!("there is no file queries/{query}.sql")))?;
            let mut query = declared_query(name, &version, entry, sql).map_err(invalid)?;
            let (table, streams) = (&texts.table, &file.streams);
            query.as_of = AsOfPlan::new(name, sql, table, streams, &events, &query.parameters);
            queries.push(query);
        }
        texts.queries.retain(|name, _| queries.iter().any(|query| query.name == *name));
        Ok(Self {
            name: name.to_owned(),
            title: file.title,
            events,
            on_error: file.on_error,
            queries,
            streams: file.streams,
            texts,
            files_hash: version.clone(),
            version,
            upcasters: String::new(),
        })
    }

    /// The same, folding events in the form that these upcasters lift them to. If they concern
    /// types that it reads, it is another version of itself.
    #[must_use]
    pub(crate) fn reading(mut self, upcasters: &Upcasters) -> Self {
        let lifts = upcasters.digest_for(|kind| self.reads(kind));
        let version = lifts.map_or_else(
            || self.files_hash.clone(),
            |lifts| {
                let hash = Sha256::new().chain_update(&self.files_hash).chain_update(lifts);
                hex::encode(hash.finalize())
            },
        );
        upcasters.digest().clone_into(&mut self.upcasters);
        self.at_version(version)
    }

    /// The same as this version, which the database says it is.
    #[must_use]
    pub(crate) fn at_version(mut self, version: String) -> Self {
        for query in &mut self.queries {
            query.version.clone_from(&version);
        }
        self.version = version;
        self
    }

    /// Its version: a hash of what decides its rows, upcasters of its events included.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The schema of PostgreSQL that holds the version's table, types and functions.
    pub fn schema(&self) -> String {
        schema_of(&self.name, &self.version)
    }

    /// Whether it reads events of this type.
    pub(crate) fn reads(&self, kind: &str) -> bool {
        self.events.binary_search_by(|event| event.as_str().cmp(kind)).is_ok()
    }
}

/// Name of the schema of a version.
pub(crate) fn schema_of(projection: &str, version: &str) -> String {
    format!("read_{projection}_{}", short(version))
}

/// As much of a version as tells it from others.
pub(crate) fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use daybook_journal::Upcaster;

    use super::*;
    use crate::parameter::Place;

    const LIST: &str = r#"
        title = "T"
        events = ["B", "A"]
        [[query]]
        name = "q"
        title = "Q"
        path = "/v1/web/q/{id}"
        roles = ["customer"]
        answer = "list"
        formats = ["csv", "json"]
        order = ["a desc", "id desc"]
        parameters.id = { type = "uuid", title = "it" }
        parameters.day = { type = "date", title = "day" }
    "#;
    const SQL: &str = "select a, id from read.t where tenant = :tenant \
                       and customer_id = :customer_id and id = :id and (:day is null or d = :day)";

    fn load(toml: &str, sql: &str) -> Result<Definition, String> {
        let texts = Texts {
            toml: toml.to_owned(),
            table: "t".into(),
            key: "k".into(),
            apply: "a".into(),
            queries: BTreeMap::from([("q".into(), sql.to_owned())]),
        };
        Definition::parse("t", texts).map_err(|error| error.to_string())
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
        assert_eq!((&query.formats[..], query.live), (&[Format::Json, Format::Csv][..], true));
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
        assert!(refused("[\"csv\", \"json\"]", "[\"csv\"]").contains("json"));
        assert!(refused("[\"csv\", \"json\"]", "[\"json\", \"xml\"]").contains("xml"));
        assert!(refused("formats", "key = \"id\"\nformats").contains("key: id"));
        assert!(refused("[\"customer\"]", "[\"root\"]").contains("root"));
        assert!(refused("/v1/web", "/web").contains("/v1/"));
        assert!(refused("\"B\", \"A\"", "\"A\", \"A\"").contains("twice"));
        assert!(refused("parameters.day", "parameters.limit").contains("limit"));
        assert!(refused("title = \"T\"", "titel = \"T\"").contains("titel"));
    }

    #[test]
    fn only_what_decides_the_rows_is_hashed() {
        let hash = |toml: &str, sql: &str| load(toml, sql).unwrap().version;
        assert_eq!(hash(LIST, SQL), hash(&LIST.replace("\"T\"", "\"U\""), &format!("{SQL} ")));
        assert_ne!(hash(LIST, SQL), hash(&LIST.replace("\"B\"", "\"C\""), SQL));
        let parking = LIST.replacen("title", "on_error = \"park\"\ntitle", 1);
        assert_ne!(hash(LIST, SQL), hash(&parking, SQL));
        let stopping = LIST.replacen("title", "on_error = \"stop\"\ntitle", 1);
        assert_eq!(hash(LIST, SQL), hash(&stopping, SQL));
    }

    #[test]
    fn another_upcaster_makes_another_version_of_what_it_concerns() {
        let hash = |kind, sql| {
            let steps = vec![Upcaster { kind, from: 1, sql }];
            load(LIST, SQL).unwrap().reading(&Upcasters::new(steps).unwrap()).version
        };
        let plain = load(LIST, SQL).unwrap().version;
        assert_ne!(hash("A", "data"), plain);
        assert_ne!(hash("A", "data"), hash("A", "data || '{}'"));
        assert_eq!(hash("C", "data"), plain);
    }
}

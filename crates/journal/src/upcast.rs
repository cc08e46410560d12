//! Upcasters: what was stored in an older version of a type is read in the current one.
//!
//! An upcaster is an SQL expression over `data`. From all of a model's upcasters one function is
//! made, which PostgreSQL's planner inlines wherever stored data is read. Its name holds their
//! digest and it is never replaced, so that an older program reads on with its own while a newer
//! one has already migrated; `journal.upcast` is the newest one's, for views and people.

use std::{fmt::Write, sync::Arc};

use sha2::{Digest, Sha256};
use tokio_postgres::GenericClient;

/// How much of a digest stands in the names of functions.
const MARK_LENGTH: usize = 12;

/// One step: from a version of a type to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcaster {
    /// Event type, as `OrderPlaced`.
    pub kind: &'static str,
    /// The version it reads, from 1; it makes the next one.
    pub from: i16,
    /// An SQL expression over `data jsonb` that gives `jsonb`: immutable, no tables, no settings.
    pub sql: &'static str,
}

/// All upcasters of a model. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upcasters {
    /// In order of type and version.
    steps: Arc<[Upcaster]>,
    /// Of all steps, hexadecimal; empty without any.
    digest: String,
}

/// Upcasters that make no chains.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A type whose name can't stand in SQL as it is.
    #[error("{0:?} is no event type: letters and digits only")]
    Type(&'static str),
    /// A type's upcasters don't follow on each other from version 1.
    #[error("upcaster {kind}/{from} stands where {kind}/{expected} should")]
    Gap {
        /// The type.
        kind: &'static str,
        /// Version that the upcaster reads.
        from: i16,
        /// Version that is missing.
        expected: i16,
    },
}

impl Upcasters {
    /// The chains that these steps make; each type's begin at version 1 and have no gap.
    pub fn new(mut steps: Vec<Upcaster>) -> Result<Self, BrokenChain> {
        steps.sort_by_key(|step| (step.kind, step.from));
        for (index, step) in steps.iter().enumerate() {
            let plain = |c: u8| c.is_ascii_alphanumeric();
            if step.kind.is_empty() || !step.kind.bytes().all(plain) {
                return Err(BrokenChain::Type(step.kind));
            }
            let before = index.checked_sub(1).map(|before| &steps[before]);
            let expected = before.filter(|b| b.kind == step.kind).map_or(1, |b| b.from + 1);
            if step.from != expected {
                return Err(BrokenChain::Gap { kind: step.kind, from: step.from, expected });
            }
        }
        let digest = if steps.is_empty() { String::new() } else { digest_of(steps.iter()) };
        Ok(Self { steps: steps.into(), digest })
    }

    /// The steps, in order of type and version.
    pub fn steps(&self) -> &[Upcaster] {
        &self.steps
    }

    /// Version that events of a type are lifted to, if they are lifted at all.
    pub fn current(&self, kind: &str) -> Option<i16> {
        self.steps.iter().rev().find(|step| step.kind == kind).map(|step| step.from + 1)
    }

    /// Hash of all of them; empty without any. Whatever was made by folding events lifted by
    /// others is stale.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Hash of those that concern these types; `None`: none does.
    pub fn digest_for(&self, reads: impl Fn(&str) -> bool) -> Option<String> {
        let mut steps = self.steps.iter().filter(|step| reads(step.kind)).peekable();
        steps.peek()?;
        Some(digest_of(steps))
    }

    /// SQL text with its calls of `journal.upcast` and `journal.current_version` turned into calls
    /// of this very set's functions. Without any upcaster the text stays as it is.
    pub fn in_sql(&self, sql: &str) -> String {
        Self::calls_of(&self.digest, sql)
    }

    /// The same for the set of this digest, which some program has installed.
    pub fn calls_of(digest: &str, sql: &str) -> String {
        let Some(mark) = digest.get(..MARK_LENGTH) else { return sql.to_owned() };
        sql.replace("journal.upcast(", &format!("journal.upcast_{mark}("))
            .replace("journal.current_version(", &format!("journal.current_version_{mark}("))
    }

    /// Makes the functions of this set, and makes it the newest. Safe to run again.
    pub async fn install(&self, client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&self.definitions()).await
    }

    /// The same in a database that has no journal, for folds of events that are brought there: the
    /// functions are pure, and schema `journal` holds nothing else.
    pub async fn install_alone(
        &self,
        client: &impl GenericClient,
    ) -> Result<(), tokio_postgres::Error> {
        client.batch_execute("create schema if not exists journal").await?;
        self.install(client).await
    }

    /// Whether a migration of this program has installed the set.
    pub async fn installed(
        &self,
        client: &impl GenericClient,
    ) -> Result<bool, tokio_postgres::Error> {
        let function = self.in_sql("journal.upcast(text, smallint, jsonb)");
        let row = client.query_one("select to_regprocedure($1) is not null", &[&function]).await?;
        Ok(row.get(0))
    }

    fn mark(&self) -> &str {
        &self.digest[..MARK_LENGTH]
    }

    /// The functions, as one text and so in one transaction: one a step, named after its contents;
    /// the two of the whole set; and the two names that people use, pointing at them.
    fn definitions(&self) -> String {
        let mut sql = String::new();
        for step in self.steps.iter() {
            // The line break ends a comment that the expression may end with.
            writeln!(
                sql,
                "create or replace function {}(data jsonb) returns jsonb language sql immutable \
                 parallel safe return (\n{}\n);",
                step.function(),
                step.sql.trim_end()
            )
            .expect("a string takes all text");
        }
        let (mut data, mut version) = ("data".to_owned(), "schema_version".to_owned());
        if !self.steps.is_empty() {
            data = self.cases(&data, |step| self.lifted(step));
            version = self.cases(&version, |step| {
                format!("{}::smallint", self.current(step.kind).unwrap_or(step.from))
            });
            write_functions(&mut sql, &format!("_{}", self.mark()), &data, &version);
            data = self.in_sql("journal.upcast(type, schema_version, data)");
            version = self.in_sql("journal.current_version(type, schema_version)");
        }
        write_functions(&mut sql, "", &data, &version);
        sql
    }

    /// One case a step; versions are told apart first, which is cheaper than types.
    fn cases(&self, otherwise: &str, then: impl Fn(&Upcaster) -> String) -> String {
        let mut sql = "case".to_owned();
        for step in self.steps.iter() {
            let Upcaster { kind, from, .. } = step;
            write!(sql, "\n when schema_version = {from} and type = '{kind}' then {}", then(step))
                .expect("a string takes all text");
        }
        format!("{sql}\n else {otherwise} end")
    }

    /// `data` through this step and those after it.
    fn lifted(&self, first: &Upcaster) -> String {
        self.steps
            .iter()
            .filter(|step| step.kind == first.kind && step.from >= first.from)
            .fold("data".to_owned(), |data, step| format!("{}({data})", step.function()))
    }
}

impl Upcaster {
    /// Its function; another text is another function.
    fn function(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        format!("journal.lift_{kind}_{}_{}", self.from, &digest_of([self].into_iter())[..12])
    }
}

fn write_functions(sql: &mut String, mark: &str, data: &str, version: &str) {
    writeln!(
        sql,
        "create or replace function journal.upcast{mark}(type text, schema_version smallint, \
         data jsonb) returns jsonb language sql immutable parallel safe return {data};\n\
         create or replace function journal.current_version{mark}(type text, schema_version \
         smallint) returns smallint language sql immutable parallel safe return {version};"
    )
    .expect("a string takes all text");
}

fn digest_of<'a>(steps: impl Iterator<Item = &'a Upcaster>) -> String {
    let mut hash = Sha256::new();
    for Upcaster { kind, from, sql } in steps {
        for part in [kind.as_bytes(), &from.to_be_bytes()[..], sql.as_bytes()] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: &'static str, from: i16, sql: &'static str) -> Upcaster {
        Upcaster { kind, from, sql }
    }

    #[test]
    fn a_chain_begins_at_1_and_has_no_gap() {
        let of = |steps: &[Upcaster]| Upcasters::new(steps.to_vec());
        let gap = |kind, from, expected| Err(BrokenChain::Gap { kind, from, expected });
        assert!(of(&[step("B", 2, ""), step("A", 1, ""), step("B", 1, "")]).is_ok());
        assert_eq!(of(&[step("A", 2, "")]), gap("A", 2, 1));
        assert_eq!(of(&[step("A", 1, ""), step("A", 3, "")]), gap("A", 3, 2));
        assert_eq!(of(&[step("A", 1, ""), step("A", 1, "")]), gap("A", 1, 2));
        assert_eq!(of(&[step("A'", 1, "")]), Err(BrokenChain::Type("A'")));
    }

    #[test]
    fn another_text_is_another_set_with_functions_of_its_own() {
        let of = |sql| Upcasters::new(vec![step("A", 1, sql), step("B", 1, "data")]).unwrap();
        let (one, other) = (of("data"), of("data || '{}'"));
        let call = "select journal.upcast(type, schema_version, data)";
        assert_ne!(one.in_sql(call), other.in_sql(call));
        assert_eq!(Upcasters::default().in_sql(call), call);
        assert_ne!(one.digest_for(|kind| kind == "A"), other.digest_for(|kind| kind == "A"));
        assert_eq!(one.digest_for(|kind| kind == "B"), other.digest_for(|kind| kind == "B"));
        assert_eq!(one.digest_for(|kind| kind == "C"), None);
        assert_eq!((one.current("A"), one.current("C")), (Some(2), None));
    }
}

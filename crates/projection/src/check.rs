//! Trying a folder out against PostgreSQL, in a transaction that leaves nothing behind.

use daybook_journal::{StoredEvent, Upcasters};
use rand::Rng;
use serde_json::Value;
use tokio_postgres::{
    Client, Statement, Transaction,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::{
    batch::{Arrays, Step},
    catalogue::distinct,
    definition::{AnswerShape, DeclaredQuery, Definition},
    example::{Example, TENANT},
    generate::{self, Column, Reads},
    install::{self, InstallError, database_detail},
    queries,
    versions::{VersionState, versions},
};

/// How often every example is folded in other pieces.
const SPLITS: usize = 5;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What: `table`, `query web_orders`, `example paid.json` …
    pub what: String,
    /// How it went: a few words, or everything that is wrong.
    pub result: Result<String, Vec<String>>,
}

impl Checked {
    fn new(what: impl Into<String>, result: Result<String, Vec<String>>) -> Self {
        Self { what: what.into(), result }
    }
}

/// Tries a definition out: makes its table and functions, prepares and runs each query, folds the
/// examples in one piece, event by event and in random pieces, and compares the rows. `apply.sql`
/// is called twice, and as a role without any right on tables where the login may make one. `client`
/// is the owner's; everything is rolled back.
pub async fn check(
    client: &mut Client,
    definition: &Definition,
    upcasters: &Upcasters,
    examples: &[Example],
) -> Result<Vec<Checked>, tokio_postgres::Error> {
    // a version of its own, whatever is installed
    let trial = definition.clone().at_version(Uuid::new_v4().simple().to_string());
    let transaction = client.transaction().await?;
    let mut checked = Vec::new();
    match make(&transaction, &trial).await {
        Ok(columns) => {
            let keys = columns.iter().filter(|c| c.key.is_some() && c.name != "tenant");
            let keys: Vec<&str> = keys.map(|c| c.name.as_str()).collect();
            let said = format!("{} columns, key ({})", columns.len(), keys.join(", "));
            checked.push(Checked::new("table, key and apply", Ok(said)));
            let mut check = Check { transaction, trial: &trial, upcasters, columns };
            check.shared_queries(&mut checked).await?;
            for query in &trial.queries {
                let result = check.query(query).await?;
                checked.push(Checked::new(format!("query {}", query.name), result));
            }
            check.examples(examples, &mut checked).await?;
            check.transaction.rollback().await?;
        }
        Err(error) => {
            checked.push(Checked::new("table, key and apply", Err(vec![error.to_string()])));
            transaction.rollback().await?;
        }
    }
    Ok(checked)
}

async fn make(
    transaction: &Transaction<'_>,
    trial: &Definition,
) -> Result<Vec<Column>, InstallError> {
    let texts = serde_json::to_value(&trial.texts).expect("texts are JSON");
    install::make_version(transaction, trial, &texts, "building", false).await?;
    let columns = install::table_columns(transaction, trial).await?;
    let function = generate::check_function(trial, &columns)
        .map_err(|detail| InstallError::Table { projection: trial.name.clone(), detail })?;
    transaction.batch_execute(&function).await?;
    Ok(columns)
}

struct Check<'a> {
    transaction: Transaction<'a>,
    trial: &'a Definition,
    upcasters: &'a Upcasters,
    columns: Vec<Column>,
}

impl Check<'_> {
    /// Names and paths that other read models have.
    async fn shared_queries(
        &self,
        checked: &mut Vec<Checked>,
    ) -> Result<(), tokio_postgres::Error> {
        let others = versions(&self.transaction).await?;
        let others = others.iter().map(|v| (v.state, &v.definition)).filter(|(state, other)| {
            *state == VersionState::Active && other.name != self.trial.name
        });
        if let Err(error) = distinct(others.map(|(_, other)| other).chain([self.trial])) {
            checked.push(Checked::new("queries", Err(vec![error.to_string()])));
        }
        Ok(())
    }

    /// Prepares the statements of a query, and runs the first of them as `serve` would.
    async fn query(
        &mut self,
        query: &DeclaredQuery,
    ) -> Result<Result<String, Vec<String>>, tokio_postgres::Error> {
        let savepoint = self.transaction.savepoint("daybook_query").await?;
        let result = async {
            savepoint.batch_execute("set transaction read only").await?;
            let own = savepoint
                .prepare_typed(&queries::bound_sql(query), &queries::parameter_types(query, &[]))
                .await?;
            if query.answer == AnswerShape::List {
                match queries::order_kinds(query, own.columns()) {
                    Ok(kinds) => {
                        let text = queries::statement(query, Some(&kinds));
                        let types = queries::parameter_types(query, &kinds);
                        savepoint.prepare_typed(&text, &types).await?;
                    }
                    Err(error) => return Ok(Err(vec![error.to_string()])),
                }
            }
            let is_position = |name: &String| {
                own.columns().iter().any(|c| c.name() == name && *c.type_() == Type::INT8)
            };
            if let Some(odd) = query.positions.iter().find(|name| !is_position(name)) {
                return Ok(Err(vec![format!("positions: {odd} is no column of type bigint")]));
            }
            let text = queries::statement(query, None);
            let statement =
                savepoint.prepare_typed(&text, &queries::parameter_types(query, &[])).await?;
            let values = queries::sample_values(query);
            let values: Vec<_> =
                values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            savepoint.query_one(&statement, &values).await?;
            Ok(Ok(columns_line(&own)))
        }
        .await;
        savepoint.rollback().await?;
        Ok(result.unwrap_or_else(|error: tokio_postgres::Error| Err(vec![database_detail(&error)])))
    }

    /// Folds every example in every way.
    async fn examples(
        &mut self,
        examples: &[Example],
        checked: &mut Vec<Checked>,
    ) -> Result<(), tokio_postgres::Error> {
        let mut pure = Vec::new();
        let role = self.role_without_rights().await?;
        for example in examples {
            let what = format!("example {}", example.file);
            let all = example.events(self.upcasters);
            let relevant: Vec<&StoredEvent> =
                all.iter().filter(|event| self.trial.reads(&event.kind)).collect();
            match self.rows(&[&relevant]).await? {
                Err(detail) => checked.push(Checked::new(what, Err(vec![detail]))),
                Ok(rows) => {
                    let mut wrong = example.compare(&rows);
                    let mut ways = vec![relevant.chunks(1).collect::<Vec<_>>()];
                    ways.extend((0..SPLITS).map(|_| random_pieces(&relevant)));
                    for pieces in ways {
                        if self.rows(&pieces).await? != Ok(rows.clone()) {
                            wrong.push(
                                "folded in other pieces, its events come to other rows".into(),
                            );
                            break;
                        }
                    }
                    let said = example.title.clone();
                    checked.push(Checked::new(
                        what,
                        if wrong.is_empty() { Ok(said) } else { Err(wrong) },
                    ));
                }
            }
            for _ in 0..SPLITS {
                if let Err(detail) = self.apply_alone(&relevant, role.as_deref()).await? {
                    pure.push(format!("example {}: {detail}", example.file));
                    break;
                }
            }
        }
        if !examples.is_empty() {
            let said = match role {
                Some(_) => "twice and in parts the same, without rights on tables",
                None => {
                    "twice and in parts the same (this login may not make the role that would \
                         show that it reads no tables)"
                }
            };
            let result = if pure.is_empty() { Ok(said.to_owned()) } else { Err(pure) };
            checked.push(Checked::new("apply", result));
        }
        Ok(())
    }

    /// The rows that pieces of events come to, in order of key; everything is undone.
    async fn rows(
        &mut self,
        pieces: &[&[&StoredEvent]],
    ) -> Result<Result<Vec<Value>, String>, tokio_postgres::Error> {
        let (schema, name) = (self.trial.schema(), &self.trial.name);
        let keys: Vec<_> = self.columns.iter().filter(|c| c.key.is_some()).collect();
        let order: Vec<_> = keys.iter().map(|c| c.name.as_str()).collect();
        let savepoint = self.transaction.savepoint("daybook_example").await?;
        let result = async {
            savepoint.batch_execute("set local timezone = 'UTC'").await?;
            let mut at = 0;
            for piece in pieces {
                let Some(last) = piece.last() else { continue };
                let step = Step {
                    tenant: TENANT,
                    incarnation: Uuid::nil(),
                    expected: at,
                    next: last.position,
                };
                let arrays = Arrays::of(piece, Reads::any(self.trial));
                let parameters: Vec<_> =
                    step.parameters().into_iter().chain(arrays.parameters()).collect();
                savepoint
                    .query_one(
                        &format!(
                            "select o_moved from {schema}.{name}__advance($1, $2, $3, $4, $5, $6, \
                             $7, $8, $9, $10, $11, $12, $13)"
                        ),
                        &parameters,
                    )
                    .await?;
                at = last.position;
            }
            savepoint
                .query(
                    &format!(
                        "select to_jsonb(daybook_row) - 'tenant' from {schema}.{name} daybook_row order by {}",
                        order.join(", ")
                    ),
                    &[],
                )
                .await
        }
        .await;
        savepoint.rollback().await?;
        Ok(result
            .map(|rows| rows.iter().map(|row| row.get(0)).collect())
            .map_err(|error| database_detail(&error)))
    }

    /// A role that may fold and nothing else, if the login may make one.
    async fn role_without_rights(&mut self) -> Result<Option<String>, tokio_postgres::Error> {
        let (schema, role) = (self.trial.schema(), format!("daybook_{}", Uuid::new_v4().simple()));
        let savepoint = self.transaction.savepoint("daybook_role").await?;
        let made = savepoint
            .batch_execute(&format!(
                "create role {role}; grant {role} to current_user; \
                 grant usage on schema {schema}, journal, projection to {role}; \
                 grant execute on all functions in schema {schema} to {role}; \
                 do $$ declare lifting regprocedure; begin
                     for lifting in select oid from pg_proc
                         where pronamespace = 'journal'::regnamespace and provolatile = 'i'
                     loop execute format('grant execute on function %s to {role}', lifting);
                     end loop;
                 end $$;"
            ))
            .await;
        match made {
            Ok(()) => {
                savepoint.commit().await?;
                Ok(Some(role))
            }
            Err(_may_not) => {
                savepoint.rollback().await?;
                Ok(None)
            }
        }
    }

    /// Calls the fold twice and in parts, away from the table.
    async fn apply_alone(
        &mut self,
        events: &[&StoredEvent],
        role: Option<&str>,
    ) -> Result<Result<(), String>, tokio_postgres::Error> {
        let (schema, name) = (self.trial.schema(), &self.trial.name);
        let arrays = Arrays::of(events, Reads::any(self.trial));
        let tenant: &(dyn ToSql + Sync) = &TENANT;
        let parameters: Vec<_> = [tenant].into_iter().chain(arrays.parameters()).collect();
        let savepoint = self.transaction.savepoint("daybook_apply").await?;
        let result = async {
            if let Some(role) = role {
                savepoint.batch_execute(&format!("set local role {role}")).await?;
            }
            savepoint
                .query(
                    &format!(
                        "select key, whole is distinct from again from {schema}.{name}__check($1, \
                         $2, $3, $4, $5, $6, $7, $8, $9, $10)
                         where whole is distinct from again or whole is distinct from parted
                         order by key limit 1"
                    ),
                    &parameters,
                )
                .await
        }
        .await;
        savepoint.rollback().await?;
        Ok(match result {
            Err(error) => Err(database_detail(&error)),
            Ok(rows) => rows.first().map_or(Ok(()), |row| {
                let key: String = row.get(0);
                Err(if row.get(1) {
                    format!("called twice, apply.sql makes different rows of key {key}")
                } else {
                    format!("in two parts, apply.sql makes another row of key {key}")
                })
            }),
        })
    }
}

fn columns_line(statement: &Statement) -> String {
    let columns: Vec<_> = statement
        .columns()
        .iter()
        .map(|column| format!("{} {}", column.name(), column.type_().name()))
        .collect();
    columns.join(", ")
}

/// The same events in pieces of random lengths.
fn random_pieces<'a, 'e>(events: &'a [&'e StoredEvent]) -> Vec<&'a [&'e StoredEvent]> {
    let mut rng = rand::rng();
    let mut rest = events;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, further) = rest.split_at(rng.random_range(1..=rest.len()));
        pieces.push(piece);
        rest = further;
    }
    pieces
}

//! Putting declared projections into the database, as versions with tables and functions of their
//! own; safe to run again.

use tokio_postgres::{Client, Transaction};

use crate::{
    as_of,
    catalogue::Catalogue,
    copied::EventTable,
    definition::{CatalogueError, Definition, short},
    generate::{self, Column},
    lexer, notify, versions,
};

mod embedded {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations");
}

/// Views in schema `analyst` that are not of read models.
const JOURNAL_VIEWS: [&str; 2] = ["events", "tenants"];

/// A projection can't be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// PostgreSQL refused a statement outside any projection.
    #[error("projections: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// PostgreSQL refused what was made from a folder.
    #[error("projection {projection}: {}", database_detail(source))]
    Refused {
        /// Name of the folder.
        projection: String,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
    /// Its queries can't be told from those of another projection.
    #[error(transparent)]
    Shared(#[from] CatalogueError),
    /// A table can't be a projection's.
    #[error("projection {projection}: {detail}")]
    Table {
        /// Name of the folder.
        projection: String,
        /// What is wrong.
        detail: String,
    },
}

/// What PostgreSQL said, with detail and place, for people who write projections.
pub(crate) fn database_detail(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let mut text = db.message().to_owned();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(&more.replace('\n', " "));
    }
    for place in db.where_().into_iter().flat_map(places) {
        text.push_str("; in ");
        text.push_str(&place);
    }
    text
}

/// The folder's own functions that an error comes from, without the engine's statements around them.
fn places(context: &str) -> impl Iterator<Item = String> {
    context.lines().filter_map(|line| {
        if let Some(function) = line.strip_prefix("SQL function ") {
            return Some(function.to_owned());
        }
        let function = line.strip_prefix("PL/pgSQL function ")?;
        let (name, _) = function.split_once('(')?;
        let (_, place) = function.rsplit_once(") ")?;
        (name.ends_with("__apply") || !name.contains("__")).then(|| format!("{name} {place}"))
    })
}

/// Brings the engine's own tables to this program's version. Safe to run again.
pub async fn migrate(client: &mut Client) -> Result<(), refinery::Error> {
    embedded::migrations::runner()
        .set_migration_table_name("daybook_migrations_projection")
        .run_async(client)
        .await
        .map(|_report| ())
}

/// What installing a definition came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Name of the projection.
    pub projection: String,
    /// The version.
    pub version: String,
    /// What was done.
    pub change: Change,
}

/// What was done for a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there.
    None,
    /// It was there with another title or other queries, which are now these.
    Texts,
    /// A new projection: it answers queries at once, with what it has so far.
    New,
    /// A new version is built beside the one that answers queries.
    Version,
    /// A version that was there already is to be switched to.
    Again,
}

/// Puts every projection of the catalogue into the database, each in a transaction of its own; a
/// running projector then builds what is new. The first version of a projection answers queries at
/// once; a changed one is built beside the one that answers and switched to once it has caught up.
/// Safe to run again. Projections that the catalogue doesn't have are left alone.
pub async fn install(
    client: &mut Client,
    catalogue: &Catalogue,
) -> Result<Vec<Installed>, InstallError> {
    let names: Vec<&str> = catalogue.projections().iter().map(|p| p.name.as_str()).collect();
    let mut done = Vec::new();
    for definition in catalogue.projections() {
        done.push(add_among(client, definition, true, &names).await?);
    }
    make_functions_anew(client).await?;
    Ok(done)
}

/// The same for one projection. Unless `automatic`, a changed version waits to be switched to.
pub async fn add(
    client: &mut Client,
    definition: &Definition,
    automatic: bool,
) -> Result<Installed, InstallError> {
    add_among(client, definition, automatic, &[]).await
}

async fn add_among(
    client: &mut Client,
    definition: &Definition,
    automatic: bool,
    catalogue: &[&str],
) -> Result<Installed, InstallError> {
    let name = &definition.name;
    if JOURNAL_VIEWS.contains(&name.as_str()) {
        let detail = format!("analysts have a view analyst.{name} already: choose another name");
        return Err(InstallError::Table { projection: name.clone(), detail });
    }
    let transaction = client.transaction().await?;
    // one at a time, also from several processes
    transaction
        .execute("select pg_advisory_xact_lock(hashtext('daybook.projection.install'))", &[])
        .await?;
    versions::refuse_shared_queries(&transaction, definition, catalogue).await??;
    let change = install_one(&transaction, definition, automatic).await?;
    if change != Change::None {
        notify::tell_versions(&transaction).await?;
    }
    transaction.commit().await?;
    client.execute("select projection.show_analysts($1)", &[name]).await?;
    let version = definition.version.clone();
    tracing::info!(projection = name, version = short(&version), ?change, "installed");
    Ok(Installed { projection: name.clone(), version, change })
}

async fn install_one(
    transaction: &Transaction<'_>,
    definition: &Definition,
    automatic: bool,
) -> Result<Change, InstallError> {
    let (name, version) = (&definition.name, &definition.version);
    let texts = serde_json::to_value(&definition.texts).expect("texts are JSON");
    let Some(there) = transaction
        .query_opt(
            "select definition = $3::jsonb, state, automatic, engine from projection.versions
             where projection = $1 and version = $2",
            &[name, version, &texts],
        )
        .await?
    else {
        return make(transaction, definition, &texts, automatic).await;
    };
    let (same_texts, state): (bool, String) = (there.get(0), there.get(1));
    let again = state != "active" && (state == "retired" || there.get::<_, bool>(2) != automatic);
    if there.get::<_, &str>(3) != generate::engine_hash() {
        make_functions(transaction, definition).await?;
    } else if !same_texts {
        let refused = |source| InstallError::Refused { projection: name.clone(), source };
        let columns = table_columns(transaction, definition).await.map_err(refused)?;
        let table = |detail| InstallError::Table { projection: name.clone(), detail };
        check_streams(definition, &columns).map_err(table)?;
    }
    if again {
        leave_others(transaction, definition).await?;
    }
    if again || !same_texts {
        transaction
            .execute(
                "update projection.versions
                 set definition = $3, title = $4, changed_at = clock_timestamp(),
                     automatic = case when $5 then $6 else automatic end,
                     state = case when $5 then 'building' else state end
                 where projection = $1 and version = $2",
                &[name, version, &texts, &definition.title, &again, &automatic],
            )
            .await?;
    }
    Ok(match (again, same_texts) {
        (true, _) => Change::Again,
        (false, true) => Change::None,
        (false, false) => Change::Texts,
    })
}

/// Only the newest wish counts: what was being built before goes on, but is not switched to.
async fn leave_others(
    transaction: &Transaction<'_>,
    definition: &Definition,
) -> Result<(), tokio_postgres::Error> {
    transaction
        .execute(
            "update projection.versions
             set state = 'retired', automatic = false, changed_at = clock_timestamp()
             where projection = $1 and version <> $2 and state = 'building'",
            &[&definition.name, &definition.version],
        )
        .await
        .map(|_| ())
}

/// Makes a version: its schema, table and functions, and its row.
async fn make(
    transaction: &Transaction<'_>,
    definition: &Definition,
    texts: &serde_json::Value,
    automatic: bool,
) -> Result<Change, InstallError> {
    let (name, version) = (&definition.name, &definition.version);
    leave_others(transaction, definition).await?;
    let first = transaction
        .query_opt("select from projection.active where projection = $1", &[name])
        .await?
        .is_none();
    let state = if first { "active" } else { "building" };
    make_version(transaction, definition, texts, state, automatic && !first).await?;
    if first {
        transaction
            .execute(
                "insert into projection.active (projection, version) values ($1, $2)",
                &[name, version],
            )
            .await?;
    }
    Ok(if first { Change::New } else { Change::Version })
}

/// Makes schema, table, functions and row of a version.
pub(crate) async fn make_version(
    transaction: &Transaction<'_>,
    definition: &Definition,
    texts: &serde_json::Value,
    state: &str,
    automatic: bool,
) -> Result<(), InstallError> {
    let (name, version, schema) = (&definition.name, &definition.version, definition.schema());
    let refused = |source| InstallError::Refused { projection: name.clone(), source };
    let table = lexer::requalify(&definition.texts.table, &schema);
    transaction
        .batch_execute(&format!("create schema {schema};\n{table}"))
        .await
        .map_err(refused)?;
    transaction
        .execute(
            "insert into projection.versions
                (projection, version, schema, title, definition, upcasters, engine, state, automatic)
             values ($1, $2, $3, $4, $5, $6, '', $7, $8)",
            &[
                name,
                version,
                &schema,
                &definition.title,
                texts,
                &definition.upcasters,
                &state,
                &automatic,
            ],
        )
        .await?;
    make_functions(transaction, definition).await
}

/// Makes the functions of a version that is there, and opens its schema to whoever may.
async fn make_functions(
    transaction: &Transaction<'_>,
    definition: &Definition,
) -> Result<(), InstallError> {
    let (name, schema) = (&definition.name, definition.schema());
    let refused = |source| InstallError::Refused { projection: name.clone(), source };
    let table = |detail| InstallError::Table { projection: name.clone(), detail };
    transaction.batch_execute(&generate::drop_functions(definition)).await.map_err(refused)?;
    let columns = table_columns(transaction, definition).await.map_err(refused)?;
    check_streams(definition, &columns).map_err(table)?;
    let events = EventTable::here(transaction).await?;
    let functions = generate::functions(definition, &columns, events).map_err(table)?;
    transaction.batch_execute(&functions).await.map_err(refused)?;
    let lent = transaction
        .query_opt(
            "select proname::text from pg_proc where prosecdef and pronamespace = $1::text::regnamespace
             and proname <> $2::text",
            // the engine's own, which hands events to a fold as of a position
            &[&schema, &format!("{name}__as_of_events")],
        )
        .await?;
    if let Some(function) = lent.map(|row| row.get::<_, String>(0)) {
        return Err(table(format!("function {function} may not be `security definer`")));
    }
    transaction
        .execute(
            "update projection.versions set engine = $3, changed_at = clock_timestamp()
             where projection = $1 and version = $2",
            &[name, &definition.version, &generate::engine_hash()],
        )
        .await?;
    transaction.execute("select projection.open_schema($1)", &[&schema]).await?;
    Ok(())
}

/// Makes the functions of versions that another program has made anew, whatever their folders say
/// by now.
async fn make_functions_anew(client: &mut Client) -> Result<(), InstallError> {
    let engine = generate::engine_hash();
    let old: Vec<(String, String)> = client
        .query("select projection, version from projection.versions where engine <> $1", &[&engine])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    for version in versions::versions(client).await? {
        let definition = version.definition;
        if old.contains(&(definition.name.clone(), definition.version.clone())) {
            let transaction = client.transaction().await?;
            make_functions(&transaction, &definition).await?;
            transaction.commit().await?;
        }
    }
    Ok(())
}

/// Refuses names of streams with anything in braces but columns of the key.
fn check_streams(definition: &Definition, columns: &[Column]) -> Result<(), String> {
    let is_key =
        |name: &str| columns.iter().any(|c| c.name == name && c.key.is_some_and(|place| place > 1));
    let mut named = definition.streams.iter().flat_map(|stream| as_of::placeholders(stream));
    match named.find(|name| !is_key(name)) {
        Some(name) => Err(format!("projection.toml: streams: {{{name}}} is no column of the key")),
        None => Ok(()),
    }
}

pub(crate) async fn table_columns(
    transaction: &Transaction<'_>,
    definition: &Definition,
) -> Result<Vec<Column>, tokio_postgres::Error> {
    let rows = transaction
        .query(include_str!("../sql/columns.sql"), &[&definition.schema(), &definition.name])
        .await?;
    let columns = rows.iter().map(|row| Column {
        name: row.get(0),
        sql_type: row.get(1),
        collation: row.get(2),
        default: row.get(3),
        key: row.get(4),
    });
    Ok(columns.collect())
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn of_an_errors_context_only_the_folders_functions_are_shown() {
        let context = "SQL statement \"with event as (\n  select 1)\"\n\
            PL/pgSQL function read_t_0.t__apply(read_t_0.t__row,projection.event) line 7 at RAISE\n\
            SQL function \"t__keys\" statement 1\n\
            PL/pgSQL function read_t_0.t__advance(integer,uuid) line 8 at SQL statement";
        let shown: Vec<_> = places(context).collect();
        assert_eq!(shown, ["read_t_0.t__apply line 7 at RAISE", "\"t__keys\" statement 1"]);
    }
}

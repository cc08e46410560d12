//! Making tables and functions of the declared projections; safe to run again.

use tokio_postgres::{Client, Transaction};

use crate::{
    catalogue::{Catalogue, Definition},
    generate::{self, Column},
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
    for more in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(&more.replace('\n', " "));
    }
    text
}

/// Brings the engine's own tables to this program's version. Safe to run again.
pub async fn migrate(client: &mut Client) -> Result<(), refinery::Error> {
    embedded::migrations::runner()
        .set_migration_table_name("daybook_migrations_projection")
        .run_async(client)
        .await
        .map(|_report| ())
}

/// Makes table and functions of every projection of the catalogue, each in a transaction of its
/// own. One that is installed already with the same definition is left alone; one whose
/// definition has changed loses its rows and begins again at position 0, from where a running
/// projector brings it up to date.
pub async fn install(client: &mut Client, catalogue: &Catalogue) -> Result<(), InstallError> {
    for definition in catalogue.projections() {
        let transaction = client.transaction().await?;
        install_one(&transaction, definition).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn install_one(
    transaction: &Transaction<'_>,
    definition: &Definition,
) -> Result<(), InstallError> {
    let name = &definition.name;
    let refused = |source| InstallError::Refused { projection: name.clone(), source };
    if JOURNAL_VIEWS.contains(&name.as_str()) {
        let detail = format!("analysts have a view analyst.{name} already: choose another name");
        return Err(InstallError::Table { projection: name.clone(), detail });
    }
    // one at a time, also from several processes
    transaction
        .execute("select pg_advisory_xact_lock(hashtext('daybook.projection.install'))", &[])
        .await?;
    let installed = transaction
        .query_opt(
            "select definition, engine from projection.definitions where projection = $1",
            &[name],
        )
        .await?;
    let engine = generate::engine_hash();
    let (same_definition, same_engine) = installed.as_ref().map_or((false, false), |row| {
        (row.get::<_, &str>(0) == definition.hash, row.get::<_, &str>(1) == engine)
    });
    if same_definition && same_engine {
        return show_analysts(transaction, name).await.map_err(refused);
    }

    transaction.batch_execute(&generate::drop_functions(name)).await.map_err(refused)?;
    if !same_definition {
        if installed.is_some() {
            tracing::warn!(
                projection = name,
                "the definition has changed: folding from position 0"
            );
        }
        transaction
            .batch_execute(&format!(
                "drop view if exists analyst.{name}; \
                 drop table if exists read.{name}, read.{name}__staging"
            ))
            .await
            .map_err(refused)?;
        transaction
            .execute("delete from projection.checkpoints where projection = $1", &[name])
            .await?;
        transaction.batch_execute(&definition.table_sql).await.map_err(refused)?;
    }
    let columns = table_columns(transaction, name).await.map_err(refused)?;
    let functions = generate::functions(definition, &columns)
        .map_err(|detail| InstallError::Table { projection: name.clone(), detail })?;
    transaction.batch_execute(&functions).await.map_err(refused)?;
    transaction
        .execute(
            "insert into projection.definitions (projection, definition, engine, title)
             values ($1, $2, $3, $4)
             on conflict (projection) do update set definition = excluded.definition,
                engine = excluded.engine, title = excluded.title, installed_at = clock_timestamp()",
            &[name, &definition.hash, &engine, &definition.title],
        )
        .await?;
    show_analysts(transaction, name).await.map_err(refused)?;
    tracing::info!(projection = name, "installed");
    Ok(())
}

/// Analysts read a view, so that nothing of theirs depends on the table. One that stands is left
/// alone: to replace it would wait for everybody who reads it.
async fn show_analysts(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<(), tokio_postgres::Error> {
    let stands: bool = transaction
        .query_one("select to_regclass('analyst.' || $1) is not null", &[&name])
        .await?
        .get(0);
    if stands {
        return Ok(());
    }
    transaction
        .batch_execute(&format!("create view analyst.{name} as select * from read.{name}"))
        .await
}

async fn table_columns(
    transaction: &Transaction<'_>,
    name: &str,
) -> Result<Vec<Column>, tokio_postgres::Error> {
    let rows = transaction.query(include_str!("../sql/columns.sql"), &[&name]).await?;
    let columns = rows.iter().map(|row| Column {
        name: row.get(0),
        sql_type: row.get(1),
        collation: row.get(2),
        default: row.get(3),
        key: row.get(4),
    });
    Ok(columns.collect())
}

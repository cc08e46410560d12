//! The feed's own tables.

mod embedded {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations");
}

/// Brings schema `feed` to this program's version. Safe to run again.
pub async fn migrate(client: &mut tokio_postgres::Client) -> Result<(), refinery::Error> {
    embedded::migrations::runner()
        .set_migration_table_name("daybook_migrations_feed")
        .run_async(client)
        .await
        .map(|_report| ())
}

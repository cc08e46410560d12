//! `daybook tenants …`: shops with a journal of their own.

use daybook_journal::{JournalError, Reader};

use crate::{cli::Tenants, config::Settings, database, tools::say, wiring};

/// Does what `daybook tenants` is asked.
pub(crate) async fn run(settings: &Settings, command: Tenants) -> anyhow::Result<()> {
    let reader = Reader::new(wiring::pool(settings, database::owner(settings)?)?);
    let known = wiring::tenants(&reader).await?;
    match command {
        Tenants::Add { name } => {
            let tenant = match reader.add_tenant(&name, settings.topic_partitions).await {
                Err(error @ JournalError::TenantName(_)) => {
                    anyhow::bail!("{error}; for example second-shop")
                }
                other => other?,
            };
            if known.contains(&tenant) {
                say(&format!("tenant {name} is there already (number {})", tenant.id));
            } else {
                say(&format!(
                    "tenant {name} is made (number {}, Kafka partition {}). Processes that are \
                     running take it up when they are started again; `daybook --tenant {name} \
                     keys create --role operator` makes a key for it.",
                    tenant.id, tenant.partition
                ));
            }
        }
        Tenants::List => {
            for tenant in known {
                let head = reader.head(tenant.id).await?;
                say(&format!(
                    "{:20} number {:>4}  Kafka partition {:>3}  last position {head:>11}",
                    tenant.name, tenant.id, tenant.partition
                ));
            }
        }
    }
    Ok(())
}

//! Making the parts that roles and tools share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use daybook_commands::{Shop, ShopModel, ShopSettings, schemas};
use daybook_feed::FeedConfig;
use daybook_identity::Sealer;
use daybook_journal::{
    Activations, Reader, Tenant, Writer, WriterConfig, WriterTask,
    activation::{self, ProcessTask},
};
use daybook_projection::Catalogue;
use daybook_work::TokenSeal;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Config, NoTls};

use crate::{config::Settings, secrets::Secrets};

/// How long a query waits for a connection.
const POOL_WAIT: Duration = Duration::from_secs(5);

/// A pool of connections for queries, all with one login.
pub(crate) fn pool(settings: &Settings, config: Config) -> anyhow::Result<Pool> {
    let manager = Manager::from_config(
        config,
        NoTls,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    Pool::builder(manager)
        .max_size(settings.database_connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_WAIT))
        .create_timeout(Some(POOL_WAIT))
        .build()
        .context("the connection pool can't be made")
}

/// How the feed's parts reach Kafka.
pub(crate) fn feed(settings: &Settings) -> anyhow::Result<FeedConfig> {
    Ok(FeedConfig {
        brokers: settings.brokers()?.to_owned(),
        topic: settings.topic.clone(),
        partitions: settings.topic_partitions,
        replication: settings.topic_replication,
        min_insync: settings.topic_min_insync,
        ..FeedConfig::default()
    })
}

/// The read models that the settings' folder declares.
pub(crate) fn catalogue(settings: &Settings) -> anyhow::Result<Catalogue> {
    let dir = &settings.projections_dir;
    let catalogue = Catalogue::load(dir)
        .with_context(|| format!("setting projections_dir: read models in {}", dir.display()))?;
    Ok(catalogue.reading(&schemas::upcasters()))
}

/// All tenants; an error that says what to do where the database is empty.
pub(crate) async fn tenants(reader: &Reader) -> anyhow::Result<Vec<Tenant>> {
    let tenants = reader.tenants().await.context(
        "the journal can't be read (`daybook doctor` says more; a new database wants \
         `daybook migrate` first)",
    )?;
    anyhow::ensure!(!tenants.is_empty(), "there is no tenant yet: run `daybook migrate`");
    Ok(tenants)
}

/// The tenant that the command line works on.
pub(crate) async fn tenant(reader: &Reader, settings: &Settings) -> anyhow::Result<Tenant> {
    let tenants = tenants(reader).await?;
    let names: Vec<String> = tenants.iter().map(|tenant| tenant.name.clone()).collect();
    tenants.into_iter().find(|tenant| tenant.name == settings.tenant).with_context(|| {
        format!("there is no tenant {}; there are: {}", settings.tenant, names.join(", "))
    })
}

/// Registers this process as one that reads what this program reads: the versions that may be
/// written, and the task that keeps that view fresh. An error where a newer program is needed.
pub(crate) async fn register(
    pool: &Pool,
    roles: &str,
) -> anyhow::Result<(Activations, ProcessTask)> {
    let client = pool.get().await?;
    anyhow::ensure!(
        schemas::upcasters().installed(&**client).await?,
        "the database can't lift old events to what this program reads: run `daybook migrate`"
    );
    drop(client);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!("{roles}@{}:{}", machine.trim(), std::process::id());
    Ok(activation::register(pool.clone(), name, &schemas::event_versions()).await?)
}

/// A shop for every tenant, and its writers' tasks, which append with the login in `config` what is
/// activated.
pub(crate) fn shop(
    settings: &Settings,
    config: &Config,
    secrets: &Secrets,
    tenants: &[Tenant],
    activations: &Activations,
) -> anyhow::Result<(Shop, Vec<WriterTask<ShopModel>>)> {
    let limits = WriterConfig {
        queue_commands: settings.queue_commands,
        batch_commands: settings.batch_commands,
        batch_events: settings.batch_events,
        snapshot_events: settings.snapshot_events,
        cache_bytes: settings.cache_mib << 20,
        event_bytes: settings.event_bytes,
        command_events: settings.events_per_command,
        command_streams: settings.streams_per_command,
        ..WriterConfig::default()
    };
    let keys = secrets.mac_keys()?;
    let mut writers = HashMap::new();
    let mut tasks = Vec::new();
    for tenant in tenants {
        let model = Arc::new(
            ShopModel::new(ShopSettings {
                tenant: tenant.name.clone(),
                reservation_ms: settings.reservation_s.saturating_mul(1000),
                payment_deadline_ms: settings.payment_deadline_s.saturating_mul(1000),
                flat_shipping: settings.flat_shipping()?,
                partners_charge: settings.partners_charge,
                ..ShopSettings::default()
            })
            .writing(activations.clone()),
        );
        let (writer, task) =
            Writer::new(config.clone(), tenant.clone(), model, keys.clone(), limits.clone());
        writers.insert(tenant.id, writer);
        tasks.push(task);
    }
    let seal = Arc::new(token_seal(secrets)?);
    Ok((Shop::new(writers, seal, secrets.fingerprint()?.to_vec()), tasks))
}

/// What seals and opens gateway tokens in job rows.
pub(crate) fn token_seal(secrets: &Secrets) -> anyhow::Result<TokenSeal> {
    Ok(TokenSeal::new(Sealer::new(secrets.installation()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_models_are_folded_through_the_shops_upcasters() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let plain = Catalogue::load(&folder).unwrap();
        let settings = Settings { projections_dir: folder, ..Settings::default() };
        let ours = catalogue(&settings).unwrap();
        let same = |name: &str| {
            let version = |of: &Catalogue| of.projection(name).unwrap().version().to_owned();
            version(&plain) == version(&ours)
        };
        assert!(!same("orders"), "an upcaster of OrderPlaced concerns it");
        assert!(same("stock"), "none concerns it");
    }
}

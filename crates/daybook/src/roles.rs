//! Running roles until somebody says stop, and stopping so that no accepted request is lost.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use daybook_api::{ApiDeps, Check, Limits};
use daybook_feed::Relay;
use daybook_identity::{ApiKeys, TokenSealer};
use daybook_journal::{Heads, Janitor, JanitorSettings, Reader, check_durability};
use daybook_projection::{AsOfLimits, Projector, ProjectorSettings, Queries, ReadPositions};
use daybook_work::{SandboxGateway, Worker, WorkerDeps, WorkerSettings};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    database::{self, Login},
    secrets::Secrets,
    wiring,
};

/// How often recorded metrics are condensed.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Serve,
    Relay,
    Project,
    Work,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Serve, Self::Relay, Self::Project, Self::Work];

    /// What it logs in to PostgreSQL as, also where several roles share a process.
    fn login(self) -> Login {
        match self {
            Self::Serve => Login::Serve,
            Self::Relay => Login::Relay,
            Self::Project => Login::Project,
            Self::Work => Login::Work,
        }
    }

    fn uses_read_models(self) -> bool {
        matches!(self, Self::Serve | Self::Project)
    }
}

/// A role's own way to PostgreSQL.
struct Access {
    config: tokio_postgres::Config,
    pool: deadpool_postgres::Pool,
    reader: Reader,
    /// Its way to the read models; the same where they live beside the journal.
    read_config: tokio_postgres::Config,
}

impl Access {
    fn new(settings: &Settings, role: Role) -> anyhow::Result<Self> {
        let config = database::config(settings, role.login())?;
        let pool = wiring::pool(settings, config.clone())?;
        let elsewhere = settings.reads_elsewhere() && role.uses_read_models();
        let read_config =
            if elsewhere { database::read_config(settings, role.login())? } else { config.clone() };
        Ok(Self { config, reader: Reader::new(pool.clone()), pool, read_config })
    }
}

/// Tasks of one process, in two stages: what takes requests stops first, what they rely on after.
struct Process {
    front: JoinSet<(&'static str, anyhow::Result<()>)>,
    back: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop_front: CancellationToken,
    stop_back: CancellationToken,
}

/// Runs the roles until SIGINT or SIGTERM, or until one of them fails.
pub(crate) async fn run(settings: Settings, roles: &[Role]) -> anyhow::Result<()> {
    let mut process = Process {
        front: JoinSet::new(),
        back: JoinSet::new(),
        stop_front: CancellationToken::new(),
        stop_back: CancellationToken::new(),
    };
    // Heard from the first moment on: who stops a process that is starting means it as well.
    let signal = stop_signal()?;
    tokio::pin!(signal);
    tokio::select! {
        started = start(&settings, roles, &mut process) => started?,
        name = &mut signal => {
            tracing::info!(signal = name, "stopped before anything was accepted");
            return Ok(());
        }
    }
    let failed = tokio::select! {
        name = &mut signal => {
            tracing::info!(signal = name, "stopping: finishing what was accepted");
            None
        }
        Some(ended) = process.front.join_next() => Some(ended),
        Some(ended) = process.back.join_next() => Some(ended),
    };
    let mut result = match failed {
        None => Ok(()),
        Some(Ok((name, Ok(())))) => Err(anyhow::anyhow!("role {name} ended by itself")),
        Some(Ok((name, Err(error)))) => Err(error.context(format!("role {name} failed"))),
        Some(Err(panic)) => Err(anyhow::Error::new(panic).context("a role panicked")),
    };
    let limit = Duration::from_secs(settings.shutdown_s);
    process.stop_front.cancel();
    let drained = tokio::time::timeout(limit, async {
        drain(&mut process.front, &mut result).await;
        process.stop_back.cancel();
        drain(&mut process.back, &mut result).await;
    });
    if drained.await.is_err() {
        tracing::warn!(limit_s = settings.shutdown_s, "stopped before everything was finished");
    }
    result
}

async fn drain(
    tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    result: &mut anyhow::Result<()>,
) {
    while let Some(ended) = tasks.join_next().await {
        if let Ok((name, Err(error))) = ended
            && result.is_ok()
        {
            *result = Err(error.context(format!("role {name} failed while stopping")));
        }
    }
}

async fn start(settings: &Settings, roles: &[Role], process: &mut Process) -> anyhow::Result<()> {
    let secrets = Secrets::new(&settings.secrets_dir);
    // First, so that nothing is counted before anybody counts.
    let metrics = if roles.contains(&Role::Serve) { Some(record_metrics(process)?) } else { None };
    let mut access = HashMap::new();
    for role in roles {
        let user = database::check(settings, role.login()).await?;
        tracing::info!(role = role.login().as_str(), user, "logs in to PostgreSQL");
        if settings.reads_elsewhere() && role.uses_read_models() {
            let user = database::check_read(settings, role.login()).await?;
            tracing::info!(role = role.login().as_str(), user, "logs in to the read models");
        }
        access.insert(*role, Access::new(settings, *role)?);
    }
    let any = access.values().next().context("there is no role to run")?;
    let tenants = wiring::tenants(&any.reader).await?;

    // The relay passes events on without reading them.
    let reading = roles.iter().find(|role| **role != Role::Relay).and_then(|role| access.get(role));
    let activations = match reading {
        Some(own) => {
            let names: Vec<&str> = roles.iter().map(|role| role.login().as_str()).collect();
            let (activations, task) = wiring::register(&own.pool, &names.join("+")).await?;
            let stop = process.stop_back.clone();
            process.back.spawn(async move {
                ("activations", task.run(stop).await.map_err(anyhow::Error::new))
            });
            Some(activations)
        }
        None => None,
    };

    // How far the journal reaches is the same for all: one connection listens for the process.
    let heads = match access.get(&Role::Serve).or(access.get(&Role::Relay)) {
        Some(own) => {
            let (heads, heads_task) = Heads::new(own.config.clone(), own.reader.clone());
            let stop = process.stop_back.clone();
            process.back.spawn(async move {
                heads_task.run(stop).await;
                ("heads", Ok(()))
            });
            Some(heads)
        }
        None => None,
    };
    // A process has one writer a tenant: in one that serves and works, results are recorded through
    // the writer that serves, with its login. Two would stand in each other's way.
    let writing = access.get(&Role::Serve).or(access.get(&Role::Work));
    let shop = match writing.zip(activations) {
        Some((own, activations)) => {
            // What is acknowledged must be kept: it is refused at once, not with the first command.
            check_durability(&**own.pool.get().await?).await??;
            let (shop, writers) =
                wiring::shop(settings, &own.config, &secrets, &tenants, &activations)?;
            for writer in writers {
                let stop = process.stop_back.clone();
                process.back.spawn(async move {
                    writer.run(stop).await;
                    ("writer", Ok(()))
                });
            }
            Some(shop)
        }
        None => None,
    };

    if let Some(own) = access.remove(&Role::Relay)
        && let Some(heads) = &heads
    {
        let relay =
            Relay::new(wiring::feed(settings)?, own.pool, own.config, own.reader, heads.clone());
        let stop = process.stop_back.clone();
        process
            .back
            .spawn(async move { ("relay", relay.run(stop).await.map_err(anyhow::Error::new)) });
    }
    if let Some(own) = access.remove(&Role::Project) {
        let projector = Projector::new(
            own.read_config,
            own.reader,
            ProjectorSettings {
                // Installations that share a cluster share no topic, and so no group.
                group: format!("{}.projector", settings.topic),
                ..ProjectorSettings::default()
            },
        );
        let feed = wiring::feed(settings)?;
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            projector.run(feed, stop).await;
            ("project", Ok(()))
        });
    }
    if let Some(own) = access.remove(&Role::Work)
        && let Some(shop) = &shop
    {
        let janitor = Janitor::new(
            own.config.clone(),
            JanitorSettings {
                keep_jobs: Duration::from_secs(settings.jobs_keep_s),
                ..JanitorSettings::default()
            },
        );
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            janitor.run(stop).await;
            ("janitor", Ok(()))
        });
        let deps = WorkerDeps {
            pool: own.pool.clone(),
            listen: own.config,
            shop: shop.clone(),
            gateway: Arc::new(SandboxGateway::new(own.pool)),
            seal: wiring::token_seal(&secrets)?,
            settings: WorkerSettings {
                concurrency: settings.worker_jobs,
                command_deadline_ms: settings.command_deadline_ms,
                ..WorkerSettings::default()
            },
        };
        let stop = process.stop_front.clone();
        process.front.spawn(async move {
            Worker::run(deps, stop).await;
            ("work", Ok(()))
        });
    }
    if let Some(own) = access.remove(&Role::Serve)
        && let (Some(shop), Some(heads), Some(metrics)) = (shop, heads, metrics)
    {
        let (positions, positions_task) = ReadPositions::new(own.read_config);
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            positions_task.run(stop).await;
            ("read positions", Ok(()))
        });
        // Declared queries log in apart: whatever their SQL says, they see one tenant's read models.
        let user = if settings.reads_elsewhere() {
            database::check_read(settings, Login::Query).await?
        } else {
            database::check(settings, Login::Query).await?
        };
        tracing::info!(role = Login::Query.as_str(), user, "logs in to PostgreSQL");
        let query_pool = wiring::pool(settings, database::read_config(settings, Login::Query)?)?;
        let (queries, queries_task) = Queries::with_limits(
            query_pool,
            positions,
            AsOfLimits {
                folds: settings.as_of_folds,
                deadline: Duration::from_secs(settings.as_of_deadline_s.into()),
            },
            settings.reads_elsewhere().then(|| own.reader.clone()),
        );
        queries.reload().await.context("the declared queries can't be read")?;
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            queries_task.run(stop).await;
            ("queries", Ok(()))
        });
        let writers = shop.clone();
        let deps = ApiDeps {
            shop,
            reader: own.reader,
            heads,
            keys: ApiKeys::new(own.pool.clone()),
            tokens: TokenSealer::new(secrets.token()?),
            queries,
            metrics,
            pool: own.pool,
            checks: vec![Check {
                name: "writer",
                required: true,
                probe: Arc::new(move || {
                    writers.ready().map_err(|(tenant, trouble)| format!("{tenant}: {trouble}"))
                }),
            }],
            limits: Limits {
                body_bytes: usize::try_from(settings.body_bytes).unwrap_or(usize::MAX),
                command_deadline: Duration::from_millis(settings.command_deadline_ms),
                keep_keys: Duration::from_secs(settings.idempotency_keep_s),
                queue_commands: settings.queue_commands,
                waiters: settings.waiters,
                streams: settings.streams,
                streams_of_principal: settings.streams_of_principal,
                ..Limits::default()
            },
        };
        let listener = listen("listen", settings.listen).await?;
        let operations = listen("metrics_listen", settings.metrics_listen).await?;
        tracing::info!(
            address = %listener.local_addr()?, metrics = %operations.local_addr()?, "serving"
        );
        let stop = process.stop_front.clone();
        process.front.spawn(async move {
            let served = daybook_api::serve(deps, listener, operations, stop).await;
            ("serve", served.map_err(anyhow::Error::new))
        });
    }
    Ok(())
}

async fn listen(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("setting {setting}: {address} can't be listened on"))
}

/// Starts recording metrics, and what keeps their memory bounded.
fn record_metrics(
    process: &mut Process,
) -> anyhow::Result<metrics_exporter_prometheus::PrometheusHandle> {
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Full(daybook_api::DURATION_METRIC.to_owned()),
            daybook_api::DURATION_BUCKETS,
        )
        .and_then(metrics_exporter_prometheus::PrometheusBuilder::install_recorder)
        .context("metrics can't be recorded")?;
    let (upkeep, stop) = (metrics.clone(), process.stop_back.clone());
    process.back.spawn(async move {
        let mut ticks = tokio::time::interval(METRICS_UPKEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return ("metrics", Ok(())),
                _ = ticks.tick() => upkeep.run_upkeep(),
            }
        }
    });
    Ok(metrics)
}

/// Completes with the signal's name when the process is asked to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

//! Running roles until somebody says stop, and stopping so that no accepted request is lost.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use daybook_api::{ApiDeps, Check, Limits};
use daybook_feed::Relay;
use daybook_identity::ApiKeys;
use daybook_journal::{Heads, Reader};
use daybook_projection::{Projector, ProjectorSettings, Queries, ReadPositions};
use daybook_work::{SandboxGateway, Worker, WorkerDeps, WorkerSettings};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{config::Settings, secrets::Secrets, wiring};

/// How often recorded metrics are condensed.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Serve,
    Relay,
    Project,
    Work,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Serve, Self::Relay, Self::Project, Self::Work];

    fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Relay => "relay",
            Self::Project => "project",
            Self::Work => "work",
        }
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
    start(&settings, roles, &mut process).await?;
    let signal = stop_signal()?;
    let failed = tokio::select! {
        name = signal => {
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
    let has = |role| roles.contains(&role);
    let secrets = Secrets::new(&settings.secrets_dir);
    let pool = wiring::pool(settings)?;
    let reader = Reader::new(pool.clone());
    let tenants = wiring::tenants(&reader).await?;
    let (heads, heads_task) = Heads::new(settings.database()?, reader.clone());
    let stop = process.stop_back.clone();
    process.back.spawn(async move {
        heads_task.run(stop).await;
        ("heads", Ok(()))
    });

    // The relay passes events on without reading them.
    let activations = if roles.iter().any(|role| *role != Role::Relay) {
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let (activations, task) = wiring::register(&pool, &names.join("+")).await?;
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            ("activations", task.run(stop).await.map_err(anyhow::Error::new))
        });
        Some(activations)
    } else {
        None
    };
    let shop =
        if let Some(activations) = activations.filter(|_| has(Role::Serve) || has(Role::Work)) {
            let (shop, writers) = wiring::shop(settings, &secrets, &tenants, &activations)?;
            for writer in writers {
                let stop = process.stop_back.clone();
                process.back.spawn(async move {
                    writer.run(stop).await;
                    ("writer", Ok(()))
                });
            }
            Some(shop)
        } else {
            None
        };

    if has(Role::Relay) {
        let relay = Relay::new(
            wiring::feed(settings)?,
            pool.clone(),
            settings.database()?,
            reader.clone(),
            heads.clone(),
        );
        let stop = process.stop_back.clone();
        process
            .back
            .spawn(async move { ("relay", relay.run(stop).await.map_err(anyhow::Error::new)) });
    }
    if has(Role::Project) {
        let projector = Projector::new(
            settings.database()?,
            reader.clone(),
            wiring::catalogue(settings)?,
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
    if has(Role::Work)
        && let Some(shop) = &shop
    {
        let deps = WorkerDeps {
            pool: pool.clone(),
            listen: settings.database()?,
            shop: shop.clone(),
            gateway: Arc::new(SandboxGateway::new(pool.clone())),
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
    if has(Role::Serve)
        && let Some(shop) = shop
    {
        let metrics = record_metrics(process)?;
        let (positions, positions_task) = ReadPositions::new(settings.database()?);
        let stop = process.stop_back.clone();
        process.back.spawn(async move {
            positions_task.run(stop).await;
            ("read positions", Ok(()))
        });
        let queries = Queries::new(pool.clone(), &*wiring::catalogue(settings)?, positions);
        let writers = shop.clone();
        let deps = ApiDeps {
            shop,
            reader,
            heads,
            keys: ApiKeys::new(pool.clone()),
            queries,
            metrics,
            pool,
            checks: vec![Check {
                name: "writer",
                required: true,
                probe: Arc::new(move || {
                    if writers.is_alive() { Ok(()) } else { Err("stopped".to_owned()) }
                }),
            }],
            limits: Limits {
                body_bytes: usize::try_from(settings.body_bytes).unwrap_or(usize::MAX),
                command_deadline: Duration::from_millis(settings.command_deadline_ms),
                keep_keys: Duration::from_secs(settings.idempotency_keep_s),
                ..Limits::default()
            },
        };
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("setting listen: {} can't be listened on", settings.listen))?;
        tracing::info!(address = %settings.listen, "serving");
        let stop = process.stop_front.clone();
        process.front.spawn(async move {
            ("serve", daybook_api::serve(deps, listener, stop).await.map_err(anyhow::Error::new))
        });
    }
    Ok(())
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

//! The listener: connections with limits, and an end that finishes what was accepted.

mod patient;

use std::{error::Error, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    ApiDeps, Limits,
    app::{self, App, Door},
};
use patient::{Patient, TooSlow};

/// Bytes that a connection holds of what is on its way, unless its headers may be longer.
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections to the listener for operations at once.
const OPERATIONS_CONNECTIONS: usize = 32;
/// Pause after the operating system refused to accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serving ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Requests were still running when the time for draining was over.
    #[error("{0} connections were cut: they did not end in time")]
    Cut(usize),
}

/// Answers requests until `shutdown`, then finishes those that were accepted, for at most
/// [`crate::Limits::drain`]. Runs on HTTP/1.1; a proxy in front may speak what it likes. On
/// `operations`, and nowhere else, are `/metrics` and the details of `/readyz`, without a key.
pub async fn serve(
    deps: ApiDeps,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let limits = deps.limits.clone();
    let few = Limits { connections: OPERATIONS_CONNECTIONS, ..limits.clone() };
    let app = Arc::new(App::new(deps, shutdown.clone()));
    let (public, operations) = tokio::join!(
        answer(Arc::clone(&app), Door::Public, listener, &limits, &shutdown),
        answer(app, Door::Operations, operations, &few, &shutdown),
    );
    public.and(operations)
}

/// Answers what comes in by one listener.
async fn answer(
    app: Arc<App>,
    door: Door,
    listener: TcpListener,
    limits: &Limits,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let service = warp::service(app::filter(app, door));

    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_wait)
        .max_header_size(limits.header_bytes)
        // What a client that does not read may keep waiting here.
        .max_buf_size(limits.header_bytes.max(BUFFER_BYTES));
    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        let service = TowerToHyperService::new(service.clone());
        let stream = TokioIo::new(Patient::new(stream, limits.write_wait));
        let connection = http.serve_connection(stream, service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                broken(&error);
            }
            drop(permit);
        });
    }

    drop(listener);
    let open = connections.count();
    tracing::info!(?door, open, "no longer accepting; finishing what was accepted");
    match tokio::time::timeout(limits.drain, connections.shutdown()).await {
        Ok(()) => Ok(()),
        Err(_elapsed) => {
            Err(ServeError::Cut(limits.connections.saturating_sub(room.available_permits())))
        }
    }
}

/// Says why a connection ended, where it is worth knowing.
fn broken(error: &hyper::Error) {
    let mut cause = error.source();
    let reason = loop {
        let Some(known) = cause else { break None };
        // An I/O error is not what it carries: that is asked for.
        let carried = known.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(reason) = carried.and_then(|carried| carried.downcast_ref::<TooSlow>()) {
            break Some(reason);
        }
        cause = known.source();
    };
    if let Some(reason) = reason {
        metrics::counter!("daybook_http_connections_cut_total", "reason" => "too-slow")
            .increment(1);
        tracing::info!(%reason, "a connection was cut");
    } else {
        tracing::debug!(%error, "a connection broke");
    }
}

/// The next connection, once there is room for it; `None` if it could not be had.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and complete: waiting to fill a packet only delays them.
            stream.set_nodelay(true).ok();
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

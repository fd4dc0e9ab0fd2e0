//! Accepts connections, as many as the bound allows, and runs HTTP/1.1 on them.
//!
//! A connection costs nothing but its socket until it sends a request; one that sends none is
//! closed after a while. Knows nothing of paths.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::limits;
use crate::metrics::Metrics;
use crate::stall::StallGuard;

/// What a connection beyond the bound is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 165\r\n\r\n\
    {\"type\":\"urn:tidemill:problem:unavailable\",\"title\":\"Too many connections\",\
    \"status\":503,\
    \"detail\":\"all connections are taken; close some of yours, or try again later\"}";

/// How many connections this process may hold. Raises its bound on open files as far as the
/// system lets it, as the usual soft bound of 1,024 is meant for programs that know no better.
pub(crate) fn connections_max(configured: usize) -> usize {
    let wanted = configured.saturating_add(limits::FILES_RESERVED) as u64;
    let limit = getrlimit(Resource::Nofile);
    let mut files = limit.current.unwrap_or(u64::MAX);
    if files < wanted {
        let raised = Rlimit {
            current: Some(limit.maximum.map_or(wanted, |most| most.min(wanted))),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            files = raised.current.unwrap_or(files);
        }
    }
    let free = usize::try_from(files).unwrap_or(usize::MAX);
    let most = configured
        .min(free.saturating_sub(limits::FILES_RESERVED))
        .max(1);
    if most < configured {
        tracing::warn!(
            most,
            configured,
            "fewer connections; raise the bound on open files"
        );
    }
    most
}

/// Accepts until `shutdown` resolves, then gives open requests
/// [`limits::SHUTDOWN_GRACE`] to end and closes what is left.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    shutdown: impl Future<Output = ()>,
) {
    let (ending, ended) = watch::channel(());
    let mut open = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Frees what ended connections leave behind.
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let place = Place::new(place, Arc::clone(&metrics));
                open.spawn(run((stream, peer), place, router.clone(), ended.clone()));
            }
            Err(_) => refuse(&stream, &metrics),
        }
    }
    drop(listener);
    drop(ending);
    let all_ended = async { while open.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(limits::SHUTDOWN_GRACE, all_ended).await;
    if in_time.is_err() {
        tracing::warn!(
            open = open.len(),
            "requests did not end in time and are cut off"
        );
    }
    open.shutdown().await;
}

/// Tells a connection beyond the bound so, as far as that needs no waiting.
fn refuse(stream: &TcpStream, metrics: &Metrics) {
    metrics.connections_refused.inc();
    let _ = stream.try_write(REFUSAL);
}

/// A connection that was gone before it was accepted says nothing about the next one; anything
/// else (too many open files) needs a moment.
pub(crate) async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; raise the bound on open files");
    tokio::time::sleep(limits::ACCEPT_RETRY).await;
}

/// Runs HTTP/1.1 on one connection until it ends or becomes a WebSocket. Once the sender of
/// `ended` is gone, the request under way is the last one.
async fn run(
    (stream, peer): (TcpStream, SocketAddr),
    place: Place,
    router: Router,
    mut ended: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let stalled = place.metrics.connections_stalled.clone();
    let connection = place.connection;
    let guarded = StallGuard::new(stream, place, limits::WRITE_STALL_TIMEOUT, stalled);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_READ_TIMEOUT)
        .max_headers(limits::HEADERS_MAX)
        .max_header_size(limits::HEAD_MAX_BYTES)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES);
    let service = Numbered {
        service: TowerToHyperService::new(router),
        connection,
        peer: PeerAddress(peer),
    };
    let connection = builder
        .serve_connection(TokioIo::new(guarded), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let done = tokio::select! {
        done = &mut connection => done,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Tells each request which connection it came by.
struct Numbered<S> {
    service: S,
    connection: ConnectionId,
    peer: PeerAddress,
}

impl<S: Service<hyper::Request<Incoming>>> Service<hyper::Request<Incoming>> for Numbered<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: hyper::Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.connection);
        request.extensions_mut().insert(self.peer);
        self.service.call(request)
    }
}

/// The number of a connection; none comes twice. Each has one request at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

impl ConnectionId {
    /// The next one.
    pub(crate) fn next() -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Self(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }
}

/// One of the bounded number of connections; counted while it lives.
struct Place {
    connection: ConnectionId,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self {
            connection: ConnectionId::next(),
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}

//! What the integration tests share: a server on a free port, and clients that say what they got.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod certificates;
pub(crate) mod cutter;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod receiver;
pub(crate) mod socketio;
pub(crate) mod sse;
pub(crate) mod stock;
pub(crate) mod ws;

use std::net::SocketAddr;

use tidemill_broker::Broker;
use tidemill_server::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Enough for every test; a broker in memory refuses writes at its bound.
const MEMORY_BYTES: u64 = 1024 * 1024 * 1024;

/// A running server over a real broker, which is in memory unless told otherwise. Stops when
/// dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    /// On its defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With changed settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        Self::over(broker().await, config).await
    }

    /// Over this broker.
    pub(crate) async fn over(broker: Broker, config: Config) -> Self {
        let server = Server::bind(broker.clone(), config).await.unwrap();
        Self::of(broker, server)
    }

    /// This server, which is bound to its addresses.
    pub(crate) fn of(broker: Broker, server: Server) -> Self {
        let address = server.http_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            broker,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn client(&self) -> http::Client {
        http::Client::new(self.address)
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.take();
        (&mut self.task).await.unwrap();
    }
}

pub(crate) async fn broker() -> Broker {
    let builder = Broker::builder().in_memory(MEMORY_BYTES);
    builder.open().await.unwrap()
}

/// Tries to open a server that never runs.
pub(crate) async fn bind(address: SocketAddr, insecure: bool) -> Result<SocketAddr, String> {
    let mut config = Config::at(address);
    config.insecure = insecure;
    let server = Server::bind(broker().await, config).await;
    server
        .map(|server| server.http_addr())
        .map_err(|error| error.to_string())
}

/// Bytes of memory that this process holds; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! What the integration tests share: a server on a free port, and clients that say what they got.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod bus;
pub(crate) mod http;
pub(crate) mod socketio;

use std::net::SocketAddr;

use tidemill_server::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running server; stops when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Over a bus in memory, on its defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Over a bus in memory, with changed settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let server = Server::bind_bus(bus::in_memory(), config).await.unwrap();
        let address = server.http_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
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

/// Tries to open a server that never runs.
pub(crate) async fn bind(address: SocketAddr, insecure: bool) -> Result<SocketAddr, String> {
    let mut config = Config::at(address);
    config.insecure = insecure;
    let server = Server::bind_bus(bus::in_memory(), config).await;
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

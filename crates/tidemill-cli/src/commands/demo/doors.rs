//! What listens while the demo runs, beside the shop: the broker's doors, and the text messages.
//!
//! This room may not know orders.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidemill::Bus;
use tidemill::broker::Broker;
use tidemill_messages::MessagesError;
use tidemill_server::{ServeError, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Demo;
use crate::failure::Failure;
use crate::output;

/// The broker's doors.
pub(super) struct Doors {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Doors {
    pub(super) async fn open(demo: &Demo, broker: Broker) -> Result<Self, Failure> {
        let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let config = demo.config(demo.http_address());
        let bound = match Server::bind(broker.clone(), config).await {
            Err(ServeError::Taken { address, .. }) if demo.http.is_none() => {
                let text = format!("{address} is taken, so HTTP and Socket.IO are on a free port");
                demo.say("note", &text);
                Server::bind(broker, demo.config(free)).await
            }
            bound => bound,
        };
        let server = bound.map_err(Failure::new)?;
        if !demo.in_memory() {
            demo.say("data", &demo.data.display().to_string());
        }
        demo.say("http", &format!("http://{}", server.http_addr()));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // An error means that `Doors` was dropped, which stops too.
            let _ = stopped.await;
        }));
        Ok(Self { stop, task })
    }

    pub(super) async fn close(self) {
        // The doors may be gone already; a panic in them was told on standard error.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// The text messages: their handlers and their HTTP.
pub(super) struct Texts {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), MessagesError>>,
}

impl Texts {
    pub(super) async fn open(demo: &Demo, bus: Bus) -> Result<Self, Failure> {
        let address = demo.messages_address();
        let failed = |error| {
            let why = "choose another address with --messages";
            Failure::new(format!("cannot listen on {address} ({error}); {why}"))
        };
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && demo.messages.is_none() => {
                let text = format!("{address} is taken, so the text messages are on a free port");
                demo.say("note", &text);
                let free = SocketAddr::new(address.ip(), 0);
                TcpListener::bind(free).await.map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        demo.say("messages", &format!("http://{address}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            // An error means that `Texts` was dropped, which stops too.
            let _ = stopped.await;
        };
        let task = tokio::spawn(tidemill_messages::serve(bus, listener, until));
        Ok(Self { stop, task })
    }

    /// Ends them. That they ended before by themselves is told; the shop goes on without them.
    pub(super) async fn close(self) {
        // They may be gone already.
        let _ = self.stop.send(());
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => output::remark(format_args!("note: {error}")),
            Err(error) => output::remark(format_args!("note: the text messages ended: {error}")),
        }
    }
}

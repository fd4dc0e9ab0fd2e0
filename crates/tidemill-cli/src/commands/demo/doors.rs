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
        let (mut http, mut kafka) = (demo.http_address(), demo.kafka_address());
        let server = loop {
            let bound = Server::bind(broker.clone(), demo.config(http, kafka)).await;
            let taken = match &bound {
                Err(ServeError::Taken { address, flag }) => Some((*address, *flag)),
                _ => None,
            };
            // Nobody can have a free port, so each is tried twice at most.
            let (address, what) = match taken {
                Some((address, "--http")) if demo.http.is_none() && http != free => {
                    http = free;
                    (address, "HTTP and Socket.IO are")
                }
                Some((address, "--kafka")) if demo.kafka.is_none() && kafka != Some(free) => {
                    kafka = Some(free);
                    (address, "the protocol of Kafka is")
                }
                _ => break bound.map_err(Failure::new)?,
            };
            let text = format!("{address} is taken, so {what} on a free port");
            demo.say("note", &text);
        };
        if !demo.in_memory() {
            demo.say("data", &demo.data.display().to_string());
        }
        demo.say("http", &format!("http://{}", server.http_addr()));
        if let Some(kafka) = server.kafka_addr() {
            demo.say("kafka", &kafka.to_string());
        }
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

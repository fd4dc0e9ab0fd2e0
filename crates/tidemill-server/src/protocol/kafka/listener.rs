//! Takes the ports, and accepts connections as many as the bound allows. Knows no requests.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tidemill_broker::Broker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Door;
use super::connection::{self, Ends};
use crate::config::KafkaConfig;
use crate::connections::{ConnectionId, pause_after};
use crate::error::ServeError;
use crate::http::pull::Pullers;
use crate::limits::{SHUTDOWN_GRACE, WRITE_STALL_TIMEOUT};
use crate::metrics::{Counted, Metrics};
use crate::stall::StallGuard;

const FLAG: &str = "--kafka";

/// The ports of the door, taken and not served yet.
pub(crate) struct Listening {
    address: SocketAddr,
    first: TcpListener,
    /// The same port on `[::1]`, where the first one is on 127.0.0.1.
    second: Option<TcpListener>,
}

impl Listening {
    /// Takes the port.
    ///
    /// # Errors
    /// It is taken, or the system says no.
    pub(crate) async fn bind(config: &KafkaConfig) -> Result<Self, ServeError> {
        let asked = config.listen;
        let refused = |address| move |error| ServeError::listen(FLAG, address, error);
        let first = TcpListener::bind(asked).await.map_err(refused(asked))?;
        let address = first.local_addr().map_err(refused(asked))?;
        let second = match asked.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => {
                let also = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
                match TcpListener::bind(also).await {
                    Ok(listener) => Some(listener),
                    // `localhost` would lead clients to another program.
                    Err(error) if taken(&error) && asked.port() != 0 => {
                        return Err(refused(also)(error));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no clients of Kafka over IPv6");
                        None
                    }
                }
            }
            _ => None,
        };
        Ok(Self {
            address,
            first,
            second,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the server closes, then gives open requests [`SHUTDOWN_GRACE`] to end.
    pub(crate) async fn serve(
        self,
        broker: Broker,
        config: KafkaConfig,
        metrics: Arc<Metrics>,
        pullers: Arc<Pullers>,
        places: Arc<Semaphore>,
        closing: watch::Receiver<bool>,
    ) {
        let door = Arc::new(Door::new(broker, config, metrics, pullers, closing));
        let mut open = JoinSet::new();
        let mut closed = std::pin::pin!(door.closed());
        loop {
            let accepted = tokio::select! {
                () = &mut closed => break,
                // Frees what ended connections leave behind.
                Some(_) = open.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => drop(open.spawn(run(stream, place, Arc::clone(&door)))),
                Err(_) => drop(door.metrics.kafka.refused.inc()),
            }
        }
        drop(self);
        let all_ended = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, all_ended)
            .await
            .is_err()
        {
            let open = open.len();
            tracing::warn!(
                open,
                "requests of Kafka clients did not end in time and are cut off"
            );
        }
        open.shutdown().await;
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let second = async {
            match &self.second {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, _) = tokio::select! {
            accepted = self.first.accept() => accepted?,
            accepted = second => accepted?,
        };
        Ok(stream)
    }
}

fn taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Serves one connection to its end.
fn run(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    door: Arc<Door>,
) -> impl Future<Output = ()> + Send {
    let metrics = &door.metrics.kafka;
    let counted = Counted::one(&metrics.connections);
    let stalled = metrics.stalled.clone();
    async move {
        let _ = stream.set_nodelay(true);
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            return;
        };
        let held = (place, counted);
        let mut stream = StallGuard::new(stream, held, WRITE_STALL_TIMEOUT, stalled);
        // Who sends much waits behind itself.
        let broker = door.broker.as_client(ConnectionId::next().0);
        let ended = connection::run(&mut stream, door, broker, Ends { peer, local }).await;
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection of a Kafka client ended early");
        }
    }
}

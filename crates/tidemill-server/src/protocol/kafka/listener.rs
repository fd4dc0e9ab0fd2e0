//! Takes the ports, and accepts connections as many as the bound allows. Knows no requests.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tidemill_broker::Broker;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::Door;
use super::access::{Guard, follow};
use super::connection::{self, Ends};
use super::sasl::{Sasl, Session};
use super::tls::Tls;
use crate::config::KafkaConfig;
use crate::connections::{ConnectionId, pause_after};
use crate::error::ServeError;
use crate::http::pull::Pullers;
use crate::limits::{
    KAFKA_CLOSE_TIMEOUT, KAFKA_FIRST_BYTE_TIMEOUT, KAFKA_LOGIN_TIMEOUT, SHUTDOWN_GRACE,
    WRITE_STALL_TIMEOUT,
};
use crate::metrics::{Counted, Metrics};
use crate::stall::StallGuard;

const FLAG: &str = "--kafka";

/// The ports of the door, taken and not served yet.
pub(crate) struct Listening {
    address: SocketAddr,
    first: TcpListener,
    /// The same port on `[::1]`, where the first one is on 127.0.0.1.
    second: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
}

impl Listening {
    /// Takes the port, and reads the certificate and the rules about who may do what.
    ///
    /// # Errors
    /// The port is taken, the certificate is none, the rules are none, or the system says no.
    pub(crate) async fn bind(config: &KafkaConfig) -> Result<Self, ServeError> {
        let asked = config.listen;
        let tls = config.tls.as_ref().map(Tls::open).transpose()?;
        config.acls.as_ref().map(Guard::readable).transpose()?;
        config.sasl.as_ref().map(Sasl::readable).transpose()?;
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
            tls: tls.map(Arc::new),
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
        open.spawn(follow(Arc::clone(&door)));
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
                Ok(place) => {
                    let (door, tls) = (Arc::clone(&door), self.tls.clone());
                    open.spawn(run(stream, place, door, tls));
                }
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

/// What a connection reads from and writes to, with or without TLS.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Serves one connection to its end.
fn run(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
) -> impl Future<Output = ()> + Send {
    let counted = Counted::one(&door.metrics.kafka.connections);
    let login_until = Instant::now() + KAFKA_LOGIN_TIMEOUT;
    async move {
        let _ = stream.set_nodelay(true);
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
            return;
        };
        let held = (place, counted);
        let begun = begin(stream, &door, tls, Ends { peer, local }, login_until);
        let begun = tokio::select! {
            begun = begun => begun,
            () = door.closed() => return,
        };
        let ended = match begun {
            Ok((stream, session)) => {
                let stalled = door.metrics.kafka.stalled.clone();
                let mut stream = StallGuard::new(stream, held, WRITE_STALL_TIMEOUT, stalled);
                // Who sends much waits behind itself.
                let broker = door.broker.as_client(ConnectionId::next().0);
                let session = Arc::new(session);
                let ended = connection::run(&mut stream, door, broker, session, login_until).await;
                // A client of TLS is told that nothing was cut off.
                let _ = timeout(KAFKA_CLOSE_TIMEOUT, stream.shutdown()).await;
                ended
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection of a Kafka client ended early");
        }
    }
}

/// Takes a place for the login, and shakes hands, where there is one and a certificate. Who has to
/// log in says something soon.
async fn begin(
    stream: TcpStream,
    door: &Arc<Door>,
    tls: Option<Arc<Tls>>,
    ends: Ends,
    until: Instant,
) -> io::Result<(Box<dyn Wire>, Session)> {
    let place = match &door.sasl {
        None => None,
        Some(sasl) => {
            let late = |_| {
                door.metrics.kafka.logins_failed.inc();
                connection::late_login()
            };
            let entered = timeout_at(until, sasl.enter(ends)).await.map_err(late)?;
            let Some(place) = entered else {
                door.metrics.kafka.refused.inc();
                return Err(io::Error::other("too many log in already"));
            };
            let soon = until.min(Instant::now() + KAFKA_FIRST_BYTE_TIMEOUT);
            timeout_at(soon, stream.peek(&mut [0]))
                .await
                .map_err(late)??;
            Some(place)
        }
    };
    let session = Session::new(door, ends, tls.is_some(), place);
    let Some(tls) = tls else {
        return Ok((Box::new(stream), session));
    };
    let shaken = timeout_at(until, tls.accept(stream)).await;
    match shaken.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => Ok((Box::new(stream), session)),
        Err(error) => {
            door.metrics.kafka.handshakes_failed.inc();
            let why = match error.kind() {
                io::ErrorKind::TimedOut => "it did not end in time".to_owned(),
                io::ErrorKind::InvalidData => format!(
                    "{error}; clients that speak no TLS need security.protocol=SSL or SASL_SSL"
                ),
                _ => error.to_string(),
            };
            let why = format!("the TLS handshake failed: {why}");
            Err(io::Error::new(error.kind(), why))
        }
    }
}

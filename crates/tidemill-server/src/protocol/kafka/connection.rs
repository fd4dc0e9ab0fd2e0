//! One connection: requests in, answers out in the same order, a bounded number under way.
//!
//! Knows no API keys; what a request is, `registry.rs` knows.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tidemill_broker::{Broker, ShareHold};
use tidemill_core::budget::Share;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Door;
use super::frame::{Frame, Frames};
use super::registry::{Body, Call, Request, Unserved};
use super::sasl::Session;
use crate::clients::Entered;
use crate::connections::ConnectionId;
use crate::limits::{KAFKA_ELEMENT_BYTES, KAFKA_IN_FLIGHT_MAX, KAFKA_LOGIN_REQUEST_MAX_BYTES};
use crate::metrics::{ApiLabels, KafkaMetrics};

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// Where the client is.
    pub(super) peer: SocketAddr,
    /// The address by which it came.
    pub(super) local: SocketAddr,
}

/// Whether a request of a connection has still to hand in what it wants to be kept.
#[derive(Debug, Default)]
struct HandingIn {
    begun: AtomicBool,
    ended: Notify,
}

/// A request has still to hand in what it wants to be kept: until this is dropped nothing more is
/// read from its connection, so that nothing overtakes it, and no other memory is held meanwhile.
#[derive(Debug)]
pub(super) struct Turn(Arc<HandingIn>);

impl Turn {
    fn of(handing_in: &Arc<HandingIn>) -> Self {
        handing_in.begun.store(true, Ordering::Release);
        Self(Arc::clone(handing_in))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.begun.store(false, Ordering::Release);
        self.0.ended.notify_one();
    }
}

/// A request that waits for those before it.
struct Waiting {
    request: Request,
    share: Share,
}

/// What is written for a request, once it is its turn.
struct Answer {
    api: &'static str,
    /// Nothing for a request that has no answer.
    body: Option<(Bytes, Body)>,
    /// The connection ends behind it.
    last: bool,
    /// The request's memory.
    _share: Share,
}

type Answering = BoxFuture<'static, Result<Answer, Unserved>>;

/// A connection's requests that are under way.
struct Connection {
    door: Arc<Door>,
    broker: Broker,
    session: Arc<Session>,
    entered: Entered,
    under_way: FuturesOrdered<Answering>,
    /// All that is under way may be joined by more of its kind.
    pipelined: bool,
    waiting: Option<Waiting>,
    handing_in: Arc<HandingIn>,
}

/// Answers requests until the client ends, sends what is no request, is not logged in at
/// `login_until` where it has to, or the server shuts down.
///
/// # Errors
/// Why the connection ended before its time.
pub(super) async fn run(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    door: Arc<Door>,
    broker: Broker,
    session: Arc<Session>,
    login_until: Instant,
) -> io::Result<()> {
    let mut frames = Frames::new(&door.memory);
    let clients = Arc::clone(&door.metrics.connected);
    let mut connection = Connection {
        door: Arc::clone(&door),
        broker,
        entered: clients.enter(ConnectionId::next().0, "kafka", session.ends().peer),
        session: Arc::clone(&session),
        under_way: FuturesOrdered::new(),
        pipelined: true,
        waiting: None,
        handing_in: Arc::default(),
    };
    // Whether there may be more requests.
    let mut open = true;
    loop {
        connection.begin();
        let idle = connection.under_way.is_empty();
        if idle && (!open || door.is_closing()) {
            return Ok(());
        }
        let may_read = open && connection.may_read();
        let handing_in = connection
            .is_handing_in()
            .then(|| Arc::clone(&connection.handing_in));
        let is_in = session.is_in();
        frames.at_most(match is_in {
            true => usize::MAX,
            false => KAFKA_LOGIN_REQUEST_MAX_BYTES,
        });
        tokio::select! {
            biased;
            Some(answer) = connection.under_way.next(), if !idle => {
                let answer = answer.map_err(|why| connection.refused(&why))?;
                let last = answer.last;
                let bytes = write(&door.metrics.kafka, stream, answer).await?;
                connection.entered.client.sent(bytes);
                if last {
                    return Err(connection.refused(&Unserved::Login));
                }
                frames.not_idle();
            }
            frame = frames.next(stream, idle), if may_read => match frame? {
                Some(frame) => connection.take(frame)?,
                // What was sent to be kept is kept; nobody waits for anything else.
                None if connection.pipelined => open = false,
                None => return Ok(()),
            },
            () = door.closed(), if idle => return Ok(()),
            () = handed_in(handing_in.as_deref()), if handing_in.is_some() => {}
            () = sleep_until(login_until), if !is_in => {
                door.metrics.kafka.logins_failed.inc();
                return Err(late_login());
            }
        }
    }
}

/// Resolves once the request that is to hand something in has done so.
async fn handed_in(handing_in: Option<&HandingIn>) {
    if let Some(handing_in) = handing_in {
        handing_in.ended.notified().await;
    }
}

/// Says that a client did not log in in time.
pub(super) fn late_login() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a client did not log in in time")
}

impl Connection {
    /// Whether one more request is taken. A client that goes on while the server closes holds
    /// nothing up: what it sends then is neither read nor done.
    fn may_read(&self) -> bool {
        let most = match self.session.is_settled() {
            true => KAFKA_IN_FLIGHT_MAX,
            // What comes next depends on the answer.
            false => 1,
        };
        let room = self.waiting.is_none() && self.under_way.len() < most;
        room && !self.is_handing_in() && !self.door.is_closing()
    }

    fn is_handing_in(&self) -> bool {
        self.handing_in.begun.load(Ordering::Acquire)
    }

    /// Reads a request, which then waits for its turn.
    fn take(&mut self, frame: Frame) -> io::Result<()> {
        let Frame { bytes, mut share } = frame;
        self.door
            .metrics
            .kafka
            .received
            .inc_by(bytes.len() as u64 + 4);
        if self.session.awaits_token() {
            self.take_token(bytes, share);
            return Ok(());
        }
        let request = Request::new(bytes).map_err(|why| self.refused(&why))?;
        // Bounded, and in memory in a moment.
        share.grow_anyway(request.elements * KAFKA_ELEMENT_BYTES);
        self.waiting = Some(Waiting { request, share });
        Ok(())
    }

    /// Takes a token that came without a request around it.
    fn take_token(&mut self, token: Bytes, share: Share) {
        let session = Arc::clone(&self.session);
        self.pipelined = false;
        self.under_way.push_back(Box::pin(async move {
            let answer = session.token(&token).await;
            let answer = answer.map_err(|_| Unserved::Login)?;
            Ok(Answer {
                api: "SaslAuthenticate",
                body: Some((Bytes::from(answer), Body::default())),
                last: false,
                _share: share,
            })
        }));
    }

    /// Begins the request that waits, if it is its turn.
    fn begin(&mut self) {
        let idle = self.under_way.is_empty();
        let may =
            |waiting: &mut Waiting| idle || (self.pipelined && waiting.request.entry.pipelined);
        let Some(Waiting { request, share }) = self.waiting.take_if(may) else {
            return;
        };
        self.pipelined = request.entry.pipelined;
        let api = super::convert::api_name(request.entry.key);
        // What strangers call themselves takes no labels.
        let client_id = request.client_id.as_deref();
        let client_id = client_id.filter(|_| self.session.is_in());
        let user = || self.session.user();
        self.entered
            .asks(api, request.bytes as u64, client_id, user);
        let call = Call {
            client: Arc::clone(&self.entered.client),
            door: Arc::clone(&self.door),
            broker: self.broker.clone(),
            version: request.version,
            too_new: request.too_new,
            client_id: request.client_id.clone(),
            peer: self.session.ends().peer,
            local: self.session.ends().local,
            session: Arc::clone(&self.session),
            turn: self.pipelined.then(|| Arc::new(Turn::of(&self.handing_in))),
        };
        let head = request.answer_head();
        let may = request.entry.before_login || self.session.is_in();
        let session = Arc::clone(&self.session);
        let served = request.serve(call);
        self.under_way.push_back(Box::pin(async move {
            if !may {
                return Err(Unserved::Unauthenticated(api));
            }
            let body = served.await?;
            Ok(Answer {
                api,
                body: body.map(|body| (head, body)),
                last: session.has_failed(),
                _share: share,
            })
        }));
    }

    fn refused(&self, why: &Unserved) -> io::Error {
        match why {
            Unserved::Unheard => {}
            Unserved::Login => drop(self.door.metrics.kafka.logins_failed.inc()),
            _ => drop(self.door.metrics.kafka.malformed.inc()),
        }
        io::Error::new(io::ErrorKind::InvalidData, why.to_string())
    }
}

/// Writes an answer whose turn it is, and tells how many bytes it has.
async fn write(
    metrics: &KafkaMetrics,
    stream: &mut (impl AsyncWrite + Unpin),
    answer: Answer,
) -> io::Result<u64> {
    let labels = ApiLabels { api: answer.api };
    metrics.requests.get_or_create(&labels).inc();
    let Some((head, body)) = answer.body else {
        return Ok(0);
    };
    let mut pieces = Pieces::new(head, body.pieces)?;
    let bytes = pieces.remaining();
    stream.write_all_buf(&mut pieces).await?;
    stream.flush().await?;
    body.given.into_iter().for_each(ShareHold::sent);
    metrics.sent.inc_by(bytes as u64);
    Ok(bytes as u64)
}

/// Bytes in several places, written one after the other without being copied together.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// An answer with its length before it.
    fn new(head: Bytes, body: Vec<Bytes>) -> io::Result<Self> {
        let size = head.len() + body.iter().map(Bytes::len).sum::<usize>();
        let too_large = |_| io::Error::other("an answer is too large to be sent");
        let mut first = BytesMut::with_capacity(4 + head.len());
        first.put_i32(i32::try_from(size).map_err(too_large)?);
        first.put(head);
        let mut pieces = VecDeque::from(body);
        pieces.retain(|piece| !piece.is_empty());
        pieces.push_front(first.freeze());
        Ok(Self(pieces))
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.0.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.0.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let places = to.iter_mut().zip(&self.0);
        places
            .map(|(place, piece)| *place = IoSlice::new(piece))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[test]
    fn nothing_more_is_taken_while_the_server_closes_and_where_there_is_no_room() {
        let (close, closing) = watch::channel(false);
        let metrics = Arc::new(crate::metrics::Metrics::new());
        let config = crate::config::KafkaConfig::default();
        let broker = Broker::in_memory();
        let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
        let door = Arc::new(Door::new(broker, config, metrics, pullers, closing));
        let here = SocketAddr::from(([127, 0, 0, 1], 9092));
        let ends = Ends {
            peer: here,
            local: here,
        };
        let mut connection = Connection {
            broker: door.broker.clone(),
            session: Arc::new(Session::new(&door, ends, false, None)),
            entered: door.metrics.connected.enter(0, "kafka", here),
            door,
            under_way: FuturesOrdered::new(),
            pipelined: true,
            waiting: None,
            handing_in: Arc::default(),
        };
        connection
            .under_way
            .push_back(Box::pin(std::future::pending()));
        assert!(connection.may_read());
        close.send(true).unwrap();
        assert!(!connection.may_read());
        close.send(false).unwrap();
        while connection.under_way.len() < KAFKA_IN_FLIGHT_MAX {
            assert!(connection.may_read());
            connection
                .under_way
                .push_back(Box::pin(std::future::pending()));
        }
        assert!(!connection.may_read());
    }
}

//! A Tidemill server at another address as a bus, over the native protocol (docs/WEBSOCKET.md):
//! everything that the embedded broker gives, the atomic handler commit included.
//!
//! The connection is made anew by itself. What was sent and has no answer is sent again: a publish
//! is known by its producer's numbers, also to a server that was restarted, and everything else by
//! its number in the session, which outlives a broken connection for a while. So nothing is lost
//! and nothing is done twice. Where a session is over, what its members held is given out again,
//! and settling it is stale.
//!
//! While there is no connection, calls wait for it: put a time limit around what must not.
//! A request waits for its reply at most as long as the server allows, which is ten minutes.
//! Publishes that are under way at the same time are kept in any order; those of one call keep
//! theirs. A member holds at most as many events unseen as it asked for with its last pull. A
//! program that ends without dropping its members first, or is killed, holds their keys up for
//! the session's [ten seconds](tidemill_core::wire::KEEP_DEFAULT_MS), or as long as the address
//! says. That a publish is known by its numbers ends a day after its producer's last one.
//!
//! An address may have settings: `tidemill://HOST:PORT?keep_ms=30000&silence_ms=5000`.
//!
//! - `keep_ms` (10,000; 0 to 60,000): how long the session, and what its members hold, outlives a
//!   broken connection.
//! - `connect_timeout_ms` (5,000; 100 to 600,000): how long one try to connect may take.
//! - `silence_ms` (30,000; 100 to 600,000): after how long without a word of the server its
//!   connection is taken for gone. It is asked for one three times in that time, or every 10 s.
//!
//! ```text
//! Remote, members, watches --Command--> connection.rs (one task) --> session.rs: what to say
//!        ^------------------ answers, deliveries -----------------------'
//! ```

mod address;
mod backoff;
mod connection;
mod joined;
mod lanes;
pub mod limits;
mod link;
mod member;
mod session;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_core::wire::{Answer, Call, ClientFrame, Fault, Request, ServerFrame, Welcome};
use tidemill_core::{
    BoxFuture, Bus, Event, Fetch, FetchError, Fetched, GroupMember, Guarantees, Position,
    PublishError, Publisher, RequestError, SubscribeError, Subscriber, Subscription, TopicBounds,
    TopicName, Watch,
};
use tokio::sync::oneshot;

use self::address::Address;
pub use self::address::{ConnectError, SCHEME};
use self::connection::Connection;
use self::joined::Joined;
use self::lanes::Lanes;
use self::limits::REQUEST_SLACK;
use self::link::{Again, Command, Counts, Link};
use self::member::RemoteMember;
use self::session::Session;
use self::watching::{RemoteWatch, Watching};

/// A server at another address. Clones share the connection; it ends with the last clone, member
/// and watch.
#[derive(Clone)]
pub struct Remote {
    link: Link,
    lanes: Arc<Lanes>,
    welcome: Arc<Welcome>,
    address: Arc<str>,
}

impl Remote {
    /// Connects to `tidemill://HOST:PORT`, with the settings that the address has (see the module).
    /// Tries once: a server that is not there is told at once.
    ///
    /// # Errors
    /// [`ConnectError`] says what to look at.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let place = Address::parse(address)?;
        let counts = Arc::new(Counts::default());
        let (link, commands) = Link::new(Arc::clone(&counts));
        let keep_ms = u64::try_from(place.settings.keep.as_millis()).unwrap_or(u64::MAX);
        let mut session = Session::new(counts, keep_ms);
        let open = Connection::open(&place, session.hello()).await?;
        session.welcomed(&open.welcome);
        let welcome = Arc::new(open.welcome.clone());
        let max_bytes = usize::try_from(welcome.limits.frame_max_bytes).unwrap_or(usize::MAX);
        let lanes = Arc::new(Lanes::new(link.clone(), welcome.numbered, max_bytes));
        let remote = Self {
            link,
            lanes,
            welcome,
            address: address.into(),
        };
        tokio::spawn(Connection::new(place, session, commands).run(open));
        Ok(remote)
    }

    /// The handle that programs use.
    #[must_use]
    pub fn bus(&self) -> Bus {
        Bus::new(self.clone())
    }

    fn frame_max_bytes(&self) -> usize {
        usize::try_from(self.welcome.limits.frame_max_bytes).unwrap_or(usize::MAX)
    }

    async fn request_now(
        self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> Result<Event, RequestError> {
        let id = self.link.number();
        let text = ClientFrame::Request(Request {
            id,
            topic,
            timeout,
            event,
        })
        .encode();
        if text.len() > self.frame_max_bytes() {
            return Err(RequestError::Publish(PublishError::TooLarge {
                size_bytes: text.len(),
                max_bytes: self.frame_max_bytes(),
            }));
        }
        let again = Again::InSession(self.link.epoch());
        let asked = self.link.wait(id, text, again);
        match tokio::time::timeout(timeout.saturating_add(REQUEST_SLACK), asked).await {
            Err(_) => Err(RequestError::Timeout(timeout)),
            Ok(Ok(Ok(ServerFrame::Reply { event, .. }))) => Ok(event),
            Ok(Ok(Ok(_))) => {
                Err(PublishError::Other("the server gave another answer".into()).into())
            }
            Ok(Ok(Err(fault))) => Err(fault.into_request()),
            Ok(Err(_)) => {
                let why = "the connection broke, and the server does not know the request any more";
                Err(PublishError::Indeterminate(why.into()).into())
            }
        }
    }

    async fn fetch_now(self, fetch: Fetch) -> Result<Fetched, FetchError> {
        let began = Instant::now();
        loop {
            let left = fetch.wait.saturating_sub(began.elapsed());
            let fetched = self.fetch_once(&fetch, left).await?;
            // The server bounds how long it waits at a time.
            let passed_over = fetched.next > fetch.offset;
            if !fetched.events.is_empty() || passed_over || left.is_zero() {
                return Ok(fetched);
            }
        }
    }

    async fn fetch_once(&self, fetch: &Fetch, wait: Duration) -> Result<Fetched, FetchError> {
        let id = self.link.number();
        let call = Call::Fetch {
            id,
            topic: fetch.topic.clone(),
            partition: fetch.partition,
            offset: fetch.offset,
            max_events: fetch.max_events as u64,
            max_bytes: fetch.max_bytes as u64,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let text = ClientFrame::Call(call).encode();
        let asked = match wait.is_zero() {
            true => self.link.call(id, text, Again::Always).await,
            false => self.link.wait(id, text, Again::Always).await,
        };
        match asked.unwrap_or(Err(Fault::Closed)) {
            Ok(ServerFrame::Fetched {
                next, end, events, ..
            }) => Ok(Fetched { events, next, end }),
            Ok(_) => Err(FetchError::Other("the server gave another answer".into())),
            Err(fault) => Err(fault.into_fetch()),
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Publisher for Remote {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        Box::pin(Arc::clone(&self.lanes).publish(topic, events))
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        Box::pin(self.clone().request_now(topic, event, timeout))
    }
}

impl Subscriber for Remote {
    fn guarantees(&self) -> Guarantees {
        self.welcome.guarantees
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let link = self.link.clone();
        let frame_max_bytes = self.frame_max_bytes();
        Box::pin(async move {
            let joined = Arc::new(Joined::new(link.number(), subscription));
            let (begun, begins) = oneshot::channel();
            link.tell(Command::Join(Arc::clone(&joined), begun));
            let joined_now = begins.await.unwrap_or(Err(Fault::Closed));
            joined_now.map_err(Fault::into_subscribe)?;
            Ok(Box::new(RemoteMember {
                link,
                joined,
                frame_max_bytes,
            }) as Box<dyn GroupMember>)
        })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        Box::pin(self.clone().fetch_now(fetch))
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let link = self.link.clone();
        Box::pin(async move {
            match link.ask(|id| Call::Topics { id }).await {
                Ok(ServerFrame::Answer(Answer {
                    topics: Some(topics),
                    ..
                })) => Ok(topics),
                Ok(_) => Err(FetchError::Other("the server gave another answer".into())),
                Err(fault) => Err(fault.into_fetch()),
            }
        })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        let link = self.link.clone();
        let watching = Arc::new(Watching::new(link.number()));
        link.tell(Command::Watch(Arc::clone(&watching)));
        Ok(Box::new(RemoteWatch { link, watching }))
    }
}

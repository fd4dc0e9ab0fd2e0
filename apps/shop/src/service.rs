//! What the services share: an inbox, a count of what they did, and the way from a
//! delivery through the inbox to an outcome. Knows no service.

use std::collections::HashSet;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill::outcome::{Emission, Outputs, Stage};
use tidemill::{Delivery, Emit, Fail, FromEventParts, Message, Reply, Retry, Source};

use crate::database::{DatabaseError, Place, WorkError};
use crate::inbox::{Inbox, Input};
use crate::limits::{EARLY_TRIES_MAX, STRANGE_TYPE_MAX_CHARS, STRANGE_TYPES_MAX};

/// What a handler gives for one input: kept in the inbox with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded<E, A> {
    /// What is published.
    pub events: Vec<E>,
    /// The answer, if the input was a request.
    pub answer: Option<A>,
}

impl<E, A> Recorded<E, A> {
    /// Neither events nor an answer.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            events: Vec::new(),
            answer: None,
        }
    }

    /// An answer alone.
    #[must_use]
    pub fn answer(answer: A) -> Self {
        Self {
            events: Vec::new(),
            answer: Some(answer),
        }
    }

    /// One event.
    #[must_use]
    pub fn event(event: E) -> Self {
        Self {
            events: vec![event],
            answer: None,
        }
    }
}

/// Events of a service, of which a handler publishes only the types in `L`, a tuple of messages:
/// so that [`tidemill::Router::describe`] says of each handler what it may publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Of<E, L>(Vec<E>, PhantomData<fn() -> L>);

/// A tuple of messages.
pub trait Listed {
    /// Names them.
    fn list(outputs: &mut Outputs);
}

impl Listed for () {
    fn list(_: &mut Outputs) {}
}

macro_rules! listed {
    ($($message:ident)*) => {
        impl<$($message: Message),*> Listed for ($($message,)*) {
            fn list(outputs: &mut Outputs) {
                $(outputs.event::<$message>();)*
            }
        }
    };
}

listed!(A);
listed!(A B);
listed!(A B C);
listed!(A B C D);
listed!(A B C D E F G);

impl<E: Emission, L: Listed> Emission for Of<E, L> {
    fn outputs(outputs: &mut Outputs) {
        L::list(outputs);
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        self.0.emit(stage)
    }
}

/// What handlers of the shop return that are asked: they may publish `L` and answer with `A`.
pub type Handled<E, L, A> = Result<(Emit<Of<E, L>>, Option<Reply<A>>), Fail>;

/// What handlers of the shop return that are told something and asked nothing.
pub type Told<E, L> = Result<Emit<Of<E, L>>, Fail>;

/// Counts of one service since its start.
#[derive(Debug, Default)]
struct Counts {
    handled: AtomicU64,
    published: AtomicU64,
    again: AtomicU64,
    failed: AtomicU64,
    ignored: AtomicU64,
    /// Types that were told to be of no meaning here.
    strange: Mutex<HashSet<String>>,
}

/// A reading of a service's counts since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Inputs handled.
    pub handled: u64,
    /// Events returned for them.
    pub published: u64,
    /// Inputs among them that had been handled before.
    pub again: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Messages of a type that has no meaning here.
    pub ignored: u64,
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            handled: self.handled + other.handled,
            published: self.published + other.published,
            again: self.again + other.again,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// A service's database with its inbox and its counts. Clones share them.
#[derive(Clone)]
pub struct Service {
    inbox: Inbox,
    counts: Arc<Counts>,
}

impl Service {
    /// Opens the database `name`. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place, name: &str, schema: &str) -> Result<Self, DatabaseError> {
        Ok(Self {
            inbox: Inbox::open(place, name, schema)?,
            counts: Arc::default(),
        })
    }

    /// What it did since its start.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            handled: read(&self.counts.handled),
            published: read(&self.counts.published),
            again: read(&self.counts.again),
            failed: read(&self.counts.failed),
            ignored: read(&self.counts.ignored),
        }
    }

    /// Handles an input once, see [`Inbox::once`], and gives its outputs to the bus.
    ///
    /// # Errors
    /// A transient [`Fail`]: the database did not keep it, or it came early, so the event is given
    /// again. A permanent one where the work refused it.
    pub async fn once<E, L, A, F>(&self, input: Input, work: F) -> Handled<E, L, A>
    where
        E: Serialize + DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&Connection) -> Result<Recorded<E, A>, WorkError> + Send + 'static,
    {
        let given = match self.inbox.once(input, work).await {
            Ok(given) => given,
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                return Err(match error {
                    DatabaseError::Refused(why) => Fail::permanent(why),
                    other => other.into(),
                });
            }
        };
        let Recorded { mut events, answer } = given.outputs;
        if given.second_copy {
            events.clear();
        }
        let published = events.len() as u64;
        self.counts.handled.fetch_add(1, Ordering::Relaxed);
        self.counts
            .published
            .fetch_add(published, Ordering::Relaxed);
        self.counts
            .again
            .fetch_add(given.again.into(), Ordering::Relaxed);
        Ok((Emit(Of(events, PhantomData)), answer.map(Reply)))
    }

    /// As [`Self::once`], for an input that is a fact and gets no answer.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub async fn told<E, L, A, F>(&self, input: Input, work: F) -> Told<E, L>
    where
        E: Serialize + DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        F: FnOnce(&Connection) -> Result<Recorded<E, A>, WorkError> + Send + 'static,
    {
        let (events, _) = self.once(input, work).await?;
        Ok(events)
    }

    /// What a handler returns that has nothing to do: counted, and not kept.
    ///
    /// # Errors
    /// None.
    pub fn nothing<E, L>(&self) -> Told<E, L> {
        self.counts.handled.fetch_add(1, Ordering::Relaxed);
        Ok(Emit(Of(Vec::new(), PhantomData)))
    }

    /// As [`Self::nothing`], for a message of the type `kind`, which has no meaning here: counted,
    /// and told once for each type, of [`STRANGE_TYPES_MAX`] types.
    ///
    /// # Errors
    /// None.
    pub fn ignored<E, L>(&self, topic: &str, kind: &str) -> Told<E, L> {
        self.counts.ignored.fetch_add(1, Ordering::Relaxed);
        let kind: String = kind.chars().take(STRANGE_TYPE_MAX_CHARS).collect();
        let mut strange = self
            .counts
            .strange
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if strange.len() < STRANGE_TYPES_MAX && strange.insert(kind.clone()) {
            tracing::warn!(
                topic,
                kind,
                "messages of a type that has no meaning are ignored"
            );
        }
        drop(strange);
        self.nothing()
    }

    /// Reads; sees all that was handled before.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn read<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, WorkError> + Send + 'static,
    {
        self.inbox.read(work).await
    }

    /// See [`Inbox::read_again`].
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn read_again(&self) -> Result<bool, DatabaseError> {
        self.inbox.read_again().await
    }

    /// Lets go of this handle and waits until the database is closed, which it is when the last
    /// handle is gone.
    pub async fn close(self) {
        self.inbox.close().await;
    }
}

/// A database that is busy or full comes back by itself: tried for as long as it takes, since a
/// dead letter here would be an order that nobody goes on with.
#[must_use]
pub fn patient() -> Retry {
    Retry::times(u32::MAX).backoff(Duration::from_millis(20), Duration::from_secs(2))
}

/// For a message that may be ahead of what it is about: tried for some twelve seconds, then it is
/// a dead letter, which may be sent again by hand.
#[must_use]
pub fn early() -> Retry {
    Retry::times(EARLY_TRIES_MAX).backoff(Duration::from_millis(20), Duration::from_secs(2))
}

/// The `source` of a service's events.
pub(crate) fn source(service: &str) -> Source {
    Source::new(format!("/shop/{service}")).expect("a service's name is a legal path")
}

impl<S: Sync> FromEventParts<S> for Input {
    type Rejection = Infallible;

    async fn from_event_parts(delivery: &Delivery, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            source: delivery.event.source().as_str().to_owned(),
            id: delivery.event.id().as_str().to_owned(),
            place: delivery.position.to_string(),
        })
    }
}

/// Gives an enum of messages the means to be emitted: one variant, one message.
macro_rules! emitted {
    ($name:ident { $($variant:ident($message:ident),)+ }) => {
        /// What this service may publish.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[derive(tidemill::Emission)]
        pub enum $name {
            $(
                #[doc = concat!("See [`", stringify!($message), "`].")]
                $variant($message),
            )+
        }
    };
}
pub(crate) use emitted;

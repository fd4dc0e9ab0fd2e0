//! The dispatcher: takes events from a bus, keeps their order, calls their handlers, settles.
//!
//! The four classic steps of a dispatcher, under their own names:
//!
//! 1. **An event is added to the dispatcher's queue.** Intake asks the bus for as many events as
//!    there is room for (credit), and adds them in the order in which they come.
//! 2. **The next event is taken, first in, first out**, except that of one key (or of one
//!    partition, as the [`Order`] says) one event at a time runs: the next is the oldest event
//!    whose key is free.
//! 3. **The handler for its type is invoked**, with the layers around it, by one of so many
//!    workers as handlers may run at once. They run asynchronously and in parallel; what one does
//!    harms no other.
//! 4. **The result goes back to the caller**: the handler's settlement and the events that it
//!    returned are one commit at the bus, and once that is durable, its reply reaches the one who
//!    waits in [`Bus::request`].
//!
//! A failed attempt is tried again in place, as the handler's retry policy says: nothing of it is
//! kept, its key waits and takes no worker while it does, later events of the key stay behind it,
//! other keys go on. When no try is left, the event becomes a dead letter. A delivery that a
//! limit turned away was not tried, so it does not count.
//!
//! A settlement that the bus cannot take, or a dead letter that it refuses, is tried again with
//! growing waits for as long as it takes: the event is never dropped, and its key waits. That is
//! told once when it begins and once when it ends ([`Stats::settle_delayed`],
//! [`DispatcherInfo::delayed`]). A dead letter that is too large for the bus, or invalid to it,
//! can never be kept: it ends the dispatcher with [`ServeError::DeadLetter`], and its event is not
//! settled.
//!
//! At the end the dispatcher drains: it takes nothing more in and gives back what it has not
//! begun; running handlers finish within a grace period and settle, also at a bus that has too
//! much to do at the moment; then it leaves the group. A settlement that waits for something else
//! (a full disk, a refusal) is given up at once: its event is given out again.
//!
//! This room may not know a concrete bus, or what a handler does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tidemill_core::{Bus, GroupName, Order, Subscription};

use crate::app::App;
use crate::router::HandlerInfo;

mod announce;
mod backoff;
mod delay;
mod error;
mod hooks;
mod intake;
mod queue;
mod shared;
mod worker;

pub use error::ServeError;
pub use hooks::{Attempted, End, Hooks, Settled, Stats};
pub use intake::Served;
pub(crate) use shared::Settings;
use shared::Shared;

/// A dispatcher: made by [`Serve::build`](crate::Serve::build), at work while
/// [`Dispatcher::run`] is. Clones are handles on the same one.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
}

/// What is needed to start.
struct Plan {
    bus: Bus,
    subscription: Subscription,
    started: AtomicBool,
}

/// A dispatcher, described.
#[derive(Clone, Debug, Serialize)]
pub struct DispatcherInfo {
    /// Its id, new at every start.
    pub id: String,
    /// Its name; that of the group where none was given.
    pub name: String,
    /// The group whose member it is.
    pub group: GroupName,
    /// Handlers that may run at once.
    pub concurrency: usize,
    /// Events that wait in its queue.
    pub queue_len: usize,
    /// Handlers that run now.
    pub running: usize,
    /// Settlements that wait before another try now; their events count as running.
    pub delayed: usize,
    /// What it has done.
    pub stats: Stats,
    /// Its handlers.
    pub handlers: Vec<HandlerInfo>,
}

impl Dispatcher {
    pub(crate) fn new(bus: Bus, subscription: Subscription, settings: Settings, app: App) -> Self {
        Self {
            shared: Arc::new(Shared::new(settings, app)),
            plan: Arc::new(Plan {
                bus,
                subscription,
                started: AtomicBool::new(false),
            }),
        }
    }

    /// Its id, new at every start.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.settings.id
    }

    /// Its name; that of the group where none was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// The group whose member it is.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        &self.shared.settings.group
    }

    /// The order that it keeps.
    #[must_use]
    pub fn order(&self) -> Order {
        self.shared.settings.order
    }

    /// How many events wait in its queue, those whose handlers run not counted.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.shared.lengths().0
    }

    /// How many events are at work: their handlers run, or their settlements do.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.lengths().1
    }

    /// Its handlers: ids, names, versions, inputs and outputs.
    #[must_use]
    pub fn handlers(&self) -> &[HandlerInfo] {
        self.shared.app.describe()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// All of that at once.
    #[must_use]
    pub fn describe(&self) -> DispatcherInfo {
        let (queue_len, running) = self.shared.lengths();
        DispatcherInfo {
            id: self.id().to_owned(),
            name: self.name().to_owned(),
            group: self.group().clone(),
            concurrency: self.shared.settings.concurrency,
            queue_len,
            running,
            delayed: self.shared.delays.waiting(),
            stats: self.stats(),
            handlers: self.handlers().to_vec(),
        }
    }

    /// Subscribes and works until `shutdown` resolves, then drains.
    ///
    /// Dropped before it resolves, it cancels the handlers that run; their events are given out
    /// again.
    ///
    /// # Errors
    /// [`ServeError`], when the subscription is refused or the bus ends; also then it drains
    /// first. [`ServeError::Started`], when it was called before.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<Served, ServeError> {
        if self.plan.started.swap(true, Ordering::Relaxed) {
            return Err(ServeError::Started);
        }
        let mut member = self
            .plan
            .bus
            .subscribe(self.plan.subscription.clone())
            .await?;
        announce::announce(&mut *member, &self.shared);
        intake::run(Arc::clone(&self.shared), member, shutdown).await
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

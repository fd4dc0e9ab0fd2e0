//! `serve(bus, router)`: the settings of a dispatcher, checked against handlers and bus.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::{Future, IntoFuture, Pending, pending};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::Subscription;
use tidemill_core::bus::Support;
use tidemill_core::{BoxFuture, Bus, GroupName, Guarantees, InvalidName, Order, Start};
use uuid::Uuid;

use crate::app::App;
use crate::dispatcher::{Dispatcher, Hooks, ServeError, Served, Settings};
use crate::limits::QUEUE_PER_HANDLER;
use crate::limits::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX, GRACE_DEFAULT, QUEUE_MAX};
use crate::router::{BuildError, IntoApp};

/// Serves the handlers of `router` with the events of `bus`. Await what it returns, or
/// [`build`](Serve::build) it to keep a handle.
///
/// ```no_run
/// # use tidemill::{Bus, Router, ServeError};
/// # async fn example(bus: Bus, router: Router) -> Result<(), ServeError> {
/// tidemill::serve(bus, router)
///     .group("billing")
///     .concurrency(16)
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn serve(bus: Bus, router: impl IntoApp) -> Serve {
    Serve {
        bus,
        finish: Box::new(|| router.into_app()),
        group: None,
        name: None,
        order: Order::default(),
        start: Start::default(),
        concurrency: CONCURRENCY_DEFAULT,
        queue: None,
        grace: GRACE_DEFAULT,
        jitter_seed: None,
        hooks: None,
        shutdown: pending(),
    }
}

/// A dispatcher in the making; see [`serve`].
#[must_use = "nothing is served until this is awaited, or built and run"]
pub struct Serve<F = Pending<()>> {
    bus: Bus,
    /// Called where layers may ask for a runtime.
    finish: Box<dyn FnOnce() -> Result<App, BuildError> + Send>,
    group: Option<Result<GroupName, InvalidName>>,
    name: Option<String>,
    order: Order,
    start: Start,
    concurrency: usize,
    queue: Option<usize>,
    grace: Duration,
    jitter_seed: Option<u64>,
    hooks: Option<Arc<dyn Hooks>>,
    shutdown: F,
}

impl<F> Serve<F> {
    /// The consumer group to be a member of; must be given. Every group gets every event, the
    /// members of one group share them.
    pub fn group(mut self, name: impl AsRef<str>) -> Self {
        self.group = Some(GroupName::new(name.as_ref()));
        self
    }

    /// The dispatcher's name in listings; the group's if this is not called.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The order to keep; per key if this is not called.
    pub fn ordering(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Where a new group begins; with the oldest event if this is not called.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How many handlers may run at once: 1 to [`CONCURRENCY_MAX`], [`CONCURRENCY_DEFAULT`] if
    /// this is not called. What lies outside is moved to the nearest bound.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.clamp(1, CONCURRENCY_MAX);
        self
    }

    /// How many events may be taken in and not be settled, the running ones included: at least
    /// the concurrency, at most [`QUEUE_MAX`]; [`QUEUE_PER_HANDLER`] for each handler that may
    /// run if this is not called.
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = Some(events);
        self
    }

    /// How long running handlers and their settlements may take at shutdown before they are
    /// cancelled;
    /// [`GRACE_DEFAULT`] if this is not called.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The seed that spreads the waits before retries; random if this is not called.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// Who is told what the dispatcher does.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Drains and ends when `shutdown` resolves.
    pub fn with_graceful_shutdown<G>(self, shutdown: G) -> Serve<G>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        Serve {
            bus: self.bus,
            finish: self.finish,
            group: self.group,
            name: self.name,
            order: self.order,
            start: self.start,
            concurrency: self.concurrency,
            queue: self.queue,
            grace: self.grace,
            jitter_seed: self.jitter_seed,
            hooks: self.hooks,
            shutdown,
        }
    }

    /// Checks everything that can be known before events come; inside of a tokio runtime, as some
    /// layers need one. The future of [`Serve::with_graceful_shutdown`] is not used: give it to
    /// [`Dispatcher::run`].
    ///
    /// # Errors
    /// [`ServeError`] says what does not fit together and what to change.
    pub fn build(self) -> Result<Dispatcher, ServeError> {
        self.take_apart().map(|(dispatcher, _)| dispatcher)
    }

    fn take_apart(self) -> Result<(Dispatcher, F), ServeError> {
        let app = (self.finish)()?;
        let group = self.group.ok_or(ServeError::NoGroup)??;
        check_order(&app, self.order)?;
        check_guarantees(&app, self.order, &self.bus.guarantees())?;
        let usual = self.concurrency.saturating_mul(QUEUE_PER_HANDLER);
        let capacity = self.queue.unwrap_or(usual);
        let subscription = Subscription {
            topics: app.topics().to_vec(),
            group: group.clone(),
            order: self.order,
            start: self.start,
        };
        let settings = Settings {
            id: Uuid::now_v7().to_string(),
            name: self.name.unwrap_or_else(|| group.to_string()),
            group,
            order: self.order,
            concurrency: self.concurrency,
            capacity: capacity.clamp(self.concurrency, QUEUE_MAX),
            grace: self.grace,
            jitter_seed: self.jitter_seed.unwrap_or_else(random),
            hooks: self.hooks,
        };
        let dispatcher = Dispatcher::new(self.bus, subscription, settings, app);
        Ok((dispatcher, self.shutdown))
    }
}

/// The standard library's hash keys are random.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

fn check_order(app: &App, given: Order) -> Result<(), ServeError> {
    match app.needs_more_than(given) {
        None => Ok(()),
        Some(info) => Err(ServeError::Order {
            handler: info.id.clone(),
            needs: info.needs.unwrap_or_default(),
            given,
        }),
    }
}

fn check_guarantees(app: &App, order: Order, given: &Guarantees) -> Result<(), ServeError> {
    if order == Order::PerKey && given.order_per_key == Support::Refused {
        return Err(ServeError::Guarantee {
            need: "order per key",
            what: "the dispatcher".to_owned(),
            instead: "choose another order with `.ordering(...)`",
        });
    }
    let mut emitting = app
        .describe()
        .iter()
        .filter(|info| !info.outputs.is_empty());
    match emitting.next() {
        Some(info) if given.atomic_handler_commit == Support::Refused => {
            Err(ServeError::Guarantee {
                need: "a handler's settlement and events in one commit",
                what: format!("the handler {:?}", info.id),
                instead: "publish from the handler itself",
            })
        }
        _ => Ok(()),
    }
}

impl<F> IntoFuture for Serve<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    type Output = Result<Served, ServeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (dispatcher, shutdown) = self.take_apart()?;
            dispatcher.run(shutdown).await
        })
    }
}

impl<F> fmt::Debug for Serve<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("group", &self.group)
            .field("order", &self.order)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

//! Who handles what: the table of handlers, with the layers around them, before it is an
//! [`App`].
//!
//! This room may not know buses, subscriptions or how deliveries come.

use std::fmt;
use std::sync::Arc;

use tidemill_core::{Commit, Delivery, Source};
use tower::{Layer, Service};

use crate::app::App;
use crate::boxed::{ErasedLayer, Route, erase_layer};
use crate::handler::{Handler, Retry};
use crate::message::{BoxError, Message};
use crate::policy::FailurePolicy;

mod build;
mod describe;
mod entry;
mod error;
pub(crate) mod table;

pub use describe::HandlerInfo;
pub(crate) use entry::Identity;
use entry::{Entry, Target};
pub use error::BuildError;

/// Which handler gets which event.
///
/// One event goes to one handler: the one for exactly its type, else of the matching patterns
/// the one with the longest text before its first `*`. A second reaction to the same event is a
/// second consumer group with a router of its own. Events of a subscribed topic that no handler
/// is for are acknowledged and counted.
///
/// `S` is the state that the handlers still miss; [`Router::with_state`] gives it.
#[must_use = "a router does nothing until it is served"]
pub struct Router<S = ()> {
    nodes: Vec<Node<S>>,
    plan: Plan,
}

/// What a router says for those of its handlers that say nothing themselves.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    pub(crate) source: Option<Source>,
    pub(crate) retry: Option<Retry>,
    pub(crate) policy: Option<Arc<dyn FailurePolicy>>,
}

impl Plan {
    /// Takes from `outer` what this one does not say.
    fn complete(&mut self, outer: &Plan) {
        let Plan {
            source,
            retry,
            policy,
        } = outer;
        self.source = self.source.take().or_else(|| source.clone());
        self.retry = self.retry.or(*retry);
        self.policy = self.policy.take().or_else(|| policy.clone());
    }
}

/// What can be served: a router whose handlers miss no state, or a finished one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served: its handlers still miss their state",
    label = "a state is missing",
    note = "give it with `.with_state(...)`"
)]
pub trait IntoApp: Send + 'static {
    /// Finishes it.
    ///
    /// # Errors
    /// [`BuildError`] names the handlers that are in each other's way.
    fn into_app(self) -> Result<App, BuildError>;
}

impl IntoApp for App {
    fn into_app(self) -> Result<App, BuildError> {
        Ok(self)
    }
}

impl IntoApp for Router<()> {
    fn into_app(mut self) -> Result<App, BuildError> {
        let Router { nodes, plan } = &mut self;
        nodes.iter_mut().for_each(|node| node.complete(plan));
        let infos = self.describe();
        build::build(self.nodes, infos)
    }
}

/// A handler, or several under one layer.
pub(crate) enum Node<S> {
    Handler(Box<Entry<S>>),
    Layered {
        inner: Vec<Node<S>>,
        layer: ErasedLayer,
    },
}

impl<S> Node<S> {
    /// Gives the handlers in it what `plan` says and they do not.
    fn complete(&mut self, plan: &Plan) {
        match self {
            Self::Handler(entry) => entry.plan.complete(plan),
            Self::Layered { inner, .. } => inner.iter_mut().for_each(|node| node.complete(plan)),
        }
    }

    /// Lists what holds for the handlers in it, in their order.
    fn plans(&self, list: &mut Vec<Plan>) {
        match self {
            Self::Handler(entry) => list.push(entry.plan.clone()),
            Self::Layered { inner, .. } => inner.iter().for_each(|node| node.plans(list)),
        }
    }

    fn with_state<S2>(self, state: &S) -> Node<S2> {
        match self {
            Self::Handler(entry) => Node::Handler(Box::new(entry.with_state(state))),
            Self::Layered { inner, layer } => Node::Layered {
                inner: inner.into_iter().map(|n| n.with_state(state)).collect(),
                layer,
            },
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// No handlers yet.
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            plan: Plan::default(),
        }
    }

    /// Adds a handler for the event type, and the topic, that its last argument `Data<T>` names.
    pub fn on<H, T>(mut self, handler: H) -> Self
    where
        H: Handler<T, S>,
        H::Input: Message,
        T: 'static,
    {
        let target = Target {
            topic: H::Input::TOPIC.to_owned(),
            ty: H::Input::TYPE.to_owned(),
            pattern: false,
        };
        let entry = Entry::new(target, handler);
        self.nodes.push(Node::Handler(Box::new(entry)));
        self
    }

    /// Adds a handler for the events of `topic` whose type matches `pattern`: `*` stands for any
    /// run of characters without a dot, `**` for any run.
    pub fn on_pattern<H, T>(
        mut self,
        topic: impl Into<String>,
        pattern: impl Into<String>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let target = Target {
            topic: topic.into(),
            ty: pattern.into(),
            pattern: true,
        };
        let entry = Entry::new(target, handler);
        self.nodes.push(Node::Handler(Box::new(entry)));
        self
    }

    /// Adds a tower service as the handler `id` for the events of `topic` whose type matches
    /// `pattern`. It says itself what is published, in its [`Commit`].
    pub fn on_service<Svc>(
        mut self,
        topic: impl Into<String>,
        pattern: impl Into<String>,
        id: impl Into<String>,
        service: Svc,
    ) -> Self
    where
        Svc: Service<Delivery, Response = Commit> + Clone + Send + 'static,
        Svc::Error: Into<BoxError>,
        Svc::Future: Send + 'static,
    {
        let target = Target {
            topic: topic.into(),
            ty: pattern.into(),
            pattern: true,
        };
        let entry = Entry::service(target, id.into(), service);
        self.nodes.push(Node::Handler(Box::new(entry)));
        self
    }

    /// Adds the handlers of another router, with their layers. What the other router said of
    /// retries, source and failures still holds for its handlers; what it did not say, `self`
    /// does.
    pub fn merge(mut self, other: Router<S>) -> Self {
        let Router { mut nodes, plan } = other;
        nodes.iter_mut().for_each(|node| node.complete(&plan));
        self.nodes.extend(nodes);
        self
    }

    /// Wraps all handlers added *so far* in one instance of a tower layer, so that a limit is
    /// one for all of them together; a layer added later is further out. For one handler alone
    /// there is [`Handler::layer`].
    ///
    /// Its error goes through the failure policy: nothing escapes.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response = Commit> + Clone + Send + 'static,
        <L::Service as Service<Delivery>>::Error: Into<BoxError>,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        self.nodes = vec![Node::Layered {
            inner: self.nodes,
            layer: erase_layer(layer),
        }];
        self
    }

    /// Sets the CloudEvents `source` of the events that handlers emit, where neither message nor
    /// handler names one; `/tidemill/<handler id>` if this is not called.
    pub fn source(mut self, source: Source) -> Self {
        self.plan.source = Some(source);
        self
    }

    /// Sets the retry policy of the handlers that name none.
    pub fn retry(mut self, retry: impl Into<Retry>) -> Self {
        self.plan.retry = Some(retry.into());
        self
    }

    /// Replaces what decides about failures.
    pub fn failure_policy(mut self, policy: impl FailurePolicy) -> Self {
        self.plan.policy = Some(Arc::new(policy));
        self
    }

    /// Gives the handlers their state. The router that comes back may miss another one.
    pub fn with_state<S2>(self, state: S) -> Router<S2> {
        Router {
            nodes: self
                .nodes
                .into_iter()
                .map(|node| node.with_state(&state))
                .collect(),
            plan: self.plan,
        }
    }

    /// Checks the handlers against each other and applies the layers. Called by
    /// [`serve`](crate::serve); inside of a tokio runtime, as some layers need one.
    ///
    /// # Errors
    /// [`BuildError`] names the handlers that are in each other's way.
    pub fn finish(self) -> Result<App, BuildError>
    where
        Self: IntoApp,
    {
        self.into_app()
    }

    /// The handlers in the order in which they were added: ids, versions, what they take and
    /// what they may publish or answer, with JSON Schemas.
    #[must_use]
    pub fn describe(&self) -> Vec<HandlerInfo> {
        let mut all = Vec::new();
        let mut waiting: Vec<&Node<S>> = self.nodes.iter().rev().collect();
        while let Some(node) = waiting.pop() {
            match node {
                Node::Handler(entry) => all.push(entry.describe(&self.plan)),
                Node::Layered { inner, .. } => waiting.extend(inner.iter().rev()),
            }
        }
        all
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

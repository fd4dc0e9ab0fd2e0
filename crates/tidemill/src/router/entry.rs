//! One handler in a router, erased: first of its type, then of the state it misses.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::{Commit, Delivery, Source};
use tower::Service;

use super::Plan;
use super::describe::HandlerInfo;
use crate::boxed::Route;
use crate::extract::{AnyInput, Input, InputInfo};
use crate::handler::{Handler, Settings};
use crate::message::BoxError;
use crate::outcome::{Fail, FailClass, IntoOutcome, OutputInfo, Outputs, Stage};
use crate::service::ServiceFn;

/// Which events an entry is for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) topic: String,
    pub(crate) ty: String,
    /// Whether `ty` is a pattern.
    pub(crate) pattern: bool,
}

/// Who a handler is to the events that it emits.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) source: Source,
}

/// Makes the route of a handler that has its state.
pub(crate) type MakeRoute = Box<dyn FnOnce(Arc<Identity>) -> Route + Send>;

/// Gives a handler its state.
type GiveState<S> = Box<dyn FnOnce(&S) -> MakeRoute + Send>;

pub(crate) struct Entry<S> {
    pub(crate) target: Target,
    pub(crate) settings: Settings,
    /// What its router says for it.
    pub(crate) plan: Plan,
    name: &'static str,
    input: fn() -> InputInfo,
    outputs: fn() -> Vec<OutputInfo>,
    make: GiveState<S>,
}

impl<S: Clone + Send + Sync + 'static> Entry<S> {
    pub(crate) fn new<H, T>(target: Target, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let settings = handler.settings();
        let timeout = settings.timeout;
        Self {
            target,
            name: handler.name(),
            settings,
            plan: Plan::default(),
            input: <H::Input as Input>::describe,
            outputs: outputs_of::<H::Output>,
            make: Box::new(move |state| {
                let state = state.clone();
                Box::new(move |identity| {
                    let shared = Shared {
                        handler,
                        state,
                        identity,
                    };
                    route(shared, timeout)
                })
            }),
        }
    }
}

impl<S> Entry<S> {
    /// A tower service that is a handler by itself.
    pub(crate) fn service<Svc>(target: Target, id: String, service: Svc) -> Self
    where
        Svc: Service<Delivery, Response = Commit> + Clone + Send + 'static,
        Svc::Error: Into<BoxError>,
        Svc::Future: Send + 'static,
    {
        Self {
            target,
            name: std::any::type_name::<Svc>(),
            settings: Settings {
                id: Some(id),
                ..Settings::default()
            },
            plan: Plan::default(),
            input: <AnyInput as Input>::describe,
            outputs: outputs_of::<()>,
            make: Box::new(move |_| Box::new(move |_| Route::new(service))),
        }
    }

    /// Its id: the one given, else its path.
    pub(crate) fn id(&self) -> String {
        let default = || self.name.replace("::{{closure}}", "");
        self.settings.id.clone().unwrap_or_else(default)
    }

    pub(crate) fn with_state<S2>(self, state: &S) -> Entry<S2> {
        let make = (self.make)(state);
        Entry {
            target: self.target,
            settings: self.settings,
            plan: self.plan,
            name: self.name,
            input: self.input,
            outputs: self.outputs,
            make: Box::new(move |_| make),
        }
    }

    pub(crate) fn describe(&self, outer: &Plan) -> HandlerInfo {
        let retry = self.settings.retry.or(self.plan.retry).or(outer.retry);
        HandlerInfo {
            id: self.id(),
            name: self.name.to_owned(),
            version: self.settings.version.clone().unwrap_or_else(|| "1".into()),
            topic: self.target.topic.clone(),
            ty: self.target.ty.clone(),
            pattern: self.target.pattern,
            input: (self.input)(),
            outputs: (self.outputs)(),
            needs: self.settings.needs,
            retry: retry.unwrap_or_default(),
            timeout: self.settings.timeout,
        }
    }
}

impl Entry<()> {
    /// The route of the handler with its own layers around it.
    pub(crate) fn into_route(self, identity: Arc<Identity>) -> Route {
        let make = (self.make)(&());
        let layers = self.settings.layers.iter();
        layers.fold(make(identity), |route, layer| layer(route))
    }
}

fn outputs_of<O: IntoOutcome>() -> Vec<OutputInfo> {
    let mut outputs = Outputs::default();
    O::outputs(&mut outputs);
    outputs.list
}

/// What every call of a handler shares.
struct Shared<H, S> {
    handler: H,
    state: S,
    identity: Arc<Identity>,
}

fn route<H, T, S>(shared: Shared<H, S>, timeout: Option<Duration>) -> Route
where
    H: Handler<T, S>,
    S: Send + Sync + 'static,
    T: 'static,
{
    let shared = Arc::new(shared);
    match timeout {
        None => Route::new(ServiceFn::new(move |delivery| {
            call(Arc::clone(&shared), delivery)
        })),
        Some(limit) => Route::new(ServiceFn::new(move |delivery| {
            let called = call(Arc::clone(&shared), delivery);
            async move {
                let ended = tokio::time::timeout(limit, called).await;
                ended.unwrap_or_else(|_| Err(too_slow(limit).into()))
            }
        })),
    }
}

async fn call<H, T, S>(shared: Arc<Shared<H, S>>, delivery: Delivery) -> Result<Commit, BoxError>
where
    H: Handler<T, S>,
{
    let (event, group) = (Arc::clone(&delivery.event), delivery.group.clone());
    let output = shared.handler.call(delivery, &shared.state).await?;
    let Identity { id, source, .. } = &*shared.identity;
    let mut stage = Stage::new(&event, &group, id, source);
    let outcome = output.into_outcome(&mut stage)?;
    Ok(Commit {
        outcome,
        effects: stage.finish(),
    })
}

fn too_slow(limit: Duration) -> Fail {
    Fail::new(
        FailClass::Timeout,
        format!("the handler took longer than {limit:?}; give it more time or make it faster"),
    )
}

//! Makes an [`App`] of a router: checks the handlers against each other, then builds the routes
//! from the inside out.

use std::sync::Arc;

use tidemill_core::{Delivery, EventId, InvalidName, Source};

use super::describe::HandlerInfo;
use super::entry::Identity;
use super::table::Table;
use super::{BuildError, Node, Plan};
use crate::app::{App, Handled, Parts};
use crate::boxed::{Route, SharedRoute};
use crate::limits::HANDLER_ID_MAX_BYTES;
use crate::message::BoxError;
use crate::policy::ByClass;
use crate::service::ServiceFn;

pub(super) fn build(nodes: Vec<Node<()>>, infos: Vec<HandlerInfo>) -> Result<App, BuildError> {
    if infos.is_empty() {
        return Err(BuildError::Empty);
    }
    refuse_double_ids(&infos)?;
    let table = Arc::new(Table::build(&infos)?);
    let mut plans = Vec::new();
    nodes.iter().for_each(|node| node.plans(&mut plans));
    let identities = infos
        .iter()
        .zip(&plans)
        .map(|(info, plan)| identity(info, plan))
        .collect::<Result<Vec<_>, _>>()?;
    let mut next = 0;
    let routes = routes(nodes, &table, &identities, &mut next);
    let handled = infos
        .iter()
        .zip(plans)
        .zip(identities.iter().zip(routes))
        .map(|((info, plan), (identity, route))| Handled {
            route: route.share(),
            identity: Arc::clone(identity),
            retry: info.retry,
            policy: plan.policy.unwrap_or_else(|| Arc::new(ByClass)),
        })
        .collect();
    Ok(App::new(Parts {
        table,
        handled,
        infos,
    }))
}

fn refuse_double_ids(infos: &[HandlerInfo]) -> Result<(), BuildError> {
    let mut sorted: Vec<&HandlerInfo> = infos.iter().collect();
    sorted.sort_by_key(|info| &info.id);
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first.id == second.id
        {
            return Err(BuildError::DoubleId {
                id: first.id.clone(),
                first: first.name.clone(),
                second: second.name.clone(),
            });
        }
    }
    Ok(())
}

fn identity(info: &HandlerInfo, plan: &Plan) -> Result<Arc<Identity>, BuildError> {
    let name = |why| BuildError::Name {
        handler: info.id.clone(),
        why,
    };
    // An id is part of the ids of the events that the handler emits.
    EventId::new(info.id.clone()).map_err(name)?;
    if info.id.len() > HANDLER_ID_MAX_BYTES {
        return Err(name(InvalidName {
            what: "handler id",
            text: info.id.chars().take(64).collect(),
            why: "it has at most 1024 bytes",
        }));
    }
    let source = match &plan.source {
        Some(source) => source.clone(),
        None => Source::new(default_source(&info.id)).map_err(name)?,
    };
    Ok(Arc::new(Identity {
        id: info.id.clone(),
        version: info.version.clone(),
        source,
    }))
}

/// `/tidemill/<id>`, each character that a URI reference may not have replaced by `_`.
fn default_source(id: &str) -> String {
    let legal = |c: char| c.is_alphanumeric() || "-._~:/@!$&'()*+,;=%".contains(c);
    let id = id.chars().map(|c| if legal(c) { c } else { '_' });
    "/tidemill/".chars().chain(id).collect()
}

/// The routes of `nodes` in the order of their handlers, the same as in the description.
fn routes(
    nodes: Vec<Node<()>>,
    table: &Arc<Table>,
    identities: &[Arc<Identity>],
    next: &mut usize,
) -> Vec<Route> {
    let mut all = Vec::new();
    for node in nodes {
        match node {
            Node::Handler(entry) => {
                let identity = identities.get(*next);
                let identity = identity.expect("each handler was described and has an identity");
                all.push(entry.into_route(Arc::clone(identity)));
                *next += 1;
            }
            Node::Layered { inner, layer } => {
                let first = *next;
                let inner = routes(inner, table, identities, next);
                let count = inner.len();
                let one = layer(select(inner, first, table));
                all.extend(std::iter::repeat_n(one, count));
            }
        }
    }
    all
}

/// One route for several handlers, the first of which is at the place `first`: what a layer
/// around all of them wraps. Always ready; it waits for the handler's own route when it is
/// called.
fn select(mut routes: Vec<Route>, first: usize, table: &Arc<Table>) -> Route {
    if routes.len() == 1
        && let Some(only) = routes.pop()
    {
        return only;
    }
    let table = Arc::clone(table);
    let routes: Arc<[SharedRoute]> = routes.into_iter().map(Route::share).collect();
    Route::new(ServiceFn::new(move |delivery: Delivery| {
        let place = table.find(&delivery.position.topic, &delivery.event);
        let route = place.and_then(|place| routes.get(place.checked_sub(first)?));
        let called = route.map(|route| route.oneshot(delivery));
        async move {
            match called {
                Some(called) => called.await,
                None => Err(BoxError::from(
                    "a layer changed the event's topic or type; leave them as they are",
                )),
            }
        }
    }))
}

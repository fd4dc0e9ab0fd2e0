//! Tells the bus what is handled here, for those who look at the bus.
//!
//! This file may not know how events come or are handled.

use std::sync::Arc;

use serde::Serialize;
use tidemill_core::{Catalogue, CatalogueError, GroupMember};

use super::shared::Shared;
use crate::router::HandlerInfo;

#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    handlers: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    info: &'a HandlerInfo,
    source: &'a str,
}

/// What `shared` handles, as a bus is told of it.
fn catalogue(shared: &Shared) -> Result<Catalogue, CatalogueError> {
    let handlers = shared.app.describe_with_sources();
    let told = Told {
        name: &shared.settings.name,
        handlers: handlers
            .map(|(info, source)| Entry {
                info,
                source: source.as_str(),
            })
            .collect(),
    };
    let text = serde_json::to_string(&told);
    let text = text.map_err(|error| CatalogueError::Invalid(error.to_string()))?;
    Catalogue::from_json(&text)
}

/// Tells it, where the bus wants to know, and that it is done in this process. Events are handled
/// whatever becomes of it.
pub(super) fn announce(member: &mut dyn GroupMember, shared: &Shared) {
    member.handled_here();
    let told = catalogue(shared).and_then(|catalogue| member.describe(Arc::new(catalogue)));
    if let Err(error) = told {
        tracing::warn!(%error, "the bus does not list these handlers");
    }
}

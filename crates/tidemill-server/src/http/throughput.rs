//! `/v1/throughput`: what passed in the last minutes.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::json;
use super::doors::Methods;
use super::openapi::Operation;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::limits::{THROUGHPUT_EVERY, THROUGHPUT_KEPT};
use crate::throughput::Sample;

#[derive(Serialize, JsonSchema)]
struct Samples {
    every_ms: u64,
    kept: usize,
    samples: Vec<Sample>,
}

/// The methods of `/v1/throughput`.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("show_throughput", "Shows what passed in the last minutes")
        .answers::<Samples>(200, "The broker's counters at some times")
        .problems(&[Kind::InvalidQuery, Kind::NotSupported]);
    Methods::new().get(show, operation)
}

/// The samples that are kept.
async fn show(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    app.broker()?;
    Ok(json(&Samples {
        every_ms: u64::try_from(THROUGHPUT_EVERY.as_millis()).unwrap_or(u64::MAX),
        kept: THROUGHPUT_KEPT,
        samples: app.throughput.list(),
    }))
}

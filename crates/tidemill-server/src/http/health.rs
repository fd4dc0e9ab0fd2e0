//! `/health/live` and `/health/ready`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::json;
use super::doors::Methods;
use super::openapi::Operation;
use super::problem::{Kind, Problem};
use crate::app::App;

/// The methods of `/health/live`.
pub(crate) fn live_methods() -> Methods {
    let operation = Operation::new("health_live", "The process runs and answers")
        .answers::<Health>(200, "It does");
    Methods::new().get(live, operation)
}

/// The methods of `/health/ready`.
pub(crate) fn ready_methods() -> Methods {
    let operation = Operation::new("health_ready", "Events are taken now")
        .answers::<Health>(200, "They are")
        .problems(&[Kind::Unavailable]);
    Methods::new().get(ready, operation)
}

#[derive(Serialize, JsonSchema)]
struct Health {
    status: &'static str,
    /// Bytes of memory that are taken for what is on its way, and how many may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// Damaged places in closed segments, where some are known: events are taken all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Memory {
    used_bytes: usize,
    limit_bytes: usize,
}

/// The process runs and answers.
async fn live() -> Response {
    json(&Health {
        status: "live",
        memory: None,
        damaged: None,
    })
}

/// Events are taken now; if not, the problem says why.
async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    app.check_ready()?;
    let known = app.broker.as_ref().map(|broker| broker.metrics());
    let damaged = known.map(|known| known.scrub_damaged);
    Ok(json(&Health {
        status: "ready",
        memory: Some(Memory {
            used_bytes: app.memory.total() + app.memory.over(),
            limit_bytes: app.memory.limit(),
        }),
        damaged: damaged.filter(|count| *count > 0),
    }))
}

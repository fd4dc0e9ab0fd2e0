//! `/health/live` and `/health/ready`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::answer::json;
use super::problem::Problem;
use crate::app::App;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Bytes of memory that are taken for what is on its way, and how many may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// Damaged places in closed segments, where some are known: events are taken all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
}

#[derive(Serialize)]
struct Memory {
    used_bytes: usize,
    limit_bytes: usize,
}

/// The process runs and answers.
pub(crate) async fn live() -> Response {
    json(&Health {
        status: "live",
        memory: None,
        damaged: None,
    })
}

/// Events are taken now; if not, the problem says why.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
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

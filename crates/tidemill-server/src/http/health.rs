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
}

/// The process runs and answers.
pub(crate) async fn live() -> Response {
    json(&Health { status: "live" })
}

/// Events are taken now; if not, the problem says why.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    app.check_ready()?;
    Ok(json(&Health { status: "ready" }))
}

//! HTTP: which path leads to which door, and what holds for all of them (time limits, metrics,
//! problem documents for paths and methods that do not exist).

mod answer;
mod backups;
mod binary;
pub(crate) mod body;
mod clients;
pub(crate) mod cors;
mod deadletters;
pub(crate) mod doors;
mod fetch;
mod graph;
mod groups;
mod handlers;
mod health;
mod metrics;
mod metrics_kafka;
pub(crate) mod openapi;
pub(crate) mod origin;
mod page;
mod patched;
mod path;
pub(crate) mod plain;
pub(crate) mod problem;
mod publish;
pub(crate) mod pull;
mod query;
mod queues;
pub(crate) mod rate;
mod request;
pub(crate) mod request_id;
mod stream;
mod throughput;
mod topics;
mod webhooks;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};

use self::doors::Doors;
use self::openapi::Document;
use self::problem::{Kind, Problem};
use crate::app::App;
use crate::limits::REQUEST_TIMEOUT;

/// All paths but Socket.IO's.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (router, paths) = doors().into_parts();
    router
        .route("/page/{name}", page::parts())
        .fallback(not_found)
        .layer(Extension(Document::of(paths)))
        .layer(from_fn(within_time))
        .layer(from_fn_with_state(Arc::clone(app), measured))
        .with_state(Arc::clone(app))
}

/// Every path, with what is said of it.
fn doors() -> Doors {
    Doors::default()
        .door("/", page::methods())
        .door("/openapi.json", openapi::methods())
        .door("/event", plain::methods())
        .with(topics::doors)
        .with(groups::doors)
        .with(pull::doors)
        .with(request::doors)
        .with(deadletters::doors)
        .with(queues::doors)
        .door("/v1/clients", clients::methods())
        .door("/v1/handlers", handlers::methods())
        .door("/v1/graph", graph::methods())
        .door("/v1/throughput", throughput::methods())
        .with(backups::doors)
        .with(webhooks::doors)
        .door(tidemill_core::wire::PATH, crate::ws::methods())
        .door("/health/live", health::live_methods())
        .door("/health/ready", health::ready_methods())
        .door("/metrics", metrics::methods())
}

async fn not_found(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(256).collect();
    let detail = format!("there is nothing at {path}; see / for what there is");
    Problem::new(Kind::NotFound, detail)
}

/// No request takes for ever.
async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = REQUEST_TIMEOUT.as_secs();
            let detail = format!(
                "no answer within {seconds} s; what was sent may have been kept, check before \
                 sending it again"
            );
            Problem::new(Kind::Timeout, detail).into_response()
        }
    }
}

/// Counts each answer by the pattern of its path, so that the number of series is bounded.
async fn measured(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.answered(&method, path, status, began.elapsed());
    response
}

//! HTTP: which path leads to which door, and what holds for all of them (time limits, metrics,
//! problem documents for paths and methods that do not exist).

mod answer;
mod backups;
mod binary;
pub(crate) mod body;
mod fetch;
mod groups;
mod health;
mod metrics;
pub(crate) mod origin;
mod page;
mod path;
pub(crate) mod plain;
pub(crate) mod problem;
mod publish;
mod query;
mod queues;
mod stream;
mod topics;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use self::problem::{Kind, Problem};
use crate::app::App;
use crate::limits::REQUEST_TIMEOUT;

/// All paths but Socket.IO's.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", only("GET", get(page::page)))
        .route("/event", only("POST", post(plain::publish)))
        .route("/v1/topics", only("GET, POST", topics::collection()))
        .route("/v1/topics/{topic}", only("GET, DELETE", topics::one()))
        .route(
            "/v1/topics/{topic}/events",
            only(
                "GET, POST, DELETE",
                get(fetch::fetch)
                    .post(publish::publish)
                    .delete(topics::trim),
            ),
        )
        .route(
            "/v1/topics/{topic}/stream",
            only("GET", get(stream::stream)),
        )
        .merge(queues())
        .route("/v1/groups", only("GET", get(groups::list)))
        .route("/v1/groups/{group}", only("GET, DELETE", groups::one()))
        .route(
            tidemill_core::wire::PATH,
            only("GET", get(crate::ws::upgrade)),
        )
        .route("/v1/backups", only("GET, POST", backups::collection()))
        .route("/v1/backups/{backup}", only("GET", get(backups::show)))
        .route("/health/live", only("GET", get(health::live)))
        .route("/health/ready", only("GET", get(health::ready)))
        .route("/metrics", only("GET", get(metrics::metrics)))
        .fallback(not_found)
        .layer(from_fn(within_time))
        .layer(from_fn_with_state(Arc::clone(app), measured))
        .with_state(Arc::clone(app))
}

/// The paths of queues.
fn queues() -> Router<Arc<App>> {
    let one = "/v1/queues/{queue}";
    let of = |what: &str| format!("{one}/{what}");
    Router::new()
        .route("/v1/queues", only("GET, POST", queues::collection()))
        .route(one, only("GET, DELETE", queues::one()))
        .route(&of("enqueue"), only("POST", queues::enqueues()))
        .route(&of("dequeue"), only("POST", queues::dequeues()))
        .route(&of("ack"), only("POST", queues::acks()))
        .route(&of("requeue"), only("POST", queues::requeues()))
        .route(&of("length"), only("GET", queues::lengths()))
        .route(&of("peek"), only("GET", queues::peeks()))
}

/// Answers other methods than `allowed` with a problem document.
fn only(allowed: &'static str, methods: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    methods.fallback(move || std::future::ready(Problem::method(allowed)))
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

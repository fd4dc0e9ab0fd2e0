//! `/v1/graph`: the flow graph, as JSON or as text for Mermaid.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::answer::json;
use super::doors::Methods;
use super::openapi::{Operation, Parameter};
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::graph::{Facts, Graph};

/// What browsers show instead of saving it.
const TEXT: &str = "text/plain; charset=utf-8";

/// The methods of `/v1/graph`.
pub(crate) fn methods() -> Methods {
    const QUERY: &[Parameter] = &[Parameter::text("format", "`json`, or `mermaid` for a text")];
    let operation = Operation::new("show_graph", "Shows who sends what to whom")
        .query(QUERY)
        .answers::<Graph>(200, "The flow graph")
        .problems(&[Kind::InvalidQuery, Kind::NotSupported]);
    Methods::new().get(show, operation)
}

/// The graph in the form that is asked for.
async fn show(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["format"])?;
    let is_mermaid = match query.text("format") {
        None | Some("json") => false,
        Some("mermaid") => true,
        Some(_) => return Err(Problem::query("format is json or mermaid")),
    };
    let graph = Graph::of(Facts::of(app.broker()?).await);
    Ok(match is_mermaid {
        true => ([(CONTENT_TYPE, TEXT)], graph.to_mermaid()).into_response(),
        false => json(&graph),
    })
}

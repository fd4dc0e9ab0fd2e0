//! `/`, a page for people who open the server in a browser.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::Html;

use super::doors::Methods;
use super::openapi::Operation;
use super::openapi::types::AnyText;
use crate::app::App;

/// The methods of `/`.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("page", "A page for people").answers_as::<AnyText>(
        200,
        "text/html",
        "The page",
    );
    Methods::new().get(page, operation)
}

/// Names the doors, with commands for the address under which the page was asked for.
async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Html<String> {
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = match asked {
        Some(host) if is_plain(host) => host.to_owned(),
        _ => app.address.to_string(),
    };
    Html(include_str!("page.html").replace("{host}", &host))
}

/// Whether it is nothing but a host and a port, which mean nothing else in a page.
fn is_plain(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !host.is_empty() && host.chars().all(plain)
}

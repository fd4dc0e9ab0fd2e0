//! `/`, a page for people who open the server in a browser.

use axum::response::Html;

/// Names the doors.
pub(crate) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

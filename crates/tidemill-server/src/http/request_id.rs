//! Every request has an id, by which its answer, its problem document and the log's lines about it
//! are found again: the header `x-request-id` where the client sends one that can be used, else a
//! new one. Knows no door.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use crate::limits::REQUEST_ID_MAX_BYTES;

/// The header, of requests and of answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this is done for, where it is done for one.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// The middleware that gives each request its id. Belongs outside of all others.
pub(crate) async fn identified(request: Request, next: Next) -> Response {
    let id = given(request.headers()).unwrap_or_else(made);
    // Seen wherever a warning is: its lines say which request they are about.
    let span = tracing::error_span!("request", id);
    let header = HeaderValue::try_from(&id);
    let mut response = CURRENT.scope(id, next.run(request)).instrument(span).await;
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    response
}

/// The client's own id, if it is one, of visible ASCII characters alone: whatever reads logs can
/// be shown it.
fn given(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(REQUEST_ID).iter();
    let (Some(one), None) = (all.next(), all.next()) else {
        return None;
    };
    let bytes = one.as_bytes();
    let sane = (1..=REQUEST_ID_MAX_BYTES).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    let text = std::str::from_utf8(bytes).ok().filter(|_| sane)?;
    Some(text.to_owned())
}

fn made() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::{Kind, Problem};
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tower::ServiceExt;

    #[test]
    fn only_an_id_that_can_be_shown_anywhere_is_taken() {
        let long = "x".repeat(REQUEST_ID_MAX_BYTES);
        for (text, taken) in [
            ("7", true),
            ("a-b/c:d.e=f", true),
            (long.as_str(), true),
            (&format!("{long}x"), false),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("a\"b", false),
            ("a\\b", false),
            ("\u{e9}", false),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            headers.append(REQUEST_ID, value);
            assert_eq!(given(&headers).is_some(), taken, "{text:?}");
            headers.append(REQUEST_ID, HeaderValue::from_static("7"));
            assert_eq!(given(&headers), None);
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn answer_problem_and_log_have_the_same_id() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let fails = || async { Problem::new(Kind::Internal, "the reason") };
        let router = Router::new().route("/", get(fails));
        let router = router.layer(from_fn(identified));
        let request = axum::http::Request::get("/").header(REQUEST_ID, "my-7");
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await;
        let response = response.unwrap();
        drop(guard);
        assert_eq!(response.headers().get(REQUEST_ID).unwrap(), "my-7");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["request_id"], "my-7");
        let lines = lines.0.lock().unwrap().clone();
        let lines = String::from_utf8(lines).unwrap();
        assert!(
            lines.contains("my-7") && lines.contains("the reason"),
            "{lines}"
        );
        // Nobody asked.
        assert_eq!(current(), None);
    }
}

//! A small HTTP client for a server's public API: JSON in, JSON out, connections kept.
//!
//! This room may not know what the answers mean; that is `wire.rs` and `target.rs`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidemill::core::shown::escaped;

use crate::failure::Failure;
use crate::limits::{ANSWER_MAX_BYTES, CALL_TIMEOUT};
use crate::refusal::Refusal;
use crate::values::ServerUrl;

/// One server. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    base: String,
}

/// What of a partition cannot be read: what lies before this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) partition: u32,
    /// Where reading may go on.
    pub(crate) resume: u64,
}

/// Why a call brought no answer that can be used.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server answered with a problem.
    Refused(Refusal),
    /// The events asked for are damaged; the server says where reading may go on.
    Damaged(Damage, String),
    /// There was no whole answer, and nothing was changed.
    NoAnswer(String),
    /// There was no whole answer to a call that changes something: it may have done so.
    Unknown(String),
}

impl CallError {
    /// Whether what was asked for may have been done all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal.status.as_u16(), 500 | 504),
            Self::NoAnswer(_) | Self::Damaged(..) => false,
            Self::Unknown(_) => true,
        }
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NoAnswer(text) | Self::Unknown(text) | Self::Damaged(_, text) => {
                f.write_str(text)
            }
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown(text) => Self::new(format!(
                "{text}; it may have been done all the same: look before you try again"
            )),
            CallError::Refused(refusal) => refusal.into(),
            error => Self::new(error),
        }
    }
}

/// The part of an RFC 9457 problem document that people read.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    r#type: String,
    detail: Option<String>,
    title: Option<String>,
    /// Where damage is known to end.
    partition: Option<u32>,
    resume: Option<u64>,
}

impl Client {
    /// A client of the server at `url`.
    pub(crate) fn new(url: &ServerUrl) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CALL_TIMEOUT));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            pool,
            base: url.as_str().to_owned(),
        }
    }

    /// `GET path`, which the server may hold back for `wait`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, CallError> {
        let answer = self.call(Method::GET, path, None, wait).await?;
        understood(&answer)
    }

    /// `GET path`, whose answer is a text.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, CallError> {
        let answer = self.call(Method::GET, path, None, Duration::ZERO).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// `POST path` with a body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let body = Some((content_type, body));
        let answer = self.call(Method::POST, path, body, Duration::ZERO).await?;
        understood(&answer)
    }

    /// `PATCH path` with a JSON body.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let body = Some(("application/json", body));
        let answer = self.call(Method::PATCH, path, body, Duration::ZERO).await?;
        understood(&answer)
    }

    /// `POST path` without a body, which the server may hold back for `wait`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, CallError> {
        let answer = self.call(Method::POST, path, None, wait).await?;
        understood(&answer)
    }

    /// `POST path` with a body; the answer as it is, which the server may hold back for `wait`.
    pub(crate) async fn post_and_wait(
        &self,
        path: &str,
        content_type: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Bytes, CallError> {
        let body = Some((content_type, body));
        self.call(Method::POST, path, body, wait).await
    }

    /// `DELETE path`, which answers with what became of it.
    pub(crate) async fn delete_from<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, CallError> {
        let answer = self
            .call(Method::DELETE, path, None, Duration::ZERO)
            .await?;
        understood(&answer)
    }

    /// `DELETE path`; what it answers is not looked at.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), CallError> {
        self.call(Method::DELETE, path, None, Duration::ZERO)
            .await?;
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        wait: Duration,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some((content_type, _)) = body {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(Full::new(body.map(|b| b.1).unwrap_or_default()))
            .map_err(|e| CallError::NoAnswer(format!("cannot ask for {path}: {e}")))?;
        let changes = request.method() != Method::GET;
        let answer = match tokio::time::timeout(wait + CALL_TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Unknown(format!(
                "{} did not answer within {} s; is it overloaded?",
                self.base,
                (wait + CALL_TIMEOUT).as_secs()
            ))),
        };
        answer.map_err(|error| match error {
            CallError::Unknown(text) if !changes => CallError::NoAnswer(text),
            error => error,
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, CallError> {
        let response = self
            .pool
            .request(request)
            .await
            .map_err(|e| self.no_answer(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) => {
                let text = format!("the answer of {} broke off: {e}", self.base);
                return Err(CallError::Unknown(text));
            }
        };
        if status.is_success() {
            return Ok(body);
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let damage = problem.as_ref().and_then(|problem| {
            let (partition, resume) = (problem.partition?, problem.resume?);
            Some(Damage { partition, resume })
        });
        let (ty, detail) = problem.map_or_else(Default::default, |problem| {
            (problem.r#type, problem.detail.or(problem.title))
        });
        // A line of its own making is not taken for one of ours.
        let detail = detail.map(|text| escaped(&text));
        let detail = detail.unwrap_or_else(|| {
            format!(
                "what answers at {} is no Tidemill, or something in between; name a server of it \
                 with --server",
                self.base
            )
        });
        Err(match damage {
            Some(damage) => CallError::Damaged(damage, detail),
            None => CallError::Refused(Refusal::new(status, &ty, detail, &self.words())),
        })
    }

    /// The options of a command that asks the same server.
    fn words(&self) -> Vec<String> {
        match self.base == ServerUrl::default_place().as_str() {
            true => Vec::new(),
            false => vec!["--server".to_owned(), self.base.clone()],
        }
    }

    fn no_answer(&self, error: &hyper_util::client::legacy::Error) -> CallError {
        let base = &self.base;
        if error.is_connect() {
            return CallError::NoAnswer(format!(
                "no server answers at {base}; start one with `tidemill serve`, or name another \
                 with --server"
            ));
        }
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        CallError::Unknown(format!("the connection to {base} broke ({why})"))
    }
}

fn understood<T: DeserializeOwned>(answer: &Bytes) -> Result<T, CallError> {
    serde_json::from_slice(answer)
        .map_err(|e| CallError::NoAnswer(format!("the server's answer is not understood: {e}")))
}

/// A path made of `parts`, each encoded so that it stays one part.
pub(crate) fn path(parts: &[&str]) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let encoded = parts
        .iter()
        .map(|part| format!("/{}", utf8_percent_encode(part, KEPT)));
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_each_part_whole() {
        assert_eq!(
            path(&["v1", "groups", "a/b ü?"]),
            "/v1/groups/a%2Fb%20%C3%BC%3F"
        );
    }

    #[tokio::test]
    async fn another_program_is_named_and_its_page_is_not_printed() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let page = "<html>no such page</html>";
            let length = page.len();
            let answer = format!("HTTP/1.1 404 No\r\ncontent-length: {length}\r\n\r\n{page}");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let client = Client::new(&url.parse().unwrap());
        let error = client.get::<()>("/v1/topics", Duration::ZERO).await;
        let text = Failure::from(error.unwrap_err()).to_string();
        server.join().unwrap();
        assert!(
            text.contains(&url) && text.contains("--server") && !text.contains("<html>"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn what_a_server_says_is_one_line_that_commands_nothing() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let problem = "{\"detail\":\"no \\u001b[2Jtopic\\ndeleted a\"}";
            let length = problem.len();
            let answer = format!("HTTP/1.1 409 No\r\ncontent-length: {length}\r\n\r\n{problem}");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let client = Client::new(&url.parse().unwrap());
        let error = client.get::<()>("/v1/topics", Duration::ZERO).await;
        let text = Failure::from(error.unwrap_err()).to_string();
        server.join().unwrap();
        assert_eq!(text, "no \\u{1b}[2Jtopic\\ndeleted a (HTTP 409)");
    }

    #[tokio::test]
    async fn a_missing_server_is_named_with_what_to_do() {
        // A port that was just free: nothing listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&url.parse().unwrap());
        let error = client
            .get::<()>("/v1/topics", Duration::ZERO)
            .await
            .unwrap_err();
        let text = Failure::from(error).to_string();
        assert!(
            text.contains(&url) && text.contains("tidemill serve"),
            "{text}"
        );
    }
}

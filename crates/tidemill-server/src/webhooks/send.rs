//! One attempt: a signed request to an endpoint, and what its answer means.
//!
//! This room may not know topics, groups, or when something is tried again.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use tidemill_core::json::EVENT_CONTENT_TYPE;
use tidemill_core::shown::commands;
use tokio::time::timeout;

use super::definition::{Definition, header_map};
use super::{retry, sign};
use crate::limits::{
    WEBHOOK_ANSWER_MAX_BYTES, WEBHOOK_ANSWER_SHOWN, WEBHOOK_ANSWER_TIMEOUT, WEBHOOK_HEAD_MAX_BYTES,
    WEBHOOK_IDLE, WEBHOOK_RETRY_AFTER_MAX,
};

const AGENT: &str = concat!("tidemill/", env!("CARGO_PKG_VERSION"));

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint answered with 2xx.
    Done(StatusCode),
    /// Anything else, which may be tried again.
    Failed(Failed),
    /// The endpoint answered 410: it wants no more.
    Gone(String),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The class of the failure, as dead letters have it.
    pub(crate) reason: &'static str,
    pub(crate) status: Option<StatusCode>,
    /// What happened.
    pub(crate) text: String,
    /// How long the endpoint asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Failed {
    fn error(text: String) -> Self {
        Self {
            reason: "error",
            status: None,
            text,
            retry_after: None,
        }
    }
}

/// What events are sent with to one endpoint, with the connections to it.
pub(crate) struct Sender {
    client: Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String>,
}

impl Sender {
    /// For this webhook. The certificates are read from the disk where the first one needs them.
    pub(crate) async fn new(definition: &Definition) -> Self {
        let config = match definition.url.starts_with("https://") {
            true => tls().await,
            // Never used.
            false => tls_config(RootCertStore::empty()),
        };
        let concurrency = definition.concurrency;
        Self {
            client: config.map(|config| client(config, concurrency)),
        }
    }

    /// Sends a body under this id, signed as of `now`.
    pub(crate) async fn send(
        &self,
        definition: &Definition,
        id: &str,
        body: Bytes,
        now: Timestamp,
    ) -> Verdict {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => return Verdict::Failed(Failed::error(why.clone())),
        };
        let request = match request(definition, id, body, now) {
            Ok(request) => request,
            Err(why) => return Verdict::Failed(Failed::error(why)),
        };
        let answer = match timeout(definition.timeout(), client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Verdict::Failed(Failed::error(broken(&error))),
            Err(_) => {
                let ms = definition.timeout_ms;
                return Verdict::Failed(Failed {
                    reason: "timeout",
                    ..Failed::error(format!("the endpoint did not answer within {ms} ms"))
                });
            }
        };
        judge(answer, now).await
    }
}

fn client(
    config: ClientConfig,
    concurrency: usize,
) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(WEBHOOK_IDLE)
        .pool_max_idle_per_host(concurrency)
        .http1_max_buf_size(WEBHOOK_HEAD_MAX_BYTES)
        .build(connector)
}

/// What the machine trusts, read once.
async fn tls() -> Result<ClientConfig, String> {
    static ROOTS: OnceLock<Result<RootCertStore, String>> = OnceLock::new();
    let read = tokio::task::spawn_blocking(|| ROOTS.get_or_init(roots).clone());
    let roots = read.await.map_err(|error| error.to_string())??;
    tls_config(roots)
}

fn roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let first = found.errors.first().map(|error| format!(" ({error})"));
    Err(format!(
        "this machine has no certificates of authorities{}; install them (on Debian: \
         ca-certificates), or name their file in SSL_CERT_FILE, and start the server again",
        first.unwrap_or_default()
    ))
}

fn tls_config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn request(
    definition: &Definition,
    id: &str,
    body: Bytes,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, String> {
    let seconds = now.as_second();
    let signature = sign::signatures(definition.secrets(now), id, seconds, &body);
    let own = [
        (USER_AGENT.as_str(), AGENT),
        ("webhook-id", id),
        ("webhook-timestamp", &seconds.to_string()),
        ("webhook-signature", &signature),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_CONTENT_TYPE));
    headers.extend(header_map(&definition.headers));
    for (name, value) in own {
        let name = axum::http::HeaderName::from_static(match name {
            "webhook-id" => "webhook-id",
            "webhook-timestamp" => "webhook-timestamp",
            "webhook-signature" => "webhook-signature",
            _ => "user-agent",
        });
        let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        headers.insert(name, value);
    }
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(definition.url.as_str())
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// What an answer means. Of its body a little is read, so that the connection can be used again
/// where that was all of it, and for the text of a failure.
async fn judge(answer: Response<Incoming>, now: Timestamp) -> Verdict {
    let (head, body) = answer.into_parts();
    let status = head.status;
    let said = said(body).await;
    if status.is_success() {
        return Verdict::Done(status);
    }
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    if status == StatusCode::GONE {
        return Verdict::Gone("the endpoint answered 410 Gone".to_owned());
    }
    let mut what = format!("the endpoint answered {status}");
    if status.is_redirection() {
        let to = text(LOCATION).map(|to| format!(" to {}", shown(to)));
        let _ = write!(
            what,
            "{}; redirects are not followed: change the webhook's url",
            to.unwrap_or_default()
        );
    } else if !said.is_empty() {
        let _ = write!(what, ": {said}");
    }
    let after = text(RETRY_AFTER).and_then(|value| retry::retry_after(value, now));
    Verdict::Failed(Failed {
        status: Some(status),
        retry_after: after.map(|after| after.min(WEBHOOK_RETRY_AFTER_MAX)),
        ..Failed::error(what)
    })
}

/// The beginning of an answer's body.
async fn said(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = WEBHOOK_ANSWER_MAX_BYTES.saturating_sub(bytes.len());
            bytes.extend(data.iter().take(room));
            if data.len() > room {
                return;
            }
        }
    };
    let _ = timeout(WEBHOOK_ANSWER_TIMEOUT, reading).await;
    shown(&String::from_utf8_lossy(&bytes))
}

/// A text of strangers, cut, on one line.
fn shown(text: &str) -> String {
    let plain = |c: char| if commands(c) { ' ' } else { c };
    let cut = text.trim().chars().take(WEBHOOK_ANSWER_SHOWN).map(plain);
    cut.collect()
}

/// What went wrong with a connection, down to its cause.
fn broken(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = match error.is_connect() {
        true => "the endpoint cannot be reached".to_owned(),
        false => "the endpoint broke off before it answered".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        cause = error.source();
    }
    text
}

//! What the doors answer with when all went well.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tidemill_core::budget::Share;
use tidemill_core::{EventId, Offset, Partition, Position, TopicName};

/// An event that is durable now.
#[derive(Debug, Serialize)]
pub(crate) struct Accepted<'a> {
    status: &'static str,
    id: &'a EventId,
    topic: &'a TopicName,
    partition: Partition,
    offset: Offset,
}

impl<'a> Accepted<'a> {
    pub(crate) fn new(id: &'a EventId, position: &'a Position) -> Self {
        Self {
            status: "success",
            id,
            topic: &position.topic,
            partition: position.partition,
            offset: position.offset,
        }
    }
}

/// A batch that is durable now, in the order in which it was sent.
#[derive(Debug, Serialize)]
pub(crate) struct AcceptedBatch<'a> {
    pub(crate) status: &'static str,
    pub(crate) events: Vec<Accepted<'a>>,
}

/// Answers 200 with `value` as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    json_with(StatusCode::OK, value)
}

/// Answers `status` with `value` as JSON.
pub(crate) fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("answers have string keys and finite numbers");
    raw_json(status, body)
}

/// A text whose memory is given back when the client has it.
struct Counted {
    text: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Answers 200 with a text that is JSON already, and that has its memory until it is sent.
pub(crate) fn counted_json(text: Vec<u8>, share: Share) -> Response {
    let counted = Counted {
        text,
        _share: share,
    };
    raw_json(StatusCode::OK, Bytes::from_owner(counted))
}

/// Answers `status` with a text that is JSON already.
pub(crate) fn raw_json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = (status, body.into()).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

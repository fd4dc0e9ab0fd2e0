//! What the doors answer with when all went well.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use schemars::JsonSchema;
use serde::Serialize;
use tidemill_core::budget::Share;
use tidemill_core::{EventId, Offset, Partition, Position, TopicName};

use crate::limits::ANSWER_PIECE_BYTES;

/// An event that is durable now.
#[derive(Debug, Serialize, JsonSchema)]
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
#[derive(Debug, Serialize, JsonSchema)]
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
    raw_json(status, body.into())
}

/// A text that has its memory until the last of it was taken. It is given out in pieces: what a
/// connection takes it copies, and it takes the next piece when it has sent enough.
struct Counted {
    rest: Bytes,
    _share: Share,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.rest.len().min(ANSWER_PIECE_BYTES);
        let piece = self.rest.split_to(most);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Answers 200 with a text that is JSON already, and that has its memory until it is sent.
pub(crate) fn counted_json(text: Vec<u8>, share: Share) -> Response {
    let counted = Counted {
        rest: text.into(),
        _share: share,
    };
    with_json(Response::new(Body::new(counted)))
}

/// Answers `status` with a text that is JSON already.
pub(crate) fn raw_json(status: StatusCode, body: Bytes) -> Response {
    with_json((status, body).into_response())
}

fn with_json(mut response: Response) -> Response {
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

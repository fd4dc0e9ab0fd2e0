//! Reading request bodies within bounds of size, time and memory. Knows nothing of their meaning.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};
use crate::limits::{BODIES_TOTAL_MAX_BYTES, BODY_READ_TIMEOUT};

/// The memory budget is counted in pieces of this size, as a semaphore counts in 32 bits.
const PIECE_BYTES: usize = 1024;

/// The memory that request bodies share.
#[derive(Debug)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    max_bytes: usize,
    timeout: Duration,
}

/// A whole body. Its memory counts against the budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    /// Bodies of at most `max_bytes` each.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let total = BODIES_TOTAL_MAX_BYTES.max(max_bytes);
        Self {
            room: Arc::new(Semaphore::new(total.div_ceil(PIECE_BYTES))),
            max_bytes,
            timeout: BODY_READ_TIMEOUT,
        }
    }

    /// Reads a body to its end.
    pub(crate) async fn read(&self, body: Body) -> Result<Received, Problem> {
        let size = body.size_hint();
        if size.lower() > self.max_bytes as u64 {
            return Err(Problem::too_large(self.max_bytes));
        }
        let most = size
            .exact()
            .and_then(|exact| usize::try_from(exact).ok())
            .unwrap_or(self.max_bytes);
        tokio::time::timeout(self.timeout, self.read_within(body, most))
            .await
            .unwrap_or_else(|_| {
                let seconds = self.timeout.as_secs();
                let detail = format!("the body was not there within {seconds} s; send it again");
                Err(Problem::new(Kind::BodyTimeout, detail))
            })
    }

    async fn read_within(&self, body: Body, most: usize) -> Result<Received, Problem> {
        let pieces = u32::try_from(most.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(pieces)
            .await
            .expect("the semaphore is never closed");
        match Limited::new(body, self.max_bytes).collect().await {
            Ok(collected) => Ok(Received {
                bytes: collected.to_bytes(),
                _room: room,
            }),
            Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(self.max_bytes)),
            Err(error) => {
                let detail = format!("the body broke off ({error}); send it again");
                Err(Problem::new(Kind::InvalidJson, detail))
            }
        }
    }
}

/// The media type of a request without its parameters, in lower case; empty where there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let full = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let full = String::from_utf8_lossy(full.unwrap_or_default());
    let essence = full.split(';').next().unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

/// Whether a media type is JSON: `application/json`, or any with the suffix `+json`.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

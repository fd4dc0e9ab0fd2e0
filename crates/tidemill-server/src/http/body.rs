//! Reading request bodies within bounds of size, time and memory. Knows nothing of their meaning.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tidemill_core::budget::{Budget, Class, Share};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::problem::{Kind, Problem};
use crate::limits::{BODY_READ_TIMEOUT, DISCARD_MAX_BYTES, DISCARD_TIMEOUT, MEMORY_WAIT};
use crate::memory;

/// The memory budget is counted in pieces of this size, as a semaphore counts in 32 bits.
const PIECE_BYTES: usize = 1024;

/// Memory that a body of several pieces gets at once; more as it comes.
const FIRST_RESERVE_BYTES: usize = 1024 * 1024;

/// The memory that request bodies share. They wait for it in the order in which they came.
#[derive(Debug)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    memory: Budget,
    max_bytes: usize,
    timeout: Duration,
}

/// A whole body. Its memory counts against the budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
    _share: Share,
}

impl Bodies {
    /// Bodies of at most `max_bytes` each, and of what requests may have of the memory.
    pub(crate) fn new(max_bytes: usize, memory: Budget) -> Self {
        let total = memory.max(Class::Requests);
        Self {
            room: Arc::new(Semaphore::new(total.div_ceil(PIECE_BYTES))),
            memory,
            max_bytes: max_bytes.min(total),
            timeout: BODY_READ_TIMEOUT,
        }
    }

    /// Reads a body to its end. To be called before anything else is refused: an answer to a
    /// request whose body was not read is often lost on its way.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Received, Problem> {
        let size = body.size_hint();
        if size.lower() > self.max_bytes as u64 {
            // A client that asks first has not begun to send, and what is not read to its end is
            // not worth the reading.
            let is_read = size.lower() <= DISCARD_MAX_BYTES as u64;
            if is_read && !headers.contains_key(EXPECT) {
                discard(body).await;
            }
            return Err(Problem::too_large(self.max_bytes));
        }
        let most = size
            .exact()
            .and_then(|exact| usize::try_from(exact).ok())
            .unwrap_or(self.max_bytes);
        // What a client waits for here is not its own slowness.
        let room = match self.reserve(most).await {
            Ok(room) => room,
            Err(problem) => {
                if !headers.contains_key(EXPECT) {
                    discard(body).await;
                }
                return Err(problem);
            }
        };
        tokio::time::timeout(self.timeout, self.read_within(body, most, room))
            .await
            .unwrap_or_else(|_| {
                let seconds = self.timeout.as_secs();
                let detail = format!("the body was not there within {seconds} s; send it again");
                Err(Problem::new(Kind::BodyTimeout, detail))
            })
    }

    /// Memory for a body of at most `most` bytes, once it is this one's turn.
    async fn reserve(&self, most: usize) -> Result<(OwnedSemaphorePermit, Share), Problem> {
        let until = Instant::now() + MEMORY_WAIT;
        let pieces = u32::try_from(most.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(pieces);
        let room = tokio::time::timeout_at(until, room).await;
        let room = room.map_err(|_| memory::none_is_free())?;
        let room = room.expect("the semaphore is never closed");
        let share = memory::take(&self.memory, Class::Requests, most, until).await?;
        Ok((room, share))
    }

    async fn read_within(
        &self,
        mut body: Body,
        most: usize,
        (room, share): (OwnedSemaphorePermit, Share),
    ) -> Result<Received, Problem> {
        let mut whole = Parts::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let detail = format!("the body broke off ({error}); send it again");
                Problem::new(Kind::BodyBrokenOff, detail)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if whole.len() + data.len() > self.max_bytes {
                drop((whole, room, share));
                discard(body).await;
                return Err(Problem::too_large(self.max_bytes));
            }
            whole.push(data, most);
        }
        Ok(Received {
            bytes: whole.into_bytes(),
            _room: room,
            _share: share,
        })
    }
}

/// A body as it comes: often one piece, which is not copied.
#[derive(Default)]
struct Parts {
    first: Bytes,
    rest: BytesMut,
}

impl Parts {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, data: Bytes, most: usize) {
        if self.len() == 0 {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            self.rest
                .reserve((self.len() + data.len()).max(most.min(FIRST_RESERVE_BYTES)));
            self.rest
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        match self.rest.is_empty() {
            true => self.first,
            false => self.rest.freeze(),
        }
    }
}

/// Reads what is refused, so that the answer is not lost in a reset; not for ever.
pub(crate) async fn discard(mut body: Body) {
    let reading = async {
        let mut left = DISCARD_MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// The media type of a request without its parameters, in lower case; empty where there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let full = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let full = String::from_utf8_lossy(full.unwrap_or_default());
    let essence = full.split(';').next().unwrap_or("");
    essence.trim().to_ascii_lowercase()
}

/// What is read as a text of JSON is UTF-8: a media type that says otherwise is refused.
pub(crate) fn is_utf8(headers: &HeaderMap) -> Result<(), Problem> {
    let full = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let full = String::from_utf8_lossy(full.unwrap_or_default()).to_ascii_lowercase();
    let mut parameters = full
        .split(';')
        .skip(1)
        .filter_map(|one| one.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim() == "charset");
    match charset.map(|(_, value)| value.trim().trim_matches('"')) {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
        Some(_) => Err(Problem::charset()),
    }
}

/// The one rule for every body that is JSON: its media type is `application/json`, any with the
/// suffix `+json`, none at all, or what `curl -d` states by itself.
pub(crate) fn is_for_json(headers: &HeaderMap) -> Result<(), Problem> {
    is_utf8(headers)?;
    match media_type(headers).as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        other if other.ends_with("+json") => Ok(()),
        _ => Err(Problem::media_type("application/json")),
    }
}

/// What a JSON body says that is an object. `shape` is what it is to be, as the refusal names it;
/// JSON of another shape is a problem of the kind `misshapen`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    shape: &str,
    misshapen: Kind,
) -> Result<T, Problem> {
    // An array would be taken as the object's values in their order.
    if !body.trim_ascii_start().starts_with(b"{") && is_json(body) {
        let detail = format!("the body is no JSON object; send {shape}");
        return Err(Problem::new(misshapen, detail));
    }
    decode_any(body, shape, misshapen)
}

/// As [`decode`], of a body that need not be an object.
pub(crate) fn decode_any<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    shape: &str,
    misshapen: Kind,
) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        // Some values of a wrong type are wrong syntax to the reader of the right one.
        let kind = match error.is_data() || is_json(body) {
            true => misshapen,
            false => Kind::InvalidJson,
        };
        Problem::new(kind, format!("the body is not {shape}: {error}"))
    })
}

/// An element of a list that is an object with names, as [`decode`] has it for a whole body.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Named<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        from.deserialize_map(Named(PhantomData)).map(Self)
    }
}

fn is_json(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body);
    text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that nobody knows the length of, and that never comes.
    fn unknown() -> Body {
        Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_memory_is_told_so_and_not_that_it_was_slow() {
        let memory = Budget::new(64 * 1024 * 1024);
        let bodies = Bodies::new(3 * 1024 * 1024, memory.clone());
        let taken = memory.max(Class::Requests);
        let share = memory.take(Class::Requests, taken).unwrap();
        let began = Instant::now();
        let refused = bodies.read(&HeaderMap::new(), unknown()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Overloaded);
        assert_eq!(began.elapsed(), MEMORY_WAIT + DISCARD_TIMEOUT);
        drop(share);

        // One that has its memory and does not come is too slow.
        let began = Instant::now();
        let refused = bodies.read(&HeaderMap::new(), unknown()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::BodyTimeout);
        assert_eq!(began.elapsed(), BODY_READ_TIMEOUT);
        assert_eq!(memory.used(Class::Requests), 0);
    }

    #[test]
    fn json_in_another_encoding_is_refused_and_not_read_as_it_is_not() {
        let of = |text: &'static str| {
            let value = axum::http::HeaderValue::from_static(text);
            is_for_json(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "application/problem+json;profile=x; Charset=\"UTF-8\"",
        ] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in [
            "application/json; charset=latin-1",
            "application/json;charset=utf-16",
        ] {
            assert_eq!(
                of(bad).unwrap_err().kind(),
                Kind::UnsupportedMediaType,
                "{bad}"
            );
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        a: u32,
        b: u32,
    }

    #[test]
    fn elements_of_a_list_are_objects_with_names() {
        let read = |text| serde_json::from_str::<Vec<Object<Pair>>>(text);
        let good = read(r#"[{"b": 2, "a": 1}]"#).unwrap();
        assert!(matches!(&*good, [Object(Pair { a: 1, b: 2 })]));
        for bad in ["[[1, 2]]", "[1]", r#"[{"a": 1}]"#] {
            read(bad).unwrap_err();
        }
    }

    #[test]
    fn an_array_is_no_object_and_what_is_json_is_not_called_none() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Start {
            End,
        }
        #[derive(Debug, Deserialize)]
        struct Shape {
            name: String,
            start: Start,
        }
        let read = |body: &'static str| decode::<Shape>(body.as_bytes(), "{...}", Kind::Conflict);
        let good = read(" \n{\"name\": \"a\", \"start\": \"end\"}").unwrap();
        assert!(good.name == "a" && matches!(good.start, Start::End));
        for (body, kind) in [
            (r#"["a", "end"]"#, Kind::Conflict),
            ("[]", Kind::Conflict),
            ("7", Kind::Conflict),
            (r#"{"name": "a", "start": 5}"#, Kind::Conflict),
            ("", Kind::InvalidJson),
            (r#"["a""#, Kind::InvalidJson),
            (r#"{"name": "a""#, Kind::InvalidJson),
        ] {
            assert_eq!(read(body).unwrap_err().kind(), kind, "{body}");
        }
    }

    /// A body of a tebibyte, says its head.
    struct Huge;

    impl HttpBody for Huge {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(1 << 40)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_to_its_end_is_refused_at_once() {
        let bodies = Bodies::new(16 * 1024 * 1024, Budget::new(64 * 1024 * 1024));
        let began = Instant::now();
        let refused = bodies.read(&HeaderMap::new(), Body::new(Huge)).await;
        assert_eq!(refused.unwrap_err().kind(), Kind::TooLarge);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_other_bodies_is_told_so_too() {
        let memory = Budget::new(64 * 1024 * 1024);
        let bodies = Arc::new(Bodies::new(16 * 1024 * 1024, memory.clone()));
        let first = Arc::clone(&bodies);
        let first = tokio::spawn(async move { first.read(&HeaderMap::new(), unknown()).await });
        while memory.used(Class::Requests) == 0 {
            tokio::task::yield_now().await;
        }
        let refused = bodies.read(&HeaderMap::new(), unknown()).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Overloaded);
        let slow = first.await.unwrap().unwrap_err();
        assert_eq!(slow.kind(), Kind::BodyTimeout);
    }
}

//! `POST /v1/topics/{topic}/request`: publishes an event and answers with the reply of the handler
//! that settles it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use tidemill_core::budget::Class;
use tidemill_core::{Event, RequestError, TopicName, json};

use super::answer::counted_json;
use super::body::is_for_json;
use super::doors::{Doors, Methods};
use super::openapi::types::{AnyJson, CloudEvent};
use super::openapi::{Operation, Parameter};
use super::path::Named;
use super::plain;
use super::problem::{Kind, Problem};
use super::publish;
use super::query::Query;
use crate::app::App;
use crate::limits::{REQUEST_REPLY_DEFAULT_MS, REQUEST_REPLY_MAX_MS};

const QUERY: &[Parameter] = &[Parameter::number(
    "timeout_ms",
    "How long to wait for the reply",
    (1, REQUEST_REPLY_MAX_MS),
)
.or(REQUEST_REPLY_DEFAULT_MS)];

/// The path of requests.
pub(crate) fn doors(doors: Doors) -> Doors {
    let operation = Operation::new("request", "Publishes an event and waits for its reply")
        .described("The reply is sent once what its handler did is durable.")
        .query(QUERY)
        .takes_as::<CloudEvent>(json::EVENT_CONTENT_TYPE)
        .takes_as::<AnyJson>("application/json")
        .answers_as::<CloudEvent>(200, json::EVENT_CONTENT_TYPE, "The reply")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::InvalidJson,
            Kind::InvalidEvent,
            Kind::UnknownTopic,
            Kind::Mismatch,
            Kind::DeadLettered,
            Kind::Timeout,
            Kind::Indeterminate,
        ]);
    doors.door(
        "/v1/topics/{topic}/request",
        Methods::new().post(request, operation),
    )
}

async fn request(
    State(app): State<Arc<App>>,
    Named(topic): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    let query = Query::parse(query.as_deref(), &["timeout_ms"])?;
    let timeout = query.number("timeout_ms", 1..=REQUEST_REPLY_MAX_MS)?;
    let timeout = Duration::from_millis(timeout.unwrap_or(REQUEST_REPLY_DEFAULT_MS));
    let topic = TopicName::new(topic)?;
    let event = match publish::stated(&parts.headers) {
        Some(mode) => only(publish::decode(mode, &parts.headers, &received.bytes)?)?,
        None => {
            is_for_json(&parts.headers)?;
            plain::message_of(&received.bytes, format!("/v1/topics/{topic}/request"))?
        }
    };
    // Its memory is free while the reply is waited for, which needs some, too: the event has none
    // of the body's.
    let event = event.detached();
    drop(received);
    let bus = app.publisher(&parts.extensions);
    let reply = tokio::select! {
        reply = bus.request(topic, event, timeout) => reply?,
        () = app.closed() => return Err(tidemill_core::error::Unavailable::Closed.into()),
    };
    let mut text = Vec::with_capacity(reply.size_bytes() + 256);
    json::encode(&reply, &mut text);
    // What came is answered, whatever memory there is.
    let mut share = app.memory.empty(Class::Answers);
    share.grow_anyway(text.len());
    let mut response = counted_json(text, share);
    let content_type = HeaderValue::from_static(json::EVENT_CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

fn only(events: Vec<Event>) -> Result<Event, Problem> {
    let mut events = events.into_iter();
    match (events.next(), events.next()) {
        (Some(event), None) => Ok(event),
        _ => {
            let detail = "a request is one event; send one at a time";
            Err(Problem::new(Kind::InvalidEvent, detail))
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let text = error.to_string();
        match error {
            RequestError::Publish(why) => why.into(),
            RequestError::Timeout(_) => Self::new(Kind::Timeout, text),
            RequestError::DeadLettered(_) => Self::new(Kind::DeadLettered, text),
            RequestError::TooMany => Self::new(Kind::Overloaded, text).retry_later(),
        }
    }
}

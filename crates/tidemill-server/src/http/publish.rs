//! `POST /v1/topics/{topic}/events`: CloudEvents over HTTP in the structured, the batched and the
//! binary content mode (CloudEvents HTTP protocol binding 1.0.2).

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use tidemill_core::{Event, EventId, TopicName, json};

use super::answer::{self, Accepted, AcceptedBatch};
use super::binary;
use super::body::{is_utf8, media_type};
use super::openapi::Operation;
use super::openapi::types::{AnyBytes, CloudEvent};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;

const ACCEPTED: &str = "application/cloudevents+json, application/cloudevents-batch+json";

/// What a publish may be refused with.
pub(crate) const PUBLISH_PROBLEMS: [Kind; 10] = [
    Kind::InvalidJson,
    Kind::BodyBrokenOff,
    Kind::BodyTimeout,
    Kind::TooLarge,
    Kind::UnsupportedMediaType,
    Kind::InvalidName,
    Kind::UnknownTopic,
    Kind::Unavailable,
    Kind::Overloaded,
    Kind::Indeterminate,
];

/// What is said of `POST /v1/topics/{topic}/events`.
pub(super) fn operation() -> Operation {
    Operation::new("publish_events", "Publishes CloudEvents")
        .described(
            "Structured, batched, or binary: in the binary mode attributes are headers such as \
             `ce-id`, and the body is the data. A batch is kept as a whole or not at all.",
        )
        .takes_as::<CloudEvent>(json::EVENT_CONTENT_TYPE)
        .takes_as::<Vec<CloudEvent>>(json::BATCH_CONTENT_TYPE)
        .takes_as::<AnyBytes>("*/*")
        .answers::<AnswerOf<'_>>(200, "The events are durable")
        .problems(&PUBLISH_PROBLEMS)
}

/// One event is answered with its place, a batch with those of all.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AcceptedOneOrBatch")]
#[allow(dead_code, reason = "only its schema is used")]
enum AnswerOf<'a> {
    One(Accepted<'a>),
    Batch(AcceptedBatch<'a>),
}

/// The content modes of CloudEvents over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Structured,
    Batch,
    Binary,
}

impl Mode {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        match media_type(headers).as_str() {
            json::EVENT_CONTENT_TYPE => Ok(Self::Structured),
            json::BATCH_CONTENT_TYPE => Ok(Self::Batch),
            other if other.starts_with("application/cloudevents") => {
                Err(Problem::media_type(ACCEPTED))
            }
            _ if binary::is_binary(headers) => Ok(Self::Binary),
            _ => Err(Problem::media_type(
                "application/cloudevents+json, application/cloudevents-batch+json, or any other \
                 together with the headers ce-specversion, ce-id, ce-source and ce-type",
            )),
        }
    }
}

/// Publishes the events of the body, all or none, and answers with their positions once they are
/// durable.
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    Named(topic): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    let topic = TopicName::new(topic)?;
    let mode = Mode::of(&parts.headers)?;
    let events = decode(mode, &parts.headers, &received.bytes)?;
    let ids: Vec<EventId> = events.iter().map(|event| event.id().clone()).collect();
    let positions = match events.is_empty() {
        true => Vec::new(),
        false => {
            app.publisher(&parts.extensions)
                .publish(topic, events)
                .await?
        }
    };
    app.metrics.published(positions.len() as u64);
    let mut accepted = ids.iter().zip(&positions);
    if mode == Mode::Batch {
        return Ok(answer::json(&AcceptedBatch {
            status: "success",
            events: accepted.map(|(id, at)| Accepted::new(id, at)).collect(),
        }));
    }
    match accepted.next() {
        Some((id, at)) => Ok(answer::json(&Accepted::new(id, at))),
        None => Err(Problem::new(
            Kind::Internal,
            "the bus gave no position for the event",
        )),
    }
}

/// The mode that a request states, whether it has one: then it is a CloudEvent or means to be.
pub(crate) fn stated(headers: &HeaderMap) -> Option<Mode> {
    let meant = media_type(headers).starts_with("application/cloudevents");
    match Mode::of(headers) {
        Ok(mode) => Some(mode),
        // Refused by its name when it is decoded.
        Err(_) if meant => Some(Mode::Structured),
        Err(_) => None,
    }
}

pub(crate) fn decode(mode: Mode, headers: &HeaderMap, body: &Bytes) -> Result<Vec<Event>, Problem> {
    if mode != Mode::Binary {
        is_utf8(headers)?;
    }
    let decoded = match mode {
        Mode::Binary => return Ok(vec![binary::decode(headers, body)?]),
        Mode::Structured => json::decode(body).map(|event| vec![event]),
        Mode::Batch => json::decode_batch(body),
    };
    decoded.map_err(|error| match json::is_json(body) {
        true => error.into(),
        false => Problem::new(Kind::InvalidJson, error.to_string()),
    })
}

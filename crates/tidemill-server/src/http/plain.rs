//! `POST /event`, the plain door: any JSON value becomes an event and is kept byte for byte.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use bytes::Bytes;
use tidemill_core::{Event, EventId, EventType, Source, TopicName};

use super::answer::{Accepted, json};
use super::body::is_for_json;
use super::doors::Methods;
use super::openapi::Operation;
use super::openapi::types::AnyJson;
use super::problem::{Kind, Problem};
use super::publish::PUBLISH_PROBLEMS;
use super::query::Query;
use crate::app::App;
use crate::envelope::{Envelope, Member};

/// The topic of an event that names none.
pub(crate) const DEFAULT_TOPIC: &str = "events";

/// The type of an event that gives none.
const DEFAULT_TYPE: &str = "event";

/// The source of all events that come in here.
const SOURCE: &str = "/event";

/// The methods of `/event`.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("publish_json", "Publishes any JSON value")
        .described(
            "The members `topic` (or `room`) and `type` of the value say where it goes and what \
             it is; without them the topic is `events` and the type `event`.",
        )
        .takes::<AnyJson>()
        .answers::<Accepted<'_>>(200, "The event is durable")
        .problems(&PUBLISH_PROBLEMS);
    Methods::new().post(publish, operation)
}

/// Publishes the body and answers with its position once it is durable.
async fn publish(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    is_for_json(&parts.headers)?;
    let (topic, event) = event_of(&received.bytes)?;
    let id = event.id().clone();
    let positions = app
        .publisher(&parts.extensions)
        .publish(topic, vec![event])
        .await?;
    let position = positions.into_iter().next();
    let position = position
        .ok_or_else(|| Problem::new(Kind::Internal, "the bus gave no position for the event"))?;
    app.metrics.published(1);
    Ok(json(&Accepted::new(&id, &position)))
}

/// The envelope of a body that is one JSON value.
fn envelope_of(body: &Bytes) -> Result<Envelope, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {} on", error.valid_up_to());
        Problem::new(Kind::InvalidJson, detail)
    })?;
    Envelope::read(text).map_err(|error| {
        let detail = format!("the body is not one JSON value: {error}");
        Problem::new(Kind::InvalidJson, detail)
    })
}

/// A message for a queue: the body, byte for byte.
pub(crate) fn message_of(body: &Bytes, source: String) -> Result<Event, Problem> {
    let envelope = envelope_of(body)?;
    made(&envelope.ty, Source::new(source)?, body)
}

fn made(ty: &Member, source: Source, body: &Bytes) -> Result<Event, Problem> {
    let ty = match ty {
        Member::Text(name) => EventType::new(name.as_str())?,
        _ => EventType::new(DEFAULT_TYPE)?,
    };
    let id = EventId::new(uuid::Uuid::now_v7().to_string())?;
    let event = Event::builder(id, source, ty)
        .time(jiff::Timestamp::now())
        .data("application/json", body.clone())
        .build()?;
    Ok(event)
}

fn event_of(body: &Bytes) -> Result<(TopicName, Event), Problem> {
    let envelope = envelope_of(body)?;
    let topic = match envelope.target() {
        Member::Absent => TopicName::new(DEFAULT_TOPIC)?,
        Member::Text(name) => TopicName::new(name.as_str())?,
        Member::Other => {
            let detail = "\"topic\" (or \"room\") is a string that names a topic";
            return Err(Problem::new(Kind::InvalidName, detail));
        }
    };
    let event = made(&envelope.ty, Source::new(SOURCE)?, body)?;
    Ok((topic, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &'static str) -> (TopicName, Event) {
        event_of(&Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn topic_and_type_come_from_the_value() {
        for (body, topic, ty) in [
            ("17", "events", "event"),
            (r#"{"type":"paid"}"#, "events", "paid"),
            (r#"{"type":null,"room":"r"}"#, "r", "event"),
            (r#"{"type":1,"topic":"orders"}"#, "orders", "event"),
        ] {
            let (found, event) = of(body);
            assert_eq!(found, *topic, "{body}");
            assert_eq!(*event.ty(), *ty, "{body}");
            assert_eq!(event.data().unwrap(), body.as_bytes());
        }
    }

    #[test]
    fn wrong_bodies_are_told_apart() {
        for (body, kind) in [
            (&b"{"[..], Kind::InvalidJson),
            (b"\"\xff\"", Kind::InvalidJson),
            (br#"{"topic":"a b"}"#, Kind::InvalidName),
            (br#"{"topic":7}"#, Kind::InvalidName),
            (br#"{"room":""}"#, Kind::InvalidName),
            (br#"{"type":""}"#, Kind::InvalidName),
            (br#"{"type":"a\u0000b","room":"r"}"#, Kind::InvalidName),
        ] {
            let problem = event_of(&Bytes::copy_from_slice(body)).unwrap_err();
            assert_eq!(problem.kind(), kind, "{}", String::from_utf8_lossy(body));
        }
    }
}

//! `/v1/queues`: lists, creates, shows and deletes queues; puts messages in, takes them out,
//! acknowledges them and gives them back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::handler::Handler;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill_broker::limits::{
    DEQUEUE_MAX_MESSAGES, LEASE_MAX, LEASES_AT_ONCE, PEEK_MAX_MESSAGES, QUEUE_TTL_MAX,
};
use tidemill_broker::{
    Broker, CreateQueue, Dequeue, Dequeued, LeaseId, Queue, QueueInfo, QueueMessage, QueueSettings,
};
use tidemill_core::budget::{Class, Share};
use tidemill_core::{Event, EventId, Offset, TopicName, json as events};
use tokio::time::Instant;

use super::answer::{counted_json, json, json_with};
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::types::{AnyJson, CloudEvent};
use super::openapi::{Operation, Parameter, types};
use super::path::Named;
use super::plain;
use super::problem::{Kind, Problem};
use super::publish::{self, Mode, PUBLISH_PROBLEMS};
use super::query::Query;
use crate::app::App;
use crate::connections::ConnectionId;
use crate::limits;
use crate::memory;

const ENQUEUE_QUERY: &[Parameter] = &[Parameter::number(
    "ttl_ms",
    "How long the messages are good for, where that is less than what the queue and they say",
    (1, QUEUE_TTL_MAX.as_millis() as u64),
)];

const DEQUEUE_QUERY: &[Parameter] = &[
    Parameter::number(
        "lease_ms",
        "How long the messages are the taker's; 0 removes them at once; else the queue's own",
        (0, LEASE_MAX.as_millis() as u64),
    ),
    Parameter::number("max", "Most messages", (1, DEQUEUE_MAX_MESSAGES as u64)).or(1),
    Parameter::number(
        "wait_ms",
        "Where there is no message: how long to wait for one",
        (0, limits::FETCH_WAIT_MAX.as_millis() as u64),
    )
    .or(0),
];

const OF_QUEUE: &[Kind] = &[
    Kind::InvalidQuery,
    Kind::InvalidName,
    Kind::UnknownQueue,
    Kind::Mismatch,
];

const OF_LEASES: &[Kind] = &[
    Kind::InvalidJson,
    Kind::InvalidQueue,
    Kind::InvalidName,
    Kind::UnknownQueue,
    Kind::Mismatch,
    Kind::StaleLease,
    Kind::Limit,
    Kind::Indeterminate,
];

/// The paths of queues.
pub(crate) fn doors(doors: Doors) -> Doors {
    let one = "/v1/queues/{queue}";
    let of = |what: &str| format!("{one}/{what}");
    let list_all =
        Operation::new("list_queues", "Lists the queues").answers::<Queues>(200, "All queues");
    let make = Operation::new("create_queue", "Creates a queue")
        .takes::<NewQueue>()
        .answers::<QueueInfo>(201, "The queue is there")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidQueue,
            Kind::InvalidName,
            Kind::Conflict,
            Kind::Mismatch,
            Kind::Limit,
        ]);
    let show_one = Operation::new("show_queue", "Shows a queue")
        .answers::<QueueInfo>(200, "The queue")
        .problems(OF_QUEUE);
    let remove = Operation::new("delete_queue", "Deletes a queue and its messages")
        .answers_nothing(204, "It is gone")
        .problems(OF_QUEUE);
    doors
        .door(
            "/v1/queues",
            Methods::new().get(list, list_all).post(create, make),
        )
        .door(
            one,
            Methods::new().get(show, show_one).delete(delete, remove),
        )
        .door(
            &of("enqueue"),
            Methods::new().post(enqueue, enqueue_operation()),
        )
        .door(
            &of("dequeue"),
            Methods::new().post(dequeue, dequeue_operation()),
        )
        .door(
            &of("ack"),
            settling("ack", "Acknowledges messages, which go", ack),
        )
        .door(
            &of("requeue"),
            settling("requeue", "Gives messages back to their places", requeue),
        )
        .door(
            &of("length"),
            Methods::new().get(length, length_operation()),
        )
        .door(&of("peek"), Methods::new().get(peek, peek_operation()))
}

fn enqueue_operation() -> Operation {
    Operation::new("enqueue", "Puts messages in")
        .described("Any JSON value, or CloudEvents as for a topic.")
        .query(ENQUEUE_QUERY)
        .takes::<AnyJson>()
        .takes_as::<CloudEvent>(events::EVENT_CONTENT_TYPE)
        .takes_as::<Vec<CloudEvent>>(events::BATCH_CONTENT_TYPE)
        .answers::<EnqueueAnswer<'_>>(200, "The messages are in the queue")
        .problems(&PUBLISH_PROBLEMS)
}

/// One message is answered with its place, a batch with those of all.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "EnqueuedOneOrBatch")]
#[allow(dead_code, reason = "only its schema is used")]
enum EnqueueAnswer<'a> {
    One(Enqueued<'a>),
    Batch(EnqueuedBatch<'a>),
}

fn dequeue_operation() -> Operation {
    Operation::new("dequeue", "Takes messages out, under a lease")
        .query(DEQUEUE_QUERY)
        .answers::<types::DequeuedMessages>(200, "The messages")
        .problems(OF_QUEUE)
}

fn length_operation() -> Operation {
    Operation::new("queue_length", "Says how many messages there are")
        .answers::<Length<'_>>(200, "How many")
        .problems(OF_QUEUE)
}

fn peek_operation() -> Operation {
    const QUERY: &[Parameter] =
        &[Parameter::number("max", "Most messages", (1, PEEK_MAX_MESSAGES as u64)).or(1)];
    Operation::new("peek", "Shows the next messages, which stay")
        .query(QUERY)
        .answers::<types::PeekedMessages>(200, "The messages")
        .problems(OF_QUEUE)
}

/// A path that takes leases.
fn settling<H, T>(id: &'static str, summary: &'static str, handler: H) -> Methods
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let operation = Operation::new(id, summary)
        .takes::<Leases>()
        .answers::<Settled>(200, "It is done for all of them")
        .problems(OF_LEASES);
    Methods::new().post(handler, operation)
}

#[derive(Serialize, JsonSchema)]
struct Queues {
    queues: Vec<QueueInfo>,
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let queues = app.broker()?.queues().await;
    Ok(json(&Queues { queues }))
}

/// What a queue is made of; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct NewQueue {
    name: String,
    transient: Option<bool>,
    lease_ms: Option<u64>,
    max_deliveries: Option<u32>,
    /// How long a message is good for, in milliseconds.
    ttl_ms: Option<u64>,
}

async fn create(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    let broker = app.broker()?;
    is_for_json(&parts.headers)?;
    let shape = "{\"name\": ...}, with \"transient\", \"lease_ms\", \"max_deliveries\" and \
                 \"ttl_ms\" where they are wanted";
    let new: NewQueue = decode(&received.bytes, shape, Kind::InvalidQueue)?;
    let name = TopicName::new(new.name)?;
    let usual = QueueSettings::default();
    let how = CreateQueue {
        transient: new.transient.unwrap_or(false),
        settings: QueueSettings {
            lease: new.lease_ms.map_or(usual.lease, Duration::from_millis),
            max_deliveries: new.max_deliveries,
            ttl: new.ttl_ms.map(Duration::from_millis),
        },
    };
    let queue = broker.create_queue(name.clone(), how).await?;
    let mut response = json_with(StatusCode::CREATED, &queue);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/queues/{name}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// The queue of a path.
fn queue_of(broker: &Broker, name: String) -> Result<Queue, Problem> {
    let name = TopicName::new(name)?;
    Ok(broker.queue(&name)?)
}

async fn show(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let queue = queue_of(app.broker()?, name)?;
    Ok(json(&queue.info().await))
}

async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = TopicName::new(name)?;
    app.broker()?.delete_queue(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Serialize, JsonSchema)]
struct Length<'a> {
    queue: &'a TopicName,
    length: u64,
    in_flight: u64,
}

async fn length(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let queue = queue_of(app.broker()?, name)?;
    Ok(json(&Length {
        queue: queue.name(),
        length: queue.length(),
        in_flight: queue.in_flight(),
    }))
}

/// A message that is in the queue now.
#[derive(Serialize, JsonSchema)]
struct Enqueued<'a> {
    status: &'static str,
    id: &'a EventId,
    queue: &'a TopicName,
    offset: Offset,
}

#[derive(Serialize, JsonSchema)]
struct EnqueuedBatch<'a> {
    status: &'static str,
    messages: Vec<Enqueued<'a>>,
}

async fn enqueue(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    let query = Query::parse(query.as_deref(), &["ttl_ms"])?;
    let ttl = query.number("ttl_ms", 1..=QUEUE_TTL_MAX.as_millis() as u64)?;
    let ttl = ttl.map(Duration::from_millis);
    let broker = app.broker()?;
    let queue = match parts.extensions.get::<ConnectionId>() {
        Some(ConnectionId(number)) => queue_of(&broker.as_client(*number), name)?,
        None => queue_of(broker, name)?,
    };
    let (events, is_batch) = match publish::stated(&parts.headers) {
        Some(mode) => {
            let events = publish::decode(mode, &parts.headers, &received.bytes)?;
            (events, mode == Mode::Batch)
        }
        None => {
            is_for_json(&parts.headers)?;
            let source = format!("/v1/queues/{}", queue.name());
            (vec![plain::message_of(&received.bytes, source)?], false)
        }
    };
    let ids: Vec<EventId> = events.iter().map(|event| event.id().clone()).collect();
    let offsets = queue.enqueue_for(events, ttl).await?;
    let enqueued = ids.iter().zip(offsets).map(|(id, offset)| Enqueued {
        status: "success",
        id,
        queue: queue.name(),
        offset,
    });
    let messages: Vec<_> = enqueued.collect();
    if is_batch {
        let status = "success";
        return Ok(json(&EnqueuedBatch { status, messages }));
    }
    let none = || Problem::new(Kind::Internal, "the queue gave no place for the message");
    Ok(json(messages.first().ok_or_else(none)?))
}

async fn dequeue(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    drop(app.bodies.read(&parts.headers, body).await?);
    let query = Query::parse(query.as_deref(), &["lease_ms", "max", "wait_ms"])?;
    let lease_max = LEASE_MAX.as_millis() as u64;
    let wait_max = limits::FETCH_WAIT_MAX.as_millis() as u64;
    let how = Dequeue {
        max: query.number("max", 1..=DEQUEUE_MAX_MESSAGES)?.unwrap_or(1),
        lease: query
            .number("lease_ms", 0..=lease_max)?
            .map(Duration::from_millis),
        wait: Duration::from_millis(query.number("wait_ms", 0..=wait_max)?.unwrap_or(0)),
    };
    let queue = queue_of(app.broker()?, name)?;
    // A server that closes ends the waiting alone: what is being removed is answered.
    let taken = queue.dequeue_until(how, app.closed()).await?;
    let share = room_for(&app, &queue, &taken).await?;
    Ok(counted_json(dequeued(&taken), share))
}

/// Memory for an answer with these messages. Where none comes free they are given back.
async fn room_for(app: &App, queue: &Queue, taken: &[Dequeued]) -> Result<Share, Problem> {
    let cost = |one: &Dequeued| cost_of(&one.message.event);
    let bytes = taken.iter().map(cost).sum();
    let until = Instant::now() + limits::MEMORY_WAIT;
    let leases: Vec<LeaseId> = taken.iter().filter_map(|one| one.lease).collect();
    if leases.len() < taken.len() {
        // They are removed already: nobody else has them.
        let mut share = app.memory.empty(Class::Answers);
        share.grow_anyway(bytes);
        return Ok(share);
    }
    match memory::take(&app.memory, Class::Answers, bytes, until).await {
        Ok(share) => Ok(share),
        Err(none) => {
            if !leases.is_empty() {
                queue.give_back(&leases).await?;
            }
            Err(none)
        }
    }
}

fn cost_of(event: &Event) -> usize {
    limits::ANSWER_COST * event.size_bytes() + limits::ANSWER_EVENT_BYTES
}

/// `{"messages":[{"offset","deliveries","lease","lease_ms","event"}]}`
fn dequeued(taken: &[Dequeued]) -> Vec<u8> {
    listed(taken.iter().map(|one| {
        let lease = one.lease.map(|lease| format!("\"{lease}\""));
        let lease = lease.unwrap_or_else(|| "null".to_owned());
        let lease_ms = one.lease_for.as_millis();
        let deliveries = one.deliveries;
        let head =
            format!("\"deliveries\":{deliveries},\"lease\":{lease},\"lease_ms\":{lease_ms},");
        (&one.message, head)
    }))
}

/// `{"messages":[{"offset",...,"event"}]}`, with what is between them.
fn listed<'a>(messages: impl Iterator<Item = (&'a QueueMessage, String)>) -> Vec<u8> {
    let mut out = b"{\"messages\":[".to_vec();
    for (n, (message, between)) in messages.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let offset = message.offset;
        let head = format!("{comma}{{\"offset\":{offset},{between}\"event\":");
        out.extend_from_slice(head.as_bytes());
        events::encode(&message.event, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}

async fn peek(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["max"])?;
    let max = query.number("max", 1..=PEEK_MAX_MESSAGES)?.unwrap_or(1);
    let queue = queue_of(app.broker()?, name)?;
    let peeked = queue.peek(max).await?;
    let bytes = peeked.iter().map(|message| cost_of(&message.event)).sum();
    let until = Instant::now() + limits::MEMORY_WAIT;
    let share = memory::take(&app.memory, Class::Answers, bytes, until).await?;
    let text = listed(peeked.iter().map(|message| (message, String::new())));
    Ok(counted_json(text, share))
}

/// Which messages an ack or a giving back is about; anything else in it is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Leases {
    leases: Vec<String>,
}

/// What was done about so many messages.
#[derive(Serialize, JsonSchema)]
struct Settled {
    status: &'static str,
    count: usize,
}

/// The queue and the leases of a request.
async fn leases_of(
    app: &App,
    name: String,
    query: Option<&str>,
    request: Request,
) -> Result<(Queue, Vec<LeaseId>), Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query, &[])?;
    is_for_json(&parts.headers)?;
    let shape = "{\"leases\": [...]}";
    let Leases { leases } = decode(&received.bytes, shape, Kind::InvalidQueue)?;
    if leases.is_empty() || leases.len() > LEASES_AT_ONCE {
        let detail = format!("name 1 to {LEASES_AT_ONCE} leases");
        return Err(Problem::new(Kind::Limit, detail));
    }
    let parsed = leases.iter().map(|lease| lease.parse());
    let parsed: Result<Vec<LeaseId>, _> = parsed.collect();
    let parsed = parsed.map_err(|wrong| Problem::new(Kind::InvalidQueue, wrong.to_string()))?;
    Ok((queue_of(app.broker()?, name)?, parsed))
}

async fn ack(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (queue, leases) = leases_of(&app, name, query.as_deref(), request).await?;
    queue.ack(&leases).await?;
    Ok(json(&Settled {
        status: "success",
        count: leases.len(),
    }))
}

async fn requeue(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (queue, leases) = leases_of(&app, name, query.as_deref(), request).await?;
    queue.give_back(&leases).await?;
    Ok(json(&Settled {
        status: "success",
        count: leases.len(),
    }))
}

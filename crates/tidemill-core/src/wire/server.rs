//! What the server says: its frames, as values and as texts. May not know what they answer.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::text::{self, Malformed};
use crate::bus::{Advanced, Guarantees, TopicBounds};
use crate::event::Event;
use crate::json;
use crate::name::TopicName;
use crate::position::{Attempt, Offset, Partition, Position};

/// A frame of the server.
#[derive(Clone, Debug)]
pub enum ServerFrame {
    /// The answer to the first frame.
    Welcome(Welcome),
    /// A call that was done.
    Answer(Answer),
    /// What was not done, or has ended.
    Error(Failed),
    /// Deliveries of one subscription.
    Deliver {
        /// Which one.
        subscription: u64,
        /// In their order.
        deliveries: Vec<Delivered>,
    },
    /// The answer to a fetch.
    Fetched {
        /// The call.
        id: u64,
        /// Where to read on.
        next: Offset,
        /// Where what may be read ends.
        end: Offset,
        /// The events with their offsets.
        events: Vec<(Offset, Arc<Event>)>,
    },
    /// The reply to a request.
    Reply {
        /// The call.
        id: u64,
        /// What the handler answered.
        event: Event,
    },
    /// Without being asked.
    News(News),
}

/// The answer to the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Names the session; whoever has it may go on with it.
    pub session: String,
    /// Whether this is the session that was asked for, with all that it had.
    pub resumed: bool,
    /// How long it outlives a connection that breaks, in milliseconds.
    pub keep_ms: u64,
    /// Whether a publish may have [numbers](super::Numbers).
    pub numbered: bool,
    /// Whether [`Describe`](super::Describe) is known; older servers do not say so.
    #[serde(default)]
    pub describes: bool,
    /// What the bus gives.
    pub guarantees: Guarantees,
    /// What a connection may do.
    pub limits: Limits,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest frame of a client in bytes.
    pub frame_max_bytes: u64,
    /// Most calls without an answer.
    pub calls_max: u64,
    /// Most subscriptions of a session.
    pub subscriptions_max: u64,
    /// Most deliveries of a subscription that are not settled.
    pub credit_max: u64,
    /// The connection is closed when nothing came for so many milliseconds.
    pub idle_ms: u64,
}

/// A call that was done. Which members it has follows from the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The call.
    pub id: u64,
    /// Where the events of a publish or a commit are, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<Position>>,
    /// A producer's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i16>,
    /// How many partitions the topic has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// The topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<Vec<TopicBounds>>,
    /// Whether the event is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
}

/// What was not done, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The call, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The subscription that gives nothing until it gets credit again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<u64>,
    /// The fault in words.
    #[serde(default)]
    pub message: String,
    /// Whether the same may succeed later without a change.
    #[serde(default)]
    pub retriable: bool,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

impl Failed {
    /// A call that was not done.
    #[must_use]
    pub fn call(id: Option<u64>, fault: Fault) -> Self {
        Self {
            id,
            subscription: None,
            message: fault.to_string(),
            retriable: fault.is_retriable(),
            fault,
        }
    }

    /// A subscription that gives nothing at present.
    #[must_use]
    pub fn subscription(number: u64, fault: Fault) -> Self {
        Self {
            subscription: Some(number),
            ..Self::call(None, fault)
        }
    }
}

/// One attempt at one event.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Its number in the subscription, from 1.
    pub delivery: u64,
    /// Where the event is kept.
    pub position: Position,
    /// Which try it is.
    pub attempt: Attempt,
    /// The event.
    pub event: Arc<Event>,
}

/// What the server says without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum News {
    /// Partitions with new events.
    Advanced {
        /// Which watch.
        watch: u64,
        /// Each once.
        partitions: Vec<Advanced>,
    },
    /// The answer to a ping.
    Pong {},
    /// The server closes the connection after this frame.
    Bye {
        /// How long to wait before another connection, in milliseconds.
        retry_ms: u64,
        /// Why.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct RawDeliver<'a> {
    subscription: u64,
    #[serde(borrow, skip_serializing)]
    deliveries: Vec<RawDelivered<'a>>,
}

#[derive(Deserialize)]
struct RawDelivered<'a> {
    delivery: u64,
    topic: TopicName,
    partition: Partition,
    offset: Offset,
    attempt: Attempt,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct RawFetched<'a> {
    id: u64,
    next: Offset,
    end: Offset,
    #[serde(borrow, skip_serializing)]
    events: Vec<RawPlaced<'a>>,
}

#[derive(Deserialize)]
struct RawPlaced<'a> {
    offset: Offset,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct RawReply<'a> {
    id: u64,
    #[serde(borrow, skip_serializing)]
    event: &'a RawValue,
}

impl ServerFrame {
    /// Reads a frame. Its events share `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let (ty, text) = text::open(bytes)?;
        match &*ty {
            "welcome" => text::members(text).map(Self::Welcome),
            "answer" => text::members(text).map(Self::Answer),
            "error" => text::members(text).map(Self::Error),
            "deliver" => deliver(bytes, text),
            "fetched" => fetched(bytes, text),
            "reply" => {
                let raw: RawReply<'_> = text::members(text)?;
                let event = text::event(bytes, raw.event, Some(raw.id))?;
                Ok(Self::Reply { id: raw.id, event })
            }
            _ => text::members(text).map(Self::News),
        }
    }

    /// The frame's text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Welcome(welcome) => text::finish(text::begin("welcome", welcome, 0)),
            Self::Answer(answer) => text::finish(text::begin("answer", answer, 0)),
            Self::Error(failed) => text::finish(text::begin("error", failed, 0)),
            Self::News(news) => serde_json::to_string(news).expect("names and numbers become JSON"),
            Self::Deliver {
                subscription,
                deliveries,
            } => write_deliver(*subscription, deliveries),
            Self::Fetched {
                id,
                next,
                end,
                events,
            } => {
                let head = RawFetched {
                    id: *id,
                    next: *next,
                    end: *end,
                    events: Vec::new(),
                };
                let bytes: usize = events.iter().map(|(_, e)| e.size_bytes() + 160).sum();
                let mut out = text::begin("fetched", &head, bytes);
                text::list(&mut out, "events", events, |out, (offset, event)| {
                    let head = format!(r#"{{"offset":{offset},"event":"#);
                    out.extend_from_slice(head.as_bytes());
                    json::encode(event, out);
                    out.push(b'}');
                });
                text::finish(out)
            }
            Self::Reply { id, event } => {
                let head = RawReply {
                    id: *id,
                    event: RawValue::NULL,
                };
                let mut out = text::begin("reply", &head, event.size_bytes());
                text::member(&mut out, "event");
                json::encode(event, &mut out);
                text::finish(out)
            }
        }
    }
}

fn deliver(bytes: &Bytes, text: &str) -> Result<ServerFrame, Malformed> {
    let raw: RawDeliver<'_> = text::members(text)?;
    let deliveries = raw.deliveries.into_iter().map(|raw| {
        Ok(Delivered {
            delivery: raw.delivery,
            position: Position {
                topic: raw.topic,
                partition: raw.partition,
                offset: raw.offset,
            },
            attempt: raw.attempt,
            event: Arc::new(text::event(bytes, raw.event, None)?),
        })
    });
    Ok(ServerFrame::Deliver {
        subscription: raw.subscription,
        deliveries: deliveries.collect::<Result<_, Malformed>>()?,
    })
}

fn write_deliver(subscription: u64, deliveries: &[Delivered]) -> String {
    let head = RawDeliver {
        subscription,
        deliveries: Vec::new(),
    };
    let sizes = deliveries.iter().map(|one| one.event.size_bytes() + 240);
    let mut out = text::begin("deliver", &head, sizes.sum());
    text::list(&mut out, "deliveries", deliveries, |out, one| {
        let Position {
            topic,
            partition,
            offset,
        } = &one.position;
        // A topic's name has no character that JSON would escape.
        let (delivery, attempt) = (one.delivery, one.attempt);
        let head = format!(
            "{{\"delivery\":{delivery},\"topic\":\"{topic}\",\"partition\":{partition},\
             \"offset\":{offset},\"attempt\":{attempt},\"event\":"
        );
        out.extend_from_slice(head.as_bytes());
        json::encode(&one.event, out);
        out.push(b'}');
    });
    text::finish(out)
}

fn fetched(bytes: &Bytes, text: &str) -> Result<ServerFrame, Malformed> {
    let raw: RawFetched<'_> = text::members(text)?;
    let events = raw.events.into_iter().map(|raw_event| {
        let event = text::event(bytes, raw_event.event, Some(raw.id))?;
        Ok((raw_event.offset, Arc::new(event)))
    });
    Ok(ServerFrame::Fetched {
        id: raw.id,
        next: raw.next,
        end: raw.end,
        events: events.collect::<Result<_, Malformed>>()?,
    })
}

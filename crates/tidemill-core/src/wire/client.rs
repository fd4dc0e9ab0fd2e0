//! What a client says: its frames, as values and as texts. May not know what becomes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::{self, Malformed};
use crate::bus::{Order, Start};
use crate::catalogue::Catalogue;
use crate::delivery::{Commit, Effects, Failure, Outcome};
use crate::event::Event;
use crate::json;
use crate::name::{GroupName, TopicName};
use crate::position::{Offset, Partition};

/// A frame of a client.
#[derive(Clone, Debug)]
pub enum ClientFrame {
    /// One without events.
    Call(Call),
    /// Events to publish.
    Publish(Publish),
    /// An event to publish whose handler's reply is waited for.
    Request(Request),
    /// The end of an attempt, with its effects.
    Settle(Settle),
    /// The handlers behind a subscription.
    Describe(Describe),
}

/// A frame without events. `id` numbers the calls of a session: each is answered once, with the
/// same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Call {
    /// The first frame of every connection.
    Hello {
        /// The session to go on with, of an earlier connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        /// Its subscriptions, each with the number of the last delivery that came.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        received: Vec<(u64, u64)>,
        /// How long the session is to outlive a connection that breaks, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_ms: Option<u64>,
    },
    /// Asks for numbers to publish with.
    Producer {
        /// The call.
        id: u64,
    },
    /// Asks how many partitions a topic has; one that is made by its first use is made.
    Topic {
        /// The call.
        id: u64,
        /// Which one.
        topic: TopicName,
    },
    /// Asks for all topics and what is kept of them.
    Topics {
        /// The call.
        id: u64,
    },
    /// Reads a partition by offset.
    Fetch {
        /// The call.
        id: u64,
        /// The topic.
        topic: TopicName,
        /// Its part.
        #[serde(default)]
        partition: Partition,
        /// The first offset wanted.
        #[serde(default)]
        offset: Offset,
        /// Most events to return.
        #[serde(default = "most_events")]
        max_events: u64,
        /// Most bytes to return; at least one event is returned where there is one.
        #[serde(default = "most_bytes")]
        max_bytes: u64,
        /// How long to wait for the first event, in milliseconds.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Joins a group.
    Subscribe {
        /// The call.
        id: u64,
        /// The client's number for it.
        subscription: u64,
        /// The topics to read.
        topics: Vec<TopicName>,
        /// The group to be a member of.
        group: GroupName,
        /// The order to keep.
        #[serde(default)]
        order: Order,
        /// Where a new group begins.
        #[serde(default)]
        start: Start,
        /// The first credit: see [`Call::Credit`].
        #[serde(default)]
        credit: u64,
    },
    /// Leaves the group.
    Unsubscribe {
        /// The call.
        id: u64,
        /// Which subscription.
        subscription: u64,
    },
    /// How many deliveries may have come since the subscription began, all together.
    Credit {
        /// Which subscription.
        subscription: u64,
        /// That many.
        total: u64,
    },
    /// Gives a delivery back unsettled.
    Abandon {
        /// The call.
        id: u64,
        /// Of which subscription.
        subscription: u64,
        /// Its number.
        delivery: u64,
    },
    /// Asks whether an event is settled for a group.
    IsSettled {
        /// The call.
        id: u64,
        /// The group.
        group: GroupName,
        /// The event's topic.
        topic: TopicName,
        /// Its partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
    },
    /// Begins to watch all partitions.
    Watch {
        /// The client's number for it.
        watch: u64,
    },
    /// Ends that.
    Unwatch {
        /// Which one.
        watch: u64,
    },
    /// Asks for a pong.
    Ping {},
    /// The last frame: the session ends with it, and what it holds is given back.
    Bye {},
}

fn most_events() -> u64 {
    100
}

fn most_bytes() -> u64 {
    1024 * 1024
}

/// What makes a publish recognisable when it is sent again: see docs/WEBSOCKET.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// The producer's id, as text: it has more digits than a browser's numbers.
    pub producer: String,
    /// Its epoch.
    pub epoch: i16,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// Where events without a key go: the first to this partition modulo their count, the next
    /// one to the next.
    #[serde(default)]
    pub round: u32,
    /// For each partition how many events this producer has published to it, modulo 2^31; 0 where
    /// it is not named.
    #[serde(default)]
    pub sequences: BTreeMap<Partition, i32>,
}

/// Events to publish to one topic, all or none.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The call.
    pub id: u64,
    /// Where to.
    pub topic: TopicName,
    /// What makes it recognisable.
    pub numbers: Option<Numbers>,
    /// The events.
    pub events: Vec<Event>,
}

/// An event to publish whose handler's reply is waited for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The call.
    pub id: u64,
    /// Where to.
    pub topic: TopicName,
    /// How long to wait for the reply.
    pub timeout: Duration,
    /// The event.
    pub event: Event,
}

/// The end of an attempt, with its effects.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The call.
    pub id: u64,
    /// Of which subscription.
    pub subscription: u64,
    /// The number of the delivery.
    pub delivery: u64,
    /// How it ended.
    pub commit: Commit,
}

/// What the program does with the events of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    /// The call.
    pub id: u64,
    /// Of which subscription.
    pub subscription: u64,
    /// Its handlers.
    pub catalogue: Arc<Catalogue>,
}

/// How an attempt ended, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It is done.
    #[default]
    Ack,
    /// It is to be tried again.
    Retry,
    /// It is given up.
    DeadLetter,
}

#[derive(Serialize, Deserialize)]
struct RawPublish<'a> {
    id: u64,
    topic: TopicName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbers>,
    #[serde(borrow, skip_serializing)]
    events: Vec<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct RawRequest<'a> {
    id: u64,
    topic: TopicName,
    timeout_ms: u64,
    #[serde(borrow, skip_serializing)]
    event: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct RawSettle<'a> {
    id: u64,
    subscription: u64,
    delivery: u64,
    #[serde(default)]
    outcome: Settled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Box<Failure>>,
    #[serde(borrow, default, skip_serializing)]
    events: Vec<RawStaged<'a>>,
    #[serde(borrow, default, skip_serializing)]
    reply: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
struct RawDescribe<'a> {
    id: u64,
    subscription: u64,
    #[serde(borrow, skip_serializing)]
    catalogue: &'a RawValue,
}

#[derive(Deserialize)]
struct RawStaged<'a> {
    topic: TopicName,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl ClientFrame {
    /// Reads a frame. Its events share `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong, and with which call.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let (ty, text) = text::open(bytes)?;
        match &*ty {
            "publish" => Publish::read(bytes, text).map(Self::Publish),
            "request" => Request::read(bytes, text).map(Self::Request),
            "settle" => Settle::read(bytes, text).map(Self::Settle),
            "describe" => Describe::read(text).map(Self::Describe),
            _ => text::members(text).map(Self::Call),
        }
    }

    /// The frame's text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Call(call) => serde_json::to_string(call).expect("names and numbers become JSON"),
            Self::Publish(publish) => publish.write(),
            Self::Request(request) => request.write(),
            Self::Settle(settle) => settle.write(),
            Self::Describe(describe) => describe.write(),
        }
    }
}

impl Publish {
    fn read(bytes: &Bytes, text: &str) -> Result<Self, Malformed> {
        let raw: RawPublish<'_> = text::members(text)?;
        let events = raw.events.iter();
        let events = events.map(|event| text::event(bytes, event, Some(raw.id)));
        Ok(Self {
            id: raw.id,
            topic: raw.topic,
            numbers: raw.numbers,
            events: events.collect::<Result<_, _>>()?,
        })
    }

    fn write(&self) -> String {
        let head = RawPublish {
            id: self.id,
            topic: self.topic.clone(),
            numbers: self.numbers.clone(),
            events: Vec::new(),
        };
        let bytes: usize = self
            .events
            .iter()
            .map(|event| event.size_bytes() + 160)
            .sum();
        let mut out = text::begin("publish", &head, bytes);
        text::list(&mut out, "events", &self.events, |out, event| {
            json::encode(event, out);
        });
        text::finish(out)
    }
}

impl Request {
    fn read(bytes: &Bytes, text: &str) -> Result<Self, Malformed> {
        let raw: RawRequest<'_> = text::members(text)?;
        Ok(Self {
            id: raw.id,
            topic: raw.topic,
            timeout: Duration::from_millis(raw.timeout_ms),
            event: text::event(bytes, raw.event, Some(raw.id))?,
        })
    }

    fn write(&self) -> String {
        let head = RawRequest {
            id: self.id,
            topic: self.topic.clone(),
            timeout_ms: millis(self.timeout),
            event: RawValue::NULL,
        };
        let mut out = text::begin("request", &head, self.event.size_bytes());
        text::member(&mut out, "event");
        json::encode(&self.event, &mut out);
        text::finish(out)
    }
}

impl Settle {
    fn read(bytes: &Bytes, text: &str) -> Result<Self, Malformed> {
        let raw: RawSettle<'_> = text::members(text)?;
        let id = Some(raw.id);
        let outcome = match raw.outcome {
            Settled::Ack => Outcome::Ack,
            Settled::Retry => Outcome::Retry {
                after: Duration::from_millis(raw.after_ms.unwrap_or(0)),
            },
            Settled::DeadLetter => Outcome::DeadLetter {
                failure: raw.failure.unwrap_or_default(),
            },
        };
        let staged = raw.events.into_iter();
        let staged = staged.map(|staged| Ok((staged.topic, text::event(bytes, staged.event, id)?)));
        let reply = raw.reply.map(|reply| text::event(bytes, reply, id));
        Ok(Self {
            id: raw.id,
            subscription: raw.subscription,
            delivery: raw.delivery,
            commit: Commit {
                outcome,
                effects: Effects {
                    events: staged.collect::<Result<_, Malformed>>()?,
                    reply: reply.transpose()?.map(Box::new),
                },
            },
        })
    }

    fn write(&self) -> String {
        let (outcome, after_ms, failure) = match &self.commit.outcome {
            Outcome::Ack => (Settled::Ack, None, None),
            Outcome::Retry { after } => (Settled::Retry, Some(millis(*after)), None),
            Outcome::DeadLetter { failure } => (Settled::DeadLetter, None, Some(failure.clone())),
        };
        let head = RawSettle {
            id: self.id,
            subscription: self.subscription,
            delivery: self.delivery,
            outcome,
            after_ms,
            failure,
            events: Vec::new(),
            reply: None,
        };
        let effects = &self.commit.effects;
        let bytes: usize = effects
            .events
            .iter()
            .map(|(_, e)| e.size_bytes() + 200)
            .sum();
        let mut out = text::begin("settle", &head, bytes);
        if !effects.events.is_empty() {
            text::list(
                &mut out,
                "events",
                &effects.events,
                |out, (topic, event)| {
                    // A topic's name has no character that JSON would escape.
                    out.extend_from_slice(format!(r#"{{"topic":"{topic}","event":"#).as_bytes());
                    json::encode(event, out);
                    out.push(b'}');
                },
            );
        }
        if let Some(reply) = &effects.reply {
            text::member(&mut out, "reply");
            json::encode(reply, &mut out);
        }
        text::finish(out)
    }
}

impl Describe {
    fn read(text: &str) -> Result<Self, Malformed> {
        let raw: RawDescribe<'_> = text::members(text)?;
        let catalogue = Catalogue::from_json(raw.catalogue.get());
        Ok(Self {
            id: raw.id,
            subscription: raw.subscription,
            catalogue: Arc::new(catalogue.map_err(|error| Malformed {
                id: Some(raw.id),
                ..Malformed::new(error)
            })?),
        })
    }

    fn write(&self) -> String {
        let head = RawDescribe {
            id: self.id,
            subscription: self.subscription,
            catalogue: RawValue::NULL,
        };
        let catalogue = self.catalogue.to_json();
        let mut out = text::begin("describe", &head, catalogue.len());
        text::member(&mut out, "catalogue");
        out.extend_from_slice(catalogue.as_bytes());
        text::finish(out)
    }
}

/// Rounded up, so that no wait becomes none.
fn millis(duration: Duration) -> u64 {
    let micros = duration.as_micros().div_ceil(1000);
    u64::try_from(micros).unwrap_or(u64::MAX)
}

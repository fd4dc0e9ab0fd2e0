//! What was sent, read from the log. Keeps nothing.

use std::time::Duration;

use tidemill::core::{Fetch, FetchError, Offset, Partition};
use tidemill::{Bus, Event, Message, TopicName};

use crate::events::{MessageSent, TOPIC};
use crate::limits::{FETCH_MAX_BYTES, FETCH_MAX_EVENTS, LIST_MAX, SCAN_MAX};

/// A place in the log: a partition and an offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl Place {
    /// Reads `partition:offset`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (partition, offset) = text.split_once(':')?;
        Some(Self {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// Messages from or to a user, oldest first in each partition.
pub(crate) struct History {
    pub(crate) messages: Vec<MessageSent>,
    /// Where to read on, where there is more to look at.
    pub(crate) next: Option<Place>,
}

/// Reads from `place` on until the end, at most [`LIST_MAX`] messages and [`SCAN_MAX`] events.
pub(crate) async fn read(bus: &Bus, user: &str, place: Place) -> Result<History, FetchError> {
    let topic = TopicName::new(TOPIC).expect("the topic's name is a legal one");
    let mut history = History {
        messages: Vec::new(),
        next: None,
    };
    let mut looked_at = 0;
    let all = bus.topics().await?;
    let found = all.into_iter().find(|bounds| bounds.topic == topic);
    for bounds in found.map(|found| found.partitions).unwrap_or_default() {
        let partition = bounds.partition.0;
        if partition < place.partition {
            continue;
        }
        let from = match partition == place.partition {
            true => place.offset,
            false => 0,
        };
        let mut offset = from.max(bounds.earliest.0);
        while offset < bounds.end.0 {
            if looked_at >= SCAN_MAX || history.messages.len() >= LIST_MAX {
                history.next = Some(Place { partition, offset });
                return Ok(history);
            }
            let room = LIST_MAX - history.messages.len();
            let (next, events) = fetch(bus, &topic, bounds.partition, offset, room).await?;
            looked_at += events.len();
            let sent = events.iter().filter_map(|event| sent(event));
            history
                .messages
                .extend(sent.filter(|sent| sent.from == user || sent.to == user));
            if next <= offset {
                break;
            }
            offset = next;
        }
    }
    Ok(history)
}

async fn fetch(
    bus: &Bus,
    topic: &TopicName,
    partition: Partition,
    offset: u64,
    room: usize,
) -> Result<(u64, Vec<std::sync::Arc<Event>>), FetchError> {
    let fetch = Fetch {
        topic: topic.clone(),
        partition,
        offset: Offset(offset),
        max_events: FETCH_MAX_EVENTS.min(room.max(1)),
        max_bytes: FETCH_MAX_BYTES,
        wait: Duration::ZERO,
    };
    match bus.fetch(fetch).await {
        Ok(fetched) => {
            let events = fetched.events.into_iter().map(|(_, event)| event).collect();
            Ok((fetched.next.0, events))
        }
        // What cannot be read any more is passed over.
        Err(FetchError::Damaged { resume, .. }) => Ok((resume.0, Vec::new())),
        Err(FetchError::OutOfRange { earliest, .. }) => Ok((earliest.0, Vec::new())),
        Err(error) => Err(error),
    }
}

fn sent(event: &Event) -> Option<MessageSent> {
    let is_sent = event.ty().as_str() == MessageSent::TYPE;
    is_sent.then(|| MessageSent::decode(event.data()?).ok())?
}

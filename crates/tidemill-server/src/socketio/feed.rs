//! Follows the log from its end on and hands each event to the clients that want it. Whoever
//! published it, and through which door, makes no difference.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Advanced, Bus, Event, Fetch, FetchError, Fetched, Offset, Partition, TopicId, TopicName, Watch,
    json,
};

use super::clients::{Audience, Clients};
use crate::envelope::{Envelope, Member};
use crate::http::plain::DEFAULT_TOPIC;
use crate::limits::{FEED_FETCH_BYTES, FEED_FETCH_EVENTS, FEED_RETRIES, FEED_RETRY};

/// The reader behind all Socket.IO clients.
pub(crate) struct Feed {
    watch: Box<dyn Watch>,
    reader: Reader,
}

struct Reader {
    bus: Bus,
    clients: Arc<Clients>,
    /// Where to read on, for each partition that was met.
    positions: HashMap<(TopicName, Partition), Place>,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Which topic of that name it is in, where the bus knows.
    topic: Option<TopicId>,
    /// Where to read on.
    offset: Offset,
}

impl Feed {
    /// Begins behind all that is durable now.
    ///
    /// # Errors
    /// The bus cannot list or watch its topics.
    pub(crate) async fn begin(bus: Bus, clients: Arc<Clients>) -> Result<Self, FetchError> {
        // First the watch, then the ends: what comes in between is told of by the watch.
        let watch = bus.watch()?;
        let mut positions = HashMap::new();
        for topic in bus.topics().await? {
            for bounds in topic.partitions {
                let key = (topic.topic.clone(), bounds.partition);
                let place = Place {
                    topic: topic.id,
                    offset: bounds.end,
                };
                positions.insert(key, place);
            }
        }
        let reader = Reader {
            bus,
            clients,
            positions,
        };
        Ok(Self { watch, reader })
    }

    /// Runs until the bus is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let advanced = match self.watch.next().await {
                Ok(advanced) => advanced,
                Err(FetchError::Unavailable(Unavailable::Closed)) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch the log for Socket.IO");
                    tokio::time::sleep(FEED_RETRY).await;
                    continue;
                }
            };
            for partition in advanced {
                self.reader.catch_up(partition).await;
            }
        }
    }
}

impl Reader {
    /// Reads one partition up to its end.
    async fn catch_up(&mut self, advanced: Advanced) {
        let Advanced {
            topic,
            id,
            partition,
            end,
        } = advanced;
        let key = (topic, partition);
        let known = self.positions.get(&key).copied().unwrap_or_default();
        let other = id.is_some() && known.topic.is_some() && id != known.topic;
        let mut position = match known.offset > end {
            // A topic made again, however many events it has by now.
            _ if other => Offset(0),
            true => match self.begun_anew(&key, known.offset).await {
                Some(earliest) => earliest,
                None => return,
            },
            false => known.offset,
        };
        let mut failed = 0;
        while position < end && !self.clients.is_empty() {
            match self.read(&key, position).await {
                Ok(Some(next)) if next > position => position = next,
                Ok(_) => break,
                Err(()) if failed < FEED_RETRIES => {
                    failed += 1;
                    tokio::time::sleep(FEED_RETRY).await;
                }
                Err(()) => {
                    let topic = &key.0;
                    tracing::error!(%topic, %position, %end, "Socket.IO passes events over");
                    break;
                }
            }
        }
        let place = Place {
            topic: id,
            offset: position.max(end),
        };
        self.positions.insert(key, place);
    }

    /// Where a partition begins that ends before `known`: its topic was deleted and created again
    /// under the same name, on a bus that does not tell topics of one name apart. None where it
    /// goes on to `known`: what is durable can be read a moment before the watch tells of it, so
    /// an end may be told of late.
    async fn begun_anew(&self, key: &(TopicName, Partition), known: Offset) -> Option<Offset> {
        match self
            .bus
            .fetch(fetch_of(key, known, self.fetch_bytes()))
            .await
        {
            Err(FetchError::OutOfRange { earliest, end, .. }) if end < known => Some(earliest),
            _ => None,
        }
    }

    /// Reads from `position` on and tells where to go on; `None` where nothing can be read any
    /// more, an error for how long to wait before the next try.
    async fn read(
        &self,
        key: &(TopicName, Partition),
        position: Offset,
    ) -> Result<Option<Offset>, ()> {
        let (topic, partition) = key;
        let short = FetchError::Unavailable(Unavailable::Overloaded);
        let fetched = loop {
            let fetch = fetch_of(key, position, self.fetch_bytes());
            let fetched = self.bus.fetch(fetch).await;
            // Nothing is wrong with what is to be read: others have the memory for it.
            if fetched.as_ref().err() != Some(&short) {
                break fetched;
            }
            tokio::time::sleep(FEED_RETRY).await;
        };
        match fetched {
            Ok(Fetched { events, next, .. }) => {
                for (_, event) in events {
                    self.deliver(topic, &event).await;
                }
                Ok(Some(next))
            }
            Err(FetchError::OutOfRange { earliest, .. }) => Ok(Some(earliest)),
            Err(FetchError::Damaged { resume, why, .. }) => {
                tracing::warn!(%topic, %partition, %why, "Socket.IO passes damaged events over");
                Ok(Some(resume))
            }
            Err(
                FetchError::UnknownTopic(_)
                | FetchError::UnknownPartition { .. }
                | FetchError::Unavailable(Unavailable::Closed),
            ) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, %topic, "cannot read the log for Socket.IO");
                Err(())
            }
        }
    }

    /// Bytes of one read: little where the memory is.
    fn fetch_bytes(&self) -> usize {
        FEED_FETCH_BYTES.min(self.clients.memory().limit() / 64)
    }

    async fn deliver(&self, topic: &TopicName, event: &Event) {
        let (envelope, json) = text_of(event);
        let public = topic.as_str() == DEFAULT_TOPIC && *envelope.target() == Member::Absent;
        let audience = if public {
            Audience::Everyone
        } else {
            Audience::Rooms([topic.as_str(), event.ty().as_str()])
        };
        self.clients.deliver(audience, json).await;
    }
}

fn fetch_of(
    (topic, partition): &(TopicName, Partition),
    offset: Offset,
    max_bytes: usize,
) -> Fetch {
    Fetch {
        topic: topic.clone(),
        partition: *partition,
        offset,
        max_events: FEED_FETCH_EVENTS,
        max_bytes,
        wait: Duration::ZERO,
    }
}

/// What clients get: the data as it is where it is JSON, else the whole event in the JSON form
/// of CloudEvents.
fn text_of(event: &Event) -> (Envelope, Box<RawValue>) {
    if event.is_json()
        && let Some(data) = event.data()
        && let Ok(text) = std::str::from_utf8(data)
        && let Ok(envelope) = Envelope::read(text)
        && let Ok(json) = RawValue::from_string(text.trim().to_owned())
    {
        return (envelope, json);
    }
    let mut whole = Vec::new();
    json::encode(event, &mut whole);
    let whole = String::from_utf8(whole).expect("JSON is UTF-8");
    let json = RawValue::from_string(whole).expect("an encoded event is JSON");
    (Envelope::default(), json)
}

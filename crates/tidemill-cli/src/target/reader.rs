//! Reading a topic's events in offset order from a server or a folder, and waiting for new ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill::core::{Fetch, json};
use tidemill::{Bus, Event, Offset, Partition, TopicName};

use super::Target;
use crate::client::{Client, path};
use crate::failure::Failure;
use crate::limits::{FETCH_MAX_BYTES, FETCH_MAX_EVENTS, FETCH_WAIT};
use crate::values::From;
use crate::wire;

/// One event and where it lies.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) event: Arc<Event>,
}

/// Reads on from where it stands, in every partition of one topic.
pub(crate) struct Reader {
    source: Source,
    topic: TopicName,
    /// Where to read on, by partition.
    next: BTreeMap<u32, u64>,
}

enum Source {
    Server(Client),
    Bus(Bus),
}

impl Reader {
    /// A reader of `topic` that begins at `from`.
    ///
    /// # Errors
    /// When there is no such topic, or nobody answers.
    pub(crate) async fn open(
        target: &Target,
        topic: &TopicName,
        from: From,
    ) -> Result<Self, Failure> {
        let Some(found) = target.topic(topic).await? else {
            return Err(Failure::new(format!(
                "unknown topic {topic}; publish to it, or create it with `tidemill topic create`"
            )));
        };
        let start = |p: &wire::PartitionOf| match from {
            From::Beginning => p.earliest,
            From::End => p.end,
            From::Offset(offset) => offset.clamp(p.earliest, p.end),
        };
        Ok(Self {
            source: match target {
                Target::Server(client) => Source::Server(client.clone()),
                Target::Folder(broker) => Source::Bus(broker.bus()),
            },
            topic: topic.clone(),
            next: found
                .partitions
                .iter()
                .map(|p| (p.partition, start(p)))
                .collect(),
        })
    }

    /// A reader of one partition only, for readers that share the work.
    pub(crate) fn only(&self, partition: u32) -> Self {
        let next = self.next.iter().filter(|(p, _)| **p == partition);
        Self {
            source: match &self.source {
                Source::Server(client) => Source::Server(client.clone()),
                Source::Bus(bus) => Source::Bus(bus.clone()),
            },
            topic: self.topic.clone(),
            next: next.map(|(p, o)| (*p, *o)).collect(),
        }
    }

    /// The partitions that are read.
    pub(crate) fn partitions(&self) -> Vec<u32> {
        self.next.keys().copied().collect()
    }

    /// The next events, in offset order within each partition; none when none came for a while.
    ///
    /// # Errors
    /// When the topic is gone, damaged, or nobody answers.
    pub(crate) async fn read(&mut self) -> Result<Vec<Read>, Failure> {
        match &self.source {
            Source::Server(client) => self.read_server(&client.clone()).await,
            Source::Bus(bus) => self.read_bus(&bus.clone()).await,
        }
    }

    async fn read_server(&mut self, client: &Client) -> Result<Vec<Read>, Failure> {
        let pairs: Vec<String> = self.next.iter().map(|(p, o)| format!("{p}:{o}")).collect();
        let base = path(&["v1", "topics", self.topic.as_str(), "events"]);
        let one = match pairs.len() {
            1 => self
                .next
                .keys()
                .map(|p| format!("partition={p}&"))
                .collect(),
            _ => String::new(),
        };
        let wait = FETCH_WAIT.as_millis();
        let at = format!(
            "{base}?{one}offset={}&max={FETCH_MAX_EVENTS}&wait_ms={wait}",
            pairs.join(",")
        );
        let page: wire::Page = client.get(&at, FETCH_WAIT).await?;
        for (partition, offset) in page.next {
            if let Ok(partition) = partition.parse() {
                self.next.insert(partition, offset);
            }
        }
        let mut read = Vec::with_capacity(page.events.len());
        for found in page.events {
            let text = Bytes::from(String::from(Box::<str>::from(found.event)));
            let event = json::decode(&text)
                .map_err(|e| Failure::new(format!("the server sent no event: {e}")))?;
            read.push(Read {
                partition: found.partition,
                offset: found.offset,
                event: Arc::new(event),
            });
        }
        Ok(read)
    }

    async fn read_bus(&mut self, bus: &Bus) -> Result<Vec<Read>, Failure> {
        let mut read = Vec::new();
        // Only one partition can be waited for; with several, a short wait each keeps up.
        let alone = self.next.len() == 1;
        let wait = if alone {
            FETCH_WAIT
        } else {
            Duration::from_millis(50)
        };
        for (partition, offset) in &mut self.next {
            let fetch = Fetch {
                topic: self.topic.clone(),
                partition: Partition(*partition),
                offset: Offset(*offset),
                max_events: FETCH_MAX_EVENTS,
                max_bytes: FETCH_MAX_BYTES,
                wait: if read.is_empty() {
                    wait
                } else {
                    Duration::ZERO
                },
            };
            let fetched = bus.fetch(fetch).await.map_err(Failure::new)?;
            *offset = fetched.next.0;
            read.extend(fetched.events.into_iter().map(|(offset, event)| Read {
                partition: *partition,
                offset: offset.0,
                event,
            }));
        }
        Ok(read)
    }
}

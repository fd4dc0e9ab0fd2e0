//! Reading a topic's events in offset order from a server or a folder, and waiting for new ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tidemill::core::{Fetch, FetchError, Fetched, json};
use tidemill::{Bus, Event, Offset, Partition, TopicName};

use super::Target;
use crate::client::{CallError, Client, Damage, path};
use crate::failure::Failure;
use crate::limits::{FETCH_MAX_BYTES, FETCH_MAX_EVENTS, FETCH_WAIT};
use crate::values::Start;
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
    /// It reads one partition and no other.
    alone: bool,
    /// What was met last cannot be read, and `next` leads past it.
    past_damage: bool,
}

enum Source {
    Server(Client),
    Bus(Bus),
}

impl Reader {
    /// A reader of `topic` that begins at `from`.
    ///
    /// # Errors
    /// When there is no such topic, `from` is not kept, or nobody answers.
    pub(crate) async fn open(
        target: &Target,
        topic: &TopicName,
        from: Start,
    ) -> Result<Self, Failure> {
        let Some(found) = target.topic(topic).await? else {
            return Err(Failure::new(format!(
                "unknown topic {topic}; publish to it, or create it with `tidemill topic create`"
            )));
        };
        let next = match from {
            Start::Since(since) => starts_since(target, topic, &found, since).await?,
            from => starts(&found, &from)?,
        };
        Ok(Self {
            source: match target {
                Target::Server(client) => Source::Server(client.clone()),
                Target::Folder(broker) => Source::Bus(broker.bus()),
            },
            topic: topic.clone(),
            next,
            alone: false,
            past_damage: false,
        })
    }

    /// Where it reads on, by partition: all before it that can be read was given out.
    pub(crate) fn position(&self) -> &BTreeMap<u32, u64> {
        &self.next
    }

    /// Whether the last reading failed at damage, which the position leads past.
    pub(crate) fn is_past_damage(&self) -> bool {
        self.past_damage
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
            alone: true,
            past_damage: false,
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
        // Where all are read, the answer names those that are added, too.
        let one = match self.alone {
            true => self
                .next
                .keys()
                .map(|p| format!("partition={p}&"))
                .collect(),
            false => String::new(),
        };
        let wait = FETCH_WAIT.as_millis();
        let at = format!(
            "{base}?{one}offset={}&max={FETCH_MAX_EVENTS}&wait_ms={wait}",
            pairs.join(",")
        );
        let page: wire::Page = match client.get(&at, FETCH_WAIT).await {
            Err(CallError::Damaged(damage, text)) => return Err(self.damaged(damage, text)),
            page => page?,
        };
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
        let read = self.read_waiting(bus).await?;
        match read.is_empty() {
            true => self.wait(bus).await,
            false => Ok(read),
        }
    }

    /// Reads what is there in each partition.
    async fn read_waiting(&mut self, bus: &Bus) -> Result<Vec<Read>, Failure> {
        let mut read = Vec::new();
        for (partition, offset) in self.next.clone() {
            let fetch = self.fetch(partition, offset, Duration::ZERO);
            match bus.fetch(fetch).await {
                Ok(fetched) => self.take(partition, fetched, &mut read),
                // It is met again, once what was read is given out.
                Err(_) if !read.is_empty() => break,
                Err(error) => return Err(self.failed(partition, &error)),
            }
        }
        Ok(read)
    }

    /// Waits until one of the partitions has an event, or the time is over.
    async fn wait(&mut self, bus: &Bus) -> Result<Vec<Read>, Failure> {
        let waiting = self.next.iter().map(|(partition, offset)| {
            let fetch = bus.fetch(self.fetch(*partition, *offset, FETCH_WAIT));
            let partition = *partition;
            async move { (partition, fetch.await) }
        });
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        let mut read = Vec::new();
        while let Some((partition, fetched)) = waiting.next().await {
            match fetched {
                Ok(fetched) => self.take(partition, fetched, &mut read),
                Err(error) => return Err(self.failed(partition, &error)),
            }
            if !read.is_empty() {
                break;
            }
        }
        Ok(read)
    }

    fn failed(&mut self, partition: u32, error: &FetchError) -> Failure {
        let FetchError::Damaged { resume, .. } = error else {
            return Failure::new(error);
        };
        let resume = resume.0;
        let text = format!("{}/{partition}: {error}", self.topic);
        self.damaged(Damage { partition, resume }, text)
    }

    fn damaged(&mut self, damage: Damage, text: String) -> Failure {
        self.next.insert(damage.partition, damage.resume);
        self.past_damage = true;
        Failure::new(text)
    }

    fn fetch(&self, partition: u32, offset: u64, wait: Duration) -> Fetch {
        Fetch {
            topic: self.topic.clone(),
            partition: Partition(partition),
            offset: Offset(offset),
            max_events: FETCH_MAX_EVENTS,
            max_bytes: FETCH_MAX_BYTES,
            wait,
        }
    }

    fn take(&mut self, partition: u32, fetched: Fetched, read: &mut Vec<Read>) {
        self.next.insert(partition, fetched.next.0);
        read.extend(fetched.events.into_iter().map(|(offset, event)| Read {
            partition,
            offset: offset.0,
            event,
        }));
    }
}

/// Where a time begins in each partition.
///
/// # Errors
/// When the topic is gone, or nobody answers.
async fn starts_since(
    target: &Target,
    name: &TopicName,
    topic: &wire::Topic,
    since: Timestamp,
) -> Result<BTreeMap<u32, u64>, Failure> {
    let mut starts = BTreeMap::new();
    for p in &topic.partitions {
        let offset = target.offset_since(name, p.partition, since).await?;
        starts.insert(p.partition, offset);
    }
    Ok(starts)
}

/// Where reading begins in each partition.
///
/// # Errors
/// When `from` names a place that is not kept, or a partition that is not there: then the text
/// says what is.
fn starts(topic: &wire::Topic, from: &Start) -> Result<BTreeMap<u32, u64>, Failure> {
    let name = &topic.name;
    if let Start::Each(each) = from {
        let known = |partition| topic.partitions.iter().any(|p| p.partition == partition);
        if let Some(partition) = each.keys().find(|partition| !known(**partition)) {
            let count = topic.partitions.len();
            return Err(Failure::new(format!(
                "--from: {name} has no partition {partition}; it has {count}"
            )));
        }
    }
    let start = |p: &wire::PartitionOf| match from {
        Start::Beginning => p.earliest,
        Start::End | Start::Since(_) => p.end,
        Start::Offset(offset) => *offset,
        Start::Each(each) => each.get(&p.partition).copied().unwrap_or(p.earliest),
    };
    let wrong = |p: &&wire::PartitionOf| !(p.earliest..=p.end).contains(&start(p));
    if let Some(p) = topic.partitions.iter().find(wrong) {
        let wire::PartitionOf {
            partition,
            earliest,
            end,
            ..
        } = p;
        let at = start(p);
        let (what, instead) = match at > *end {
            true => ("ends", "end for what comes next, or an offset up to"),
            false => ("begins", "beginning, or an offset from"),
        };
        let bound = if at > *end { end } else { earliest };
        return Err(Failure::new(format!(
            "--from: {name}/{partition} {what} at {bound}, so there is nothing at {at}; give \
             {instead} {bound}{}",
            match topic.partitions.len() {
                1 => "",
                _ => " there (PARTITION:OFFSET pairs such as 0:17,1:4 give each its own)",
            }
        )));
    }
    Ok(topic
        .partitions
        .iter()
        .map(|p| (p.partition, start(p)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(bounds: &[(u64, u64)]) -> wire::Topic {
        let partitions = bounds.iter().zip(0..);
        wire::Topic {
            name: "t".to_owned(),
            partitions: partitions
                .map(|((earliest, end), partition)| wire::PartitionOf {
                    partition,
                    earliest: *earliest,
                    end: *end,
                    high_watermark: None,
                    size_bytes: None,
                })
                .collect(),
            ..wire::Topic::default()
        }
    }

    #[test]
    fn a_start_is_found_in_each_partition() {
        let topic = topic(&[(2, 5), (0, 9)]);
        let at = |from: &str| {
            let found = starts(&topic, &from.parse().unwrap()).unwrap();
            found.into_values().collect::<Vec<_>>()
        };
        assert_eq!(at("beginning"), [2, 0]);
        assert_eq!(at("end"), [5, 9]);
        assert_eq!(at("5"), [5, 5]);
        assert_eq!(at("1:9"), [2, 9]);
    }

    #[test]
    fn a_place_that_is_not_kept_is_refused_with_what_is() {
        let topic = topic(&[(2, 5), (0, 9)]);
        for (from, parts) in [
            ("6", ["t/0 ends at 5", "end for what comes next"]),
            ("1", ["t/0 begins at 2", "beginning"]),
            ("0:3,1:10", ["t/1 ends at 9", "up to 9"]),
            ("2:0", ["no partition 2", "it has 2"]),
        ] {
            let error = starts(&topic, &from.parse().unwrap())
                .unwrap_err()
                .to_string();
            assert!(
                parts.iter().all(|part| error.contains(part)),
                "{from}: {error}"
            );
        }
    }
}

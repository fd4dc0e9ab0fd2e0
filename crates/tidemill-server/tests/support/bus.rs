//! A bus in memory for the tests of the doors that need nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_core::partition::partition_of;
use tidemill_core::{
    Advanced, BoxFuture, Bus, Event, Fetch, FetchError, Fetched, GroupMember, Guarantees, Offset,
    Partition, PartitionBounds, Position, PublishError, Publisher, RequestError, SubscribeError,
    Subscriber, Subscription, TopicBounds, TopicName, Watch, bus::Support,
};
use tokio::sync::watch;

/// A bus whose topics have one partition, but those whose name begins with `wide` have three.
pub(crate) fn in_memory() -> Bus {
    let (changed, _) = watch::channel(());
    Bus::new(MemoryBus {
        topics: Arc::default(),
        changed,
    })
}

type Topics = BTreeMap<TopicName, Vec<Vec<Arc<Event>>>>;

struct MemoryBus {
    topics: Arc<Mutex<Topics>>,
    changed: watch::Sender<()>,
}

impl Publisher for MemoryBus {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let mut topics = self.topics.lock().unwrap();
        let count = if topic.as_str().starts_with("wide") {
            3
        } else {
            1
        };
        let parts = topics
            .entry(topic.clone())
            .or_insert_with(|| vec![Vec::new(); count]);
        let place = |event: Event| {
            let partition = partition_of(event.key().unwrap_or("").as_bytes(), count as u32);
            let part = &mut parts[partition.0 as usize];
            part.push(Arc::new(event));
            Position {
                topic: topic.clone(),
                partition,
                offset: Offset(part.len() as u64 - 1),
            }
        };
        let positions = events.into_iter().map(place).collect();
        self.changed.send_replace(());
        Box::pin(std::future::ready(Ok(positions)))
    }

    fn request(
        &self,
        _: TopicName,
        _: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        Box::pin(std::future::ready(Err(RequestError::Timeout(timeout))))
    }
}

impl Subscriber for MemoryBus {
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            at_least_once: Support::Native,
            order_per_key: Support::Refused,
            atomic_handler_commit: Support::Refused,
            replay: Support::Native,
        }
    }

    fn subscribe(
        &self,
        _: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let error = SubscribeError::Other("this bus has no groups".into());
        Box::pin(std::future::ready(Err(error)))
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let topics = Arc::clone(&self.topics);
        let mut changed = self.changed.subscribe();
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + fetch.wait;
            loop {
                changed.mark_unchanged();
                let fetched = read(&topics.lock().unwrap(), &fetch)?;
                if !fetched.events.is_empty() {
                    return Ok(fetched);
                }
                if tokio::time::timeout_at(deadline, changed.changed())
                    .await
                    .is_err()
                {
                    return Ok(fetched);
                }
            }
        })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let topics = self.topics.lock().unwrap();
        let bounds = topics.iter().map(|(topic, parts)| TopicBounds {
            topic: topic.clone(),
            partitions: ends(parts)
                .map(|(partition, end)| PartitionBounds {
                    partition,
                    earliest: Offset(0),
                    end,
                })
                .collect(),
        });
        Box::pin(std::future::ready(Ok(bounds.collect())))
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        let mut told = HashMap::new();
        for (topic, parts) in &*self.topics.lock().unwrap() {
            for (partition, end) in ends(parts) {
                told.insert((topic.clone(), partition), end);
            }
        }
        Ok(Box::new(MemoryWatch {
            topics: Arc::clone(&self.topics),
            changed: self.changed.subscribe(),
            told,
        }))
    }
}

fn ends(parts: &[Vec<Arc<Event>>]) -> impl Iterator<Item = (Partition, Offset)> {
    let numbered = (0..).map(Partition).zip(parts);
    numbered.map(|(partition, part)| (partition, Offset(part.len() as u64)))
}

fn read(topics: &Topics, fetch: &Fetch) -> Result<Fetched, FetchError> {
    let unknown = || FetchError::UnknownTopic(fetch.topic.clone());
    let parts = topics.get(&fetch.topic).ok_or_else(unknown)?;
    let part = &parts[fetch.partition.0 as usize];
    let end = Offset(part.len() as u64);
    if fetch.offset > end {
        return Err(FetchError::OutOfRange {
            offset: fetch.offset,
            earliest: Offset(0),
            end,
        });
    }
    let from = fetch.offset.0 as usize;
    let mut bytes = 0;
    let mut events = Vec::new();
    for (n, event) in part.iter().enumerate().skip(from).take(fetch.max_events) {
        if bytes > 0 && bytes + event.size_bytes() > fetch.max_bytes {
            break;
        }
        bytes += event.size_bytes();
        events.push((Offset(n as u64), Arc::clone(event)));
    }
    let next = fetch.offset.plus(events.len() as u64);
    Ok(Fetched { events, next, end })
}

struct MemoryWatch {
    topics: Arc<Mutex<Topics>>,
    changed: watch::Receiver<()>,
    told: HashMap<(TopicName, Partition), Offset>,
}

impl Watch for MemoryWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Advanced>, FetchError>> {
        Box::pin(async move {
            loop {
                self.changed.mark_unchanged();
                let mut advanced = Vec::new();
                for (topic, parts) in &*self.topics.lock().unwrap() {
                    for (partition, end) in ends(parts) {
                        let key = (topic.clone(), partition);
                        if end.0 > 0 && self.told.insert(key, end) != Some(end) {
                            let topic = topic.clone();
                            advanced.push(Advanced {
                                topic,
                                partition,
                                end,
                            });
                        }
                    }
                }
                if !advanced.is_empty() {
                    return Ok(advanced);
                }
                if self.changed.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        })
    }
}

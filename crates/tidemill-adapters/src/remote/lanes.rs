//! Publishing over the network, once: every publish goes by a lane, which has a producer's numbers
//! and one publish under way. Sent again with the same numbers, over another connection or to a
//! server that was restarted, it is kept once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill_core::wire::{Answer, Call, ClientFrame, Fault, Numbers, Publish, ServerFrame};
use tidemill_core::{Event, Partition, Position, PublishError, TopicName};
use tokio::sync::Semaphore;

use super::limits::{PUBLISHES_MAX, RENUMBERS_MAX};
use super::link::{Again, Link};

/// See the module.
pub(super) struct Lanes {
    link: Link,
    /// Whether the server knows numbers; without them a publish is known within its session.
    numbered: bool,
    frame_max_bytes: usize,
    permits: Semaphore,
    free: Mutex<Vec<Lane>>,
    partitions: Mutex<HashMap<TopicName, u32>>,
}

#[derive(Default)]
struct Lane {
    /// Id and epoch.
    producer: Option<(String, i16)>,
    round: u32,
    sequences: HashMap<TopicName, BTreeMap<Partition, i32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unexpected() -> Fault {
    Fault::Other {
        why: "the server gave another answer than the one that was asked for; update one of both"
            .into(),
    }
}

impl Lanes {
    pub(super) fn new(link: Link, numbered: bool, frame_max_bytes: usize) -> Self {
        Self {
            link,
            numbered,
            frame_max_bytes,
            permits: Semaphore::new(PUBLISHES_MAX),
            free: Mutex::default(),
            partitions: Mutex::default(),
        }
    }

    /// Publishes; goes on to the answer also when nobody waits for it any longer, as the lane is
    /// not to be used before.
    pub(super) async fn publish(
        self: Arc<Self>,
        topic: TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<Position>, PublishError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let published = tokio::spawn(async move {
            let permit = self.permits.acquire().await;
            let mut lane = locked(&self.free).pop().unwrap_or_default();
            let published = match self.numbered {
                true => self.publish_by(&mut lane, topic, events).await,
                false => self.publish_plain(topic, events).await,
            };
            if published.is_err() {
                // Whether its numbers were used is not known in every case.
                lane = Lane::default();
            }
            locked(&self.free).push(lane);
            drop(permit);
            published.map_err(Fault::into_publish)
        });
        let ended = |_| Err(PublishError::Indeterminate("the runtime has ended".into()));
        published.await.unwrap_or_else(ended)
    }

    async fn publish_by(
        &self,
        lane: &mut Lane,
        topic: TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<Position>, Fault> {
        let id = self.link.number();
        let mut publish = Publish {
            id,
            topic,
            numbers: None,
            events,
        };
        for _ in 0..RENUMBERS_MAX {
            publish.id = self.link.number();
            publish.numbers = Some(self.number(lane, &publish.topic).await?);
            match self.send(&publish, Again::Always).await {
                Ok(positions) => {
                    lane.took(&publish.topic, &positions);
                    return Ok(positions);
                }
                // In each of these nothing was kept.
                Err(Fault::Changed { .. } | Fault::UnknownTopic { .. }) => {
                    locked(&self.partitions).remove(&publish.topic);
                    lane.sequences.remove(&publish.topic);
                }
                Err(Fault::Numbers { why }) => {
                    tracing::debug!(why, "publishing goes on with another producer");
                    *lane = Lane::default();
                }
                Err(fault) => return Err(fault),
            }
        }
        let why = format!("the topic {} keeps changing; try again", publish.topic);
        Err(Fault::Other { why })
    }

    /// To a server that knows no numbers.
    async fn publish_plain(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<Position>, Fault> {
        let publish = Publish {
            id: self.link.number(),
            topic,
            numbers: None,
            events,
        };
        self.send(&publish, Again::InSession(self.link.epoch()))
            .await
    }

    async fn send(&self, publish: &Publish, again: Again) -> Result<Vec<Position>, Fault> {
        // The frame's text lives in the call alone.
        let frame = ClientFrame::Publish(publish.clone()).encode();
        if frame.len() > self.frame_max_bytes {
            return Err(Fault::TooLarge {
                size_bytes: frame.len() as u64,
                max_bytes: self.frame_max_bytes as u64,
            });
        }
        match self.link.send(publish.id, frame, again).await {
            Ok(Ok(ServerFrame::Answer(Answer {
                positions: Some(positions),
                ..
            }))) => Ok(positions),
            Ok(Ok(_)) => Err(unexpected()),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::Indeterminate {
                why: "the connection broke, and the server knows nothing of the call any longer"
                    .into(),
            }),
        }
    }

    async fn number(&self, lane: &mut Lane, topic: &TopicName) -> Result<Numbers, Fault> {
        let known = locked(&self.partitions).get(topic).copied();
        let partitions = match known {
            Some(partitions) => partitions,
            None => {
                let topic_name = topic.clone();
                let asked = self.link.ask(|id| Call::Topic {
                    id,
                    topic: topic_name,
                });
                let ServerFrame::Answer(Answer {
                    partitions: Some(partitions),
                    ..
                }) = asked.await?
                else {
                    return Err(unexpected());
                };
                locked(&self.partitions).insert(topic.clone(), partitions);
                partitions
            }
        };
        let (producer, epoch) = match lane.producer.clone() {
            Some(producer) => producer,
            None => {
                let ServerFrame::Answer(Answer {
                    producer: Some(producer),
                    epoch: Some(epoch),
                    ..
                }) = self.link.ask(|id| Call::Producer { id }).await?
                else {
                    return Err(unexpected());
                };
                lane.producer = Some((producer.clone(), epoch));
                (producer, epoch)
            }
        };
        Ok(Numbers {
            producer,
            epoch,
            partitions,
            round: lane.round,
            sequences: lane.sequences.get(topic).cloned().unwrap_or_default(),
        })
    }
}

impl Lane {
    fn took(&mut self, topic: &TopicName, positions: &[Position]) {
        self.round = self.round.wrapping_add(1);
        let sequences = self.sequences.entry(topic.clone()).or_default();
        for position in positions {
            let next = sequences.entry(position.partition).or_default();
            // After 2^31 - 1 comes 0.
            *next = next.checked_add(1).unwrap_or(0);
        }
    }
}

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
    permits: Arc<Semaphore>,
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

/// Whether the server is sure that it kept nothing, so that the numbers are free as before.
fn is_unkept(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::InvalidEvent { .. }
            | Fault::TooLarge { .. }
            | Fault::IsQueue { .. }
            | Fault::Limit { .. }
            | Fault::Full { .. }
            | Fault::Overloaded
    )
}

impl Lanes {
    pub(super) fn new(link: Link, numbered: bool, frame_max_bytes: usize) -> Self {
        Self {
            link,
            numbered,
            frame_max_bytes,
            permits: Arc::new(Semaphore::new(PUBLISHES_MAX)),
            free: Mutex::default(),
            partitions: Mutex::default(),
        }
    }

    /// Publishes. Who gives up before there is a place publishes nothing; from then on it goes on
    /// to the answer also when nobody waits for it any longer, as the lane is not to be used
    /// before.
    pub(super) async fn publish(
        self: Arc<Self>,
        topic: TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<Position>, PublishError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // Waited for here, so that no more than there are places outlive who asked for them.
        let permit = match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => return Err(Fault::Closed.into_publish()),
        };
        let published = tokio::spawn(async move {
            let mut lane = locked(&self.free).pop().unwrap_or_default();
            let published = match self.numbered {
                true => self.publish_by(&mut lane, topic, events).await,
                false => self.publish_plain(topic, events).await,
            };
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
            let connection = self.link.connection();
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
                Err(fault) => {
                    // Where it was sent again, the answer is that of the last time alone.
                    let once = self.link.connection() == connection;
                    if !once || !is_unkept(&fault) {
                        // Its numbers may be used: they must not name other events.
                        *lane = Lane::default();
                    }
                    return Err(fault);
                }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tidemill_core::wire::Failed;
    use tidemill_core::{EventId, EventType, Offset, Source};

    use super::super::link::{Command, Counts};
    use super::*;

    fn topic() -> TopicName {
        TopicName::new("t").unwrap()
    }

    fn event() -> Event {
        let id = EventId::new("1").unwrap();
        let source = Source::new("/t").unwrap();
        Event::builder(id, source, EventType::new("t").unwrap())
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn publishes_that_are_given_up_before_they_have_a_place_are_none() {
        let (link, commands) = Link::new(Arc::new(Counts::default()));
        let lanes = Arc::new(Lanes::new(link, true, 1 << 20));
        for _ in 0..3 * PUBLISHES_MAX {
            let published = Arc::clone(&lanes).publish(topic(), vec![event()]);
            assert_eq!(published.now_or_never(), None);
        }
        while commands.len() < PUBLISHES_MAX {
            tokio::task::yield_now().await;
        }
        // Those beyond would have come behind.
        for _ in 0..3 * PUBLISHES_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(commands.len(), PUBLISHES_MAX);
    }

    /// Publishes once for each fault and once more; answers how many producers were asked for.
    async fn producers_with(faults: Vec<Fault>) -> usize {
        let (link, mut commands) = Link::new(Arc::new(Counts::default()));
        let lanes = Arc::new(Lanes::new(link, true, 1 << 20));
        let publishes = faults.len() + 1;
        let server = tokio::spawn(async move {
            let (mut producers, mut faults) = (0, faults.into_iter());
            while let Some(command) = commands.recv().await {
                let Command::Call { text, answered, .. } = command else {
                    continue;
                };
                let mut answer = Answer::default();
                let frame = ClientFrame::decode(&text.into_bytes().into()).unwrap();
                let fault = match frame {
                    ClientFrame::Call(Call::Producer { .. }) => {
                        producers += 1;
                        answer.producer = Some(producers.to_string());
                        answer.epoch = Some(0);
                        None
                    }
                    ClientFrame::Publish(publish) => {
                        assert_eq!(publish.numbers.unwrap().sequences.len(), 0);
                        answer.positions = Some(vec![Position {
                            topic: topic(),
                            partition: Partition(0),
                            offset: Offset(0),
                        }]);
                        faults.next()
                    }
                    _ => {
                        answer.partitions = Some(1);
                        None
                    }
                };
                let failed = fault.map(|fault| ServerFrame::Error(Failed::call(None, fault)));
                let frame = failed.unwrap_or(ServerFrame::Answer(answer));
                answered.send(Ok(frame)).unwrap();
            }
            producers
        });
        for n in 1..=publishes {
            let published = Arc::clone(&lanes).publish(topic(), vec![event()]).await;
            assert_eq!(published.is_ok(), n == publishes, "{published:?}");
        }
        drop(lanes);
        server.await.unwrap()
    }

    #[tokio::test]
    async fn a_producer_is_given_up_only_where_its_numbers_may_be_used() {
        let why = || "so".to_owned();
        let unkept = vec![
            Fault::Overloaded,
            Fault::Full { why: why() },
            Fault::InvalidEvent { why: why() },
        ];
        assert_eq!(producers_with(unkept).await, 1);
        let unknown = vec![
            Fault::Indeterminate { why: why() },
            Fault::Other { why: why() },
        ];
        assert_eq!(producers_with(unknown).await, 3);
    }
}

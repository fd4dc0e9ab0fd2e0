//! A publish that its sender numbers: sent again with the same numbers, over any connection and
//! after any restart, it is kept once. What a remote bus is made of.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tidemill_core::error::Unavailable;
use tidemill_core::{Event, GroupName, Partition, Position, PublishError, TopicName};
use tidemill_log::{CommitError, PartitionId, batch};

use super::error::ProducerError;
use super::ids::Sequence;
use super::init::ProducerIdentity;
use crate::broker::{Broker, Inner};
use crate::encode::{Sorted, sort};
use crate::limits::{PUBLISH_MAX_EVENTS, REROUTES_MAX};
use crate::machine::{Append, Client, Operation, Receipt, Refusal, Topic};
use crate::metrics::add;
use crate::topic_settings::TopicSettings;

/// The numbers of one publish. Who sends it again sends it with the same ones, and begins no
/// other publish of this producer before it has the answer.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Where the events go. The topic must be there: see [`Broker::ensure_topic`].
    pub topic: TopicName,
    /// Who publishes: see [`Broker::init_producer`].
    pub producer: ProducerIdentity,
    /// How many partitions the topic has; with another number nothing is kept, but for what was
    /// kept with these numbers before the topic got more.
    pub partitions: u32,
    /// The first event without a key goes to this partition, modulo their count, the next one to
    /// the next.
    pub round: u32,
    /// For each partition how many records the producer has in it; none where it is not named.
    pub sequences: BTreeMap<Partition, Sequence>,
}

impl Broker {
    /// Publishes events, all or none, and answers their positions when they are durable. Where
    /// these numbers were kept before, it answers where those are.
    ///
    /// # Errors
    /// [`ProducerError`]; [`ProducerError::Changed`] where the topic has another number of
    /// partitions.
    pub async fn publish_numbered(
        &self,
        numbered: Numbered,
        events: &[Event],
    ) -> Result<Vec<Position>, ProducerError> {
        let inner = &self.inner;
        if inner.closed.load(Ordering::Acquire) {
            return Err(Unavailable::Closed.into());
        }
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (records, bytes) = (events.len(), events.iter().map(Event::size_bytes).sum());
        let topic = numbered.topic.clone();
        let (append, places) = numbered_append(inner, self.client, numbered, events)?;
        let submitted = inner.submit(Operation::Publish(append)).await;
        let counters = &inner.counters;
        let bases = match submitted.map_err(ProducerError::from) {
            Ok(Receipt::Appended(bases)) => {
                add(&counters.published_events, records);
                add(&counters.published_bytes, bytes);
                inner.seen.note(&topic, events);
                bases.into_iter().next().unwrap_or_default()
            }
            Ok(Receipt::Repeated(bases)) => {
                add(&counters.repeated_events, records);
                bases
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                add(&counters.publish_errors, 1);
                return Err(error);
            }
        };
        Ok(Sorted::positions(&places, &bases).collect())
    }

    /// How many partitions the topic has. Makes it first, where topics are made by their first
    /// use and it is not there.
    ///
    /// # Errors
    /// [`PublishError`], as a publish to it would have.
    pub async fn ensure_topic(&self, name: &TopicName) -> Result<u32, PublishError> {
        let inner = &self.inner;
        let settings = TopicSettings::default().checked();
        let settings = settings.map_err(|error| PublishError::Other(error.to_string()))?;
        for _ in 0..REROUTES_MAX {
            let catalog = inner.durable.catalog();
            if inner.is_queue(&catalog, name) {
                return Err(PublishError::IsQueue(name.clone()));
            }
            if let Some(topic) = catalog.topic(name) {
                return Ok(topic.partitions);
            }
            drop(catalog);
            if !inner.settings.auto_create_topics {
                return Err(PublishError::UnknownTopic(name.clone()));
            }
            if inner.closed.load(Ordering::Acquire) {
                return Err(Unavailable::Closed.into());
            }
            let operation = Operation::CreateTopic {
                name: name.clone(),
                topic: inner.fresh_topic(),
                settings,
            };
            match inner.submit(operation).await {
                // Somebody else made it, perhaps.
                Ok(_) | Err(CommitError::Refused(Refusal::TopicExists(_))) => {}
                Err(CommitError::Unavailable(why)) => return Err(why.into()),
                Err(CommitError::Indeterminate(why)) => {
                    return Err(PublishError::Indeterminate(why));
                }
                Err(CommitError::Refused(other)) => {
                    return Err(PublishError::Other(other.to_string()));
                }
            }
        }
        let why = format!("the topic {name} keeps changing; try again");
        Err(PublishError::Other(why))
    }

    /// Whether the event at `position` is settled for `group`. `None` where there is no such
    /// group, or it does not read the partition.
    #[must_use]
    pub fn is_settled(&self, group: &GroupName, position: &Position) -> Option<bool> {
        let durable = &self.inner.durable;
        let topic = durable.catalog().topic(&position.topic)?.id;
        let partition = position.partition;
        let state = durable.state();
        let kept = state.group_id(group).and_then(|id| state.group(id))?;
        let cursor = kept.cursors.get(&PartitionId { topic, partition })?;
        Some(cursor.is_settled(position.offset))
    }
}

fn numbered_append(
    inner: &Inner,
    client: Client,
    numbered: Numbered,
    events: &[Event],
) -> Result<(Append, crate::encode::Places), ProducerError> {
    let Numbered {
        topic,
        producer,
        partitions,
        mut round,
        sequences,
    } = numbered;
    if events.len() > PUBLISH_MAX_EVENTS {
        let why = format!("a publish has at most {PUBLISH_MAX_EVENTS} events; send less");
        return Err(ProducerError::Event(PublishError::Other(why)));
    }
    if producer.epoch.0 < 0 {
        return Err(ProducerError::InvalidBatch("its producer has no epoch"));
    }
    if !inner.producer_ids.knows(producer.id) {
        return Err(ProducerError::UnknownProducer(producer.id));
    }
    let catalog = inner.durable.catalog();
    if inner.is_queue(&catalog, &topic) {
        return Err(ProducerError::Event(PublishError::IsQueue(topic)));
    }
    let route = catalog.topic(&topic);
    drop(catalog);
    let route = route.ok_or_else(|| ProducerError::UnknownTopic(topic.clone()))?;
    if route.partitions < partitions {
        return Err(ProducerError::Changed(topic));
    }
    // Sorted for the partitions that its sender knows: where those are fewer by now it is kept
    // already, or refused when it is sealed.
    let route = Topic {
        partitions: partitions.max(1),
        ..route
    };
    let turn = || {
        let now = round;
        round = round.wrapping_add(1);
        now
    };
    let stamp = |partition, builder: tidemill_log::BatchBuilder| {
        builder.producer(batch::Producer {
            id: producer.id.0,
            epoch: producer.epoch.0,
            base_sequence: sequences
                .get(&partition)
                .copied()
                .unwrap_or_default()
                .number(),
        })
    };
    let now_ms = Timestamp::now().as_millisecond();
    let bounds = inner.bounds(route, inner.publish_bounds());
    let events = events.iter().map(|event| (event, None));
    let sorted = sort(events, route, bounds, now_ms, turn, stamp);
    let (batches, places) = sorted.map_err(ProducerError::Event)?.split(topic.clone());
    let append = Append {
        topic,
        client,
        route,
        create: false,
        batches,
    };
    Ok((append, places))
}

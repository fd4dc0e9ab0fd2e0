//! An idempotent producer inside of the program: it numbers what it publishes, so that what is
//! sent again is kept once.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::{Event, Partition, Position, PublishError, TopicId, TopicName};
use tidemill_log::{BatchBuilder, batch};

use super::error::ProducerError;
use super::ids::Sequence;
use super::init::ProducerIdentity;
use crate::broker::{Broker, Inner};
use crate::encode::{Places, Sorted};
use crate::limits::PUBLISH_MAX_EVENTS;
use crate::machine::{Append, Client, Operation, Receipt};
use crate::metrics::add;

/// An idempotent producer. Publishes one after the other; see [`Broker::producer`].
#[derive(Debug)]
pub struct Producer {
    inner: Arc<Inner>,
    identity: ProducerIdentity,
    transactional: bool,
    next: HashMap<(TopicId, Partition), Sequence>,
    /// What may or may not have been kept.
    unsure: Option<Sent>,
}

/// What was numbered and sent.
#[derive(Clone, Debug)]
struct Sent {
    append: Append,
    places: Arc<Places>,
    /// What it was made of, to know the same call again.
    events: Arc<[Event]>,
    /// It was handed in at least once.
    asked: bool,
}

impl Broker {
    /// An idempotent producer with a new identity.
    ///
    /// # Errors
    /// See [`Broker::init_producer`].
    pub fn producer(&self) -> Result<Producer, ProducerError> {
        Ok(Producer {
            inner: Arc::clone(&self.inner),
            identity: self.init_producer()?,
            transactional: false,
            next: HashMap::new(),
            unsure: None,
        })
    }
}

impl Producer {
    /// One whose batches are parts of transactions.
    pub(crate) fn transactional(broker: &Broker, identity: ProducerIdentity) -> Self {
        Self {
            inner: Arc::clone(&broker.inner),
            identity,
            transactional: true,
            next: HashMap::new(),
            unsure: None,
        }
    }

    /// It goes on as this one, with its sequences from 0.
    pub(crate) fn renew(&mut self, identity: ProducerIdentity) {
        self.identity = identity;
        self.next.clear();
        self.unsure = None;
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> ProducerIdentity {
        self.identity
    }

    /// Publishes events to a topic, whole or not at all, and answers their positions when they
    /// are durable. An earlier publish that has no answer (its future was dropped, or it ended
    /// as indeterminate) is sent again before, and is kept once. Where this call is that same
    /// one, to the same topic with equal events, it is not published a second time: this answers
    /// where it is.
    ///
    /// # Errors
    /// [`ProducerError`], also of the earlier publish: then nothing of this one was done.
    /// After one that [is retriable](ProducerError::is_retriable) the same call may be made
    /// again.
    pub async fn publish(
        &mut self,
        topic: &TopicName,
        events: &[Event],
    ) -> Result<Vec<Position>, ProducerError> {
        let is_this = |sent: &Sent| sent.append.topic == *topic && *sent.events == *events;
        let again = self.unsure.as_ref().is_some_and(is_this);
        let resumed = self.resume().await?;
        if again {
            return Ok(resumed.unwrap_or_default());
        }
        if events.is_empty() {
            return Ok(Vec::new());
        }
        if events.len() > PUBLISH_MAX_EVENTS {
            let why = format!("a publish has at most {PUBLISH_MAX_EVENTS} events; send less");
            return Err(ProducerError::Event(PublishError::Other(why)));
        }
        self.unsure = Some(self.number(topic, events)?);
        Ok(self.resume().await?.unwrap_or_default())
    }

    fn number(&self, topic: &TopicName, events: &[Event]) -> Result<Sent, ProducerError> {
        let route = self.inner.durable.catalog().topic(topic);
        let route = route.ok_or_else(|| ProducerError::UnknownTopic(topic.clone()))?;
        let stamp = |partition, builder: BatchBuilder| {
            let next = self.next.get(&(route.id, partition)).copied();
            let builder = builder.producer(batch::Producer {
                id: self.identity.id.0,
                epoch: self.identity.epoch.0,
                base_sequence: next.unwrap_or_default().number(),
            });
            match self.transactional {
                true => builder.transactional(),
                false => builder,
            }
        };
        let encoded = self.inner.encode_for(topic, route, events, stamp);
        let (batches, places) = encoded.map_err(ProducerError::Event)?;
        Ok(Sent {
            append: Append {
                topic: topic.clone(),
                client: Client::Producer(self.identity.id.0),
                route,
                create: false,
                batches,
            },
            places: Arc::new(places),
            events: events.into(),
            asked: false,
        })
    }

    /// Sends the publish that has no answer once more, with the same numbers: it is kept once.
    /// Answers its positions; `None` where every publish has its answer.
    ///
    /// # Errors
    /// As [`Producer::publish`]. The publish is given up where it is certain that nothing of it
    /// was kept.
    pub async fn resume(&mut self) -> Result<Option<Vec<Position>>, ProducerError> {
        let Some(sent) = self.unsure.clone() else {
            return Ok(None);
        };
        if let Some(unsure) = &mut self.unsure {
            unsure.asked = true;
        }
        let topic = sent.append.route.id;
        let operation = Operation::Publish(sent.append.clone());
        let bases = match self
            .inner
            .submit(operation)
            .await
            .map_err(ProducerError::from)
        {
            Ok(Receipt::Appended(bases)) => bases.into_iter().next().unwrap_or_default(),
            // It was kept, and nobody was told so.
            Ok(Receipt::Repeated(bases)) => bases,
            Ok(_) => Vec::new(),
            Err(error) => {
                let unknown = match &error {
                    ProducerError::Indeterminate(_) => true,
                    // Not done this time; the time before may have been.
                    ProducerError::Unavailable(_) => sent.asked,
                    _ => false,
                };
                if !unknown {
                    // Nothing was kept, and the numbers are free again.
                    self.unsure = None;
                }
                return Err(error);
            }
        };
        self.unsure = None;
        let counters = &self.inner.counters;
        add(&counters.published_events, sent.events.len());
        let bytes = sent.events.iter().map(Event::size_bytes).sum();
        add(&counters.published_bytes, bytes);
        self.inner.seen.note(&sent.append.topic, &sent.events);
        for (partition, batch) in &sent.append.batches {
            let next = self.next.entry((topic, *partition)).or_default();
            *next = next.plus(batch.record_count());
        }
        Ok(Some(Sorted::positions(&sent.places, &bases).collect()))
    }
}

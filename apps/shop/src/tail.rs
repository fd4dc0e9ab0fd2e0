//! Follows a topic outside of any group: what the HTTP door and the demo hear. Knows nothing of
//! what the events mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill::core::bus::Watch;
use tidemill::core::error::Unavailable;
use tidemill::core::{Advanced, Fetch, FetchError, Offset, Partition};
use tidemill::{Bus, Event, TopicName};

use crate::limits::{FETCH_MAX_BYTES, FETCH_MAX_EVENTS, READ_AGAIN_AFTER};

/// A reader of everything that comes to one topic.
pub struct Tail {
    bus: Bus,
    topic: TopicName,
    watch: Box<dyn Watch>,
    /// Per partition: where to read on, and the newest end heard of.
    places: BTreeMap<Partition, (Offset, Offset)>,
}

impl Tail {
    /// Begins with the first event that becomes durable after this call. The topic need not
    /// exist yet.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn at_end(bus: &Bus, topic: TopicName) -> Result<Self, FetchError> {
        Self::before_end(bus, topic, 0).await
    }

    /// Begins in each partition with so many of the last events that are there, or fewer.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn before_end(bus: &Bus, topic: TopicName, events: u64) -> Result<Self, FetchError> {
        // In this order: what comes between the two is both told and in the bounds.
        let watch = bus.watch()?;
        let places = bounds(bus, &topic)
            .await?
            .into_iter()
            .map(|(partition, (earliest, end))| {
                let begin = Offset(end.0.saturating_sub(events)).max(earliest);
                (partition, (begin, end))
            })
            .collect();
        Ok(Self {
            bus: bus.clone(),
            topic,
            watch,
            places,
        })
    }

    /// Waits for events and gives some of them, per partition in their order. What passes is
    /// waited for; what cannot be read any more is told and passed over.
    ///
    /// # Errors
    /// The bus is closed: nothing more comes.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, FetchError> {
        loop {
            while let Some((partition, next)) = self.behind() {
                match fetch(&self.bus, &self.topic, partition, next).await {
                    Ok((next, events)) => {
                        self.go_on(partition, next);
                        if !events.is_empty() {
                            return Ok(events);
                        }
                    }
                    Err(error) => self.meet(partition, error).await?,
                }
            }
            match self.watch.next().await {
                Ok(all) => all.into_iter().for_each(|advanced| self.hear(advanced)),
                Err(error) => wait(&self.topic, error).await?,
            }
        }
    }

    /// A partition with events that are not read yet, and where they begin.
    fn behind(&self) -> Option<(Partition, Offset)> {
        let mut places = self.places.iter();
        let found = places.find(|(_, (next, end))| next < end);
        found.map(|(partition, (next, _))| (*partition, *next))
    }

    fn go_on(&mut self, partition: Partition, at: Offset) {
        if let Some((next, _)) = self.places.get_mut(&partition) {
            *next = at;
        }
    }

    fn hear(&mut self, advanced: Advanced) {
        if advanced.topic == self.topic {
            let begin = (Offset(0), advanced.end);
            let place = self.places.entry(advanced.partition).or_insert(begin);
            place.1 = place.1.max(advanced.end);
        }
    }

    /// A partition could not be read.
    async fn meet(&mut self, partition: Partition, error: FetchError) -> Result<(), FetchError> {
        let topic = &self.topic;
        match error {
            FetchError::Damaged { resume, .. } => {
                tracing::warn!(%topic, %partition, %error, "passed what cannot be read");
                self.go_on(partition, resume);
            }
            FetchError::OutOfRange { earliest, end, .. } => {
                tracing::warn!(%topic, %partition, %error, "passed what is not kept");
                self.places.insert(partition, (earliest, end));
            }
            FetchError::UnknownTopic(_) | FetchError::UnknownPartition { .. } => {
                tracing::warn!(%topic, %partition, %error, "waits for the topic to come again");
                self.places.remove(&partition);
            }
            error => wait(topic, error).await?,
        }
        Ok(())
    }
}

/// Waits before the same is tried again.
async fn wait(topic: &TopicName, error: FetchError) -> Result<(), FetchError> {
    if error == FetchError::Unavailable(Unavailable::Closed) {
        return Err(error);
    }
    tracing::warn!(%topic, %error, "reading is delayed");
    tokio::time::sleep(READ_AGAIN_AFTER).await;
    Ok(())
}

/// Reads all that a topic holds now, oldest first per partition; nothing if there is none.
///
/// # Errors
/// See [`FetchError`].
pub async fn read_all(
    bus: &Bus,
    topic: &TopicName,
    mut each: impl FnMut(&Event),
) -> Result<(), FetchError> {
    for (partition, (mut next, end)) in bounds(bus, topic).await? {
        while next < end {
            let (further, events) = fetch(bus, topic, partition, next).await?;
            events.iter().for_each(|event| each(event));
            if further <= next {
                break;
            }
            next = further;
        }
    }
    Ok(())
}

async fn bounds(
    bus: &Bus,
    topic: &TopicName,
) -> Result<BTreeMap<Partition, (Offset, Offset)>, FetchError> {
    let topics = bus.topics().await?;
    let found = topics.into_iter().find(|bounds| bounds.topic == *topic);
    let partitions = found.map(|bounds| bounds.partitions).unwrap_or_default();
    Ok(partitions
        .into_iter()
        .map(|p| (p.partition, (p.earliest, p.end)))
        .collect())
}

async fn fetch(
    bus: &Bus,
    topic: &TopicName,
    partition: Partition,
    offset: Offset,
) -> Result<(Offset, Vec<Arc<Event>>), FetchError> {
    let fetched = bus
        .fetch(Fetch {
            topic: topic.clone(),
            partition,
            offset,
            max_events: FETCH_MAX_EVENTS,
            max_bytes: FETCH_MAX_BYTES,
            wait: Duration::ZERO,
        })
        .await?;
    let events = fetched.events.into_iter().map(|(_, event)| event).collect();
    Ok((fetched.next, events))
}

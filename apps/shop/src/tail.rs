//! Follows a topic outside of any group: what the HTTP door and the demo hear. Knows nothing of
//! what the events mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill::core::bus::Watch;
use tidemill::core::{Fetch, FetchError, Offset, Partition};
use tidemill::{Bus, Event, TopicName};

use crate::limits::{FETCH_MAX_BYTES, FETCH_MAX_EVENTS};

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
        // In this order: what comes between the two is both told and in the bounds.
        let watch = bus.watch()?;
        let places = bounds(bus, &topic)
            .await?
            .into_iter()
            .map(|(partition, (_, end))| (partition, (end, end)))
            .collect();
        Ok(Self {
            bus: bus.clone(),
            topic,
            watch,
            places,
        })
    }

    /// Waits for events and gives some of them, per partition in their order.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, FetchError> {
        loop {
            for (partition, (next, end)) in &mut self.places {
                if *next < *end {
                    let fetched = fetch(&self.bus, &self.topic, *partition, *next).await?;
                    *next = fetched.0;
                    if !fetched.1.is_empty() {
                        return Ok(fetched.1);
                    }
                }
            }
            for advanced in self.watch.next().await? {
                if advanced.topic == self.topic {
                    let begin = (Offset(0), advanced.end);
                    let place = self.places.entry(advanced.partition).or_insert(begin);
                    place.1 = place.1.max(advanced.end);
                }
            }
        }
    }
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

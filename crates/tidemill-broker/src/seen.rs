//! Which sources published which types to which topics and queues, as far as this process saw it:
//! for people who look at what goes where. In memory alone, bounded, and cheap for who publishes:
//! a publish looks once at each run of events that are alike.
//!
//! This room may not know what is made of it, and nothing depends on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use tidemill_core::{Event, TopicName};

use crate::broker::Broker;
use crate::limits::{SEEN_PAIRS_MAX, SEEN_RUNS_MAX, SEEN_TEXT_MAX_BYTES, SEEN_TOPICS_MAX};

/// A source that published events of a type to a topic or queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenTraffic {
    /// The topic or queue.
    pub topic: TopicName,
    /// The events' source, cut to 256 bytes.
    pub source: Box<str>,
    /// Their type, cut alike.
    pub ty: Box<str>,
    /// How many there were. Of a publish of many different events the first ones are counted.
    pub events: u64,
    /// When the last of them was published.
    pub last: Timestamp,
}

/// All that was seen. Publishes to different topics do not wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Seen(RwLock<HashMap<TopicName, Arc<Mutex<OfTopic>>>>);

#[derive(Debug, Default)]
struct OfTopic {
    pairs: Vec<Pair>,
    /// The place of the last one: most publishes are like the one before.
    recent: usize,
}

#[derive(Debug)]
struct Pair {
    source: Box<str>,
    ty: Box<str>,
    events: u64,
    last: Timestamp,
}

impl Pair {
    fn is(&self, source: &str, ty: &str) -> bool {
        *self.source == *source && *self.ty == *ty
    }
}

fn lock(of_topic: &Mutex<OfTopic>) -> MutexGuard<'_, OfTopic> {
    of_topic.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// These events were published to `topic`.
    pub(crate) fn note(&self, topic: &TopicName, events: &[Event]) {
        let Some(first) = events.first() else { return };
        let of_topic = self.of(topic);
        let mut of_topic = lock(&of_topic);
        let now = Timestamp::now();
        let (mut run, mut count, mut runs) = (first, 0, 1);
        for event in events {
            if event.source() != run.source() || event.ty() != run.ty() {
                of_topic.add(run, count, now);
                (run, count, runs) = (event, 0, runs + 1);
                if runs > SEEN_RUNS_MAX {
                    return;
                }
            }
            count += 1;
        }
        of_topic.add(run, count, now);
    }

    fn of(&self, topic: &TopicName) -> Arc<Mutex<OfTopic>> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get(topic) {
            return Arc::clone(known);
        }
        drop(topics);
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if topics.len() >= SEEN_TOPICS_MAX && !topics.contains_key(topic) {
            let oldest = topics
                .iter()
                .min_by_key(|(_, of_topic)| lock(of_topic).last());
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                topics.remove(&name);
            }
        }
        // Copied: the name may share a whole request's bytes.
        Arc::clone(topics.entry(copied(topic)).or_default())
    }

    fn list(&self) -> Vec<SeenTraffic> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let topics: Vec<_> = topics
            .iter()
            .map(|(name, of_topic)| (name.clone(), Arc::clone(of_topic)))
            .collect();
        let mut all = Vec::new();
        for (topic, of_topic) in topics {
            let of_topic = lock(&of_topic);
            all.extend(of_topic.pairs.iter().map(|pair| SeenTraffic {
                topic: topic.clone(),
                source: pair.source.clone(),
                ty: pair.ty.clone(),
                events: pair.events,
                last: pair.last,
            }));
        }
        all.sort_by(|a, b| (&a.topic, &a.source, &a.ty).cmp(&(&b.topic, &b.source, &b.ty)));
        all
    }
}

fn copied(topic: &TopicName) -> TopicName {
    TopicName::new(topic.to_string()).expect("it was a topic's name")
}

impl OfTopic {
    fn last(&self) -> Option<Timestamp> {
        self.pairs.iter().map(|pair| pair.last).max()
    }

    fn add(&mut self, event: &Event, count: u64, now: Timestamp) {
        let (source, ty) = (cut(event.source().as_str()), cut(event.ty().as_str()));
        let recent = self.pairs.get(self.recent);
        if recent.is_none_or(|pair| !pair.is(source, ty)) {
            self.recent = self.place(source, ty, now);
        }
        if let Some(pair) = self.pairs.get_mut(self.recent) {
            pair.events += count;
            pair.last = now;
        }
    }

    /// The place of a pair; that of the one that was seen longest ago where all are taken.
    fn place(&mut self, source: &str, ty: &str, now: Timestamp) -> usize {
        if let Some(at) = self.pairs.iter().position(|pair| pair.is(source, ty)) {
            return at;
        }
        let new = Pair {
            source: source.into(),
            ty: ty.into(),
            events: 0,
            last: now,
        };
        if self.pairs.len() < SEEN_PAIRS_MAX {
            self.pairs.push(new);
            return self.pairs.len() - 1;
        }
        let pairs = self.pairs.iter().enumerate();
        let oldest = pairs.min_by_key(|(_, pair)| pair.last);
        let at = oldest.map_or(0, |(at, _)| at);
        if let Some(pair) = self.pairs.get_mut(at) {
            *pair = new;
        }
        at
    }
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(SEEN_TEXT_MAX_BYTES);
    text.get(..end).unwrap_or(text)
}

impl Broker {
    /// Which sources published which types to which topics and queues since the broker was
    /// opened, sorted by topic, source and type; batches of producers whose records are taken as
    /// they are ([`Broker::produce`]) are not looked into. Of a topic the 32 pairs that were seen
    /// last are known, and the 256 topics that were written to last.
    #[must_use]
    pub fn seen_traffic(&self) -> Vec<SeenTraffic> {
        self.inner.seen.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::{EventId, EventType, Source};

    fn event(source: &str, ty: &str) -> Event {
        let id = EventId::new("1").unwrap();
        let source = Source::new(source.to_owned()).unwrap();
        let ty = EventType::new(ty.to_owned()).unwrap();
        Event::builder(id, source, ty).build().unwrap()
    }

    fn topic(name: &str) -> TopicName {
        TopicName::new(name.to_owned()).unwrap()
    }

    #[test]
    fn runs_of_like_events_are_counted_for_their_pairs() {
        let seen = Seen::default();
        let (a, b) = (event("/a", "x"), event("/b", "x"));
        seen.note(&topic("t"), &[a.clone(), a.clone(), b, a.clone()]);
        seen.note(&topic("t"), &[a]);
        seen.note(&topic("t"), &[]);
        let listed = seen.list();
        let counts: Vec<_> = listed
            .iter()
            .map(|one| (&*one.source, one.events))
            .collect();
        assert_eq!(counts, [("/a", 4), ("/b", 1)]);
    }

    #[test]
    fn pairs_topics_runs_and_texts_are_bounded_and_the_newest_stay() {
        let seen = Seen::default();
        let long = format!("/{}", "ä".repeat(SEEN_TEXT_MAX_BYTES));
        seen.note(&topic("t"), &[event(&long, "x")]);
        assert!(seen.list()[0].source.len() <= SEEN_TEXT_MAX_BYTES);
        for n in 0..2 * SEEN_PAIRS_MAX {
            seen.note(&topic("t"), &[event(&format!("/{n}"), "x")]);
        }
        let listed = seen.list();
        assert_eq!(listed.len(), SEEN_PAIRS_MAX);
        let newest = format!("/{}", 2 * SEEN_PAIRS_MAX - 1);
        assert!(listed.iter().any(|one| *one.source == *newest));
        let many: Vec<_> = (0..1000).map(|n| event("/s", &n.to_string())).collect();
        seen.note(&topic("u"), &many);
        let of_u = seen
            .list()
            .into_iter()
            .filter(|one| one.topic == topic("u"));
        assert_eq!(of_u.count(), SEEN_RUNS_MAX);
        for n in 0..2 * SEEN_TOPICS_MAX {
            seen.note(&topic(&format!("n{n}")), &[event("/s", "x")]);
        }
        assert_eq!(seen.0.read().unwrap().len(), SEEN_TOPICS_MAX);
    }
}

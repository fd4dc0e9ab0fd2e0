//! The messages of a queue that is kept in memory alone. Pure but for the memory that it takes
//! from the broker's budget; it may not know leases, or who waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidemill_core::budget::{Budget, Class, Share};
use tidemill_core::{Event, Offset};

use super::info::QueueMessage;
use crate::limits::{EVENT_MEMORY_BYTES, QUEUE_IN_FLIGHT_MAX};

/// One message.
#[derive(Debug)]
struct Message {
    event: Arc<Event>,
    /// How many times it was given out.
    deliveries: u32,
    /// When it came, in milliseconds since 1970.
    came_ms: i64,
    share: Share,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MemoryStore {
    ready: BTreeMap<Offset, Message>,
    held: BTreeMap<Offset, Message>,
    /// Those of them that nobody is to get any more: they have no place in flight.
    aside: BTreeSet<Offset>,
    next: Offset,
    /// What it has of the budget.
    bytes: usize,
}

/// There is no room for so many bytes more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom(pub(super) usize);

impl MemoryStore {
    /// Takes all of these, or none. Answers the first one's offset.
    pub(super) fn push(
        &mut self,
        budget: &Budget,
        events: Vec<Event>,
        now_ms: i64,
    ) -> Result<Offset, NoRoom> {
        let bytes = |event: &Event| event.size_bytes() + EVENT_MEMORY_BYTES;
        let mut messages = Vec::with_capacity(events.len());
        for event in &events {
            let share = budget.take(Class::Queues, bytes(event));
            let Some(share) = share else {
                return Err(NoRoom(events.iter().map(bytes).sum()));
            };
            messages.push(Message {
                // It is kept for long, and came with others.
                event: Arc::new(event.detached()),
                deliveries: 0,
                came_ms: now_ms,
                share,
            });
        }
        let first = self.next;
        for message in messages {
            self.bytes += message.share.bytes();
            self.ready.insert(self.next, message);
            self.next = self.next.next();
        }
        Ok(first)
    }

    /// Takes one in that nobody is given before it is given back.
    pub(super) fn push_held(
        &mut self,
        budget: &Budget,
        event: Event,
        now_ms: i64,
    ) -> Result<Offset, NoRoom> {
        let offset = self.push(budget, vec![event], now_ms)?;
        if let Some(message) = self.ready.remove(&offset) {
            self.held.insert(offset, message);
        }
        Ok(offset)
    }

    /// Gives out up to `max` messages, oldest first, each with how many times it was given out.
    pub(super) fn take(&mut self, max: usize) -> Vec<(QueueMessage, u32)> {
        let max = max.min(QUEUE_IN_FLIGHT_MAX.saturating_sub(self.in_flight()));
        let mut taken = Vec::with_capacity(max.min(self.ready.len()));
        while taken.len() < max
            && let Some((offset, mut message)) = self.ready.pop_first()
        {
            message.deliveries = message.deliveries.saturating_add(1);
            taken.push((shown(offset, &message), message.deliveries));
            self.held.insert(offset, message);
        }
        taken
    }

    /// How many places in flight are taken.
    fn in_flight(&self) -> usize {
        self.held.len() - self.aside.len()
    }

    /// One that was given out is nobody's until it is settled, and leaves its place in flight.
    pub(super) fn put_aside(&mut self, offset: Offset) {
        if self.held.contains_key(&offset) {
            self.aside.insert(offset);
        }
    }

    /// Puts the oldest one aside that nobody has, where it is one that `may` be, also where no
    /// more can be in flight. Answers as [`MemoryStore::take`].
    pub(super) fn take_aside(
        &mut self,
        may: impl Fn(&Event) -> bool,
    ) -> Option<(QueueMessage, u32)> {
        let first = self.ready.first_entry()?;
        if !may(&first.get().event) {
            return None;
        }
        let (offset, mut message) = first.remove_entry();
        message.deliveries = message.deliveries.saturating_add(1);
        let taken = (shown(offset, &message), message.deliveries);
        self.held.insert(offset, message);
        self.aside.insert(offset);
        Some(taken)
    }

    /// The oldest one that nobody has.
    pub(super) fn first(&self) -> Option<Arc<Event>> {
        let (_, message) = self.ready.first_key_value()?;
        Some(Arc::clone(&message.event))
    }

    /// One that was given out is done with.
    pub(super) fn settle(&mut self, offset: Offset) -> Option<Arc<Event>> {
        let message = self.held.remove(&offset)?;
        self.aside.remove(&offset);
        self.bytes -= message.share.bytes();
        Some(message.event)
    }

    /// One that was given out waits again, at its old place.
    pub(super) fn give_back(&mut self, offset: Offset) {
        if let Some(message) = self.held.remove(&offset) {
            self.aside.remove(&offset);
            self.ready.insert(offset, message);
        }
    }

    /// The event of one that was given out.
    pub(super) fn held(&self, offset: Offset) -> Option<Arc<Event>> {
        self.held.get(&offset).map(|message| message.event.clone())
    }

    /// The oldest messages that nobody has, of those that are to be shown.
    pub(super) fn peek(&self, max: usize, is: impl Fn(&Event) -> bool) -> Vec<QueueMessage> {
        let oldest = self.ready.iter().filter(|(_, message)| is(&message.event));
        oldest
            .take(max)
            .map(|(offset, message)| shown(*offset, message))
            .collect()
    }

    /// Why nothing is given out although there is something.
    pub(super) fn paused(&self) -> Option<String> {
        let full = self.in_flight() >= QUEUE_IN_FLIGHT_MAX && !self.ready.is_empty();
        full.then(|| {
            format!(
                "{QUEUE_IN_FLIGHT_MAX} messages are in flight; it goes on when one is settled or \
                 given back"
            )
        })
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.held.len()
    }

    /// When the oldest one came.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let first = |messages: &BTreeMap<Offset, Message>| {
            let (offset, message) = messages.first_key_value()?;
            Some((*offset, message.came_ms))
        };
        let oldest = first(&self.ready).into_iter().chain(first(&self.held));
        oldest.min().map(|(_, came_ms)| came_ms)
    }

    /// Bytes that it has of the budget.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn shown(offset: Offset, message: &Message) -> QueueMessage {
    QueueMessage {
        offset,
        event: Arc::clone(&message.event),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::limits::MEMORY_MIN_BYTES;
    use tidemill_core::{EventId, EventType, Source};

    use super::*;

    fn events(count: usize, bytes: usize) -> Vec<Event> {
        let event = |number: usize| {
            let id = EventId::new(number.to_string()).unwrap();
            let source = Source::new("/test").unwrap();
            let builder = Event::builder(id, source, EventType::new("made").unwrap());
            builder
                .data("text/plain", vec![b'x'; bytes])
                .build()
                .unwrap()
        };
        (0..count).map(event).collect()
    }

    fn offsets(taken: &[(QueueMessage, u32)]) -> Vec<(u64, u32)> {
        let offset = |(message, deliveries): &(QueueMessage, u32)| (message.offset.0, *deliveries);
        taken.iter().map(offset).collect()
    }

    #[test]
    fn what_comes_back_goes_to_its_old_place_and_is_counted() {
        let (mut store, budget) = (MemoryStore::default(), Budget::default());
        assert_eq!(store.push(&budget, events(4, 1), 10), Ok(Offset(0)));
        assert_eq!(offsets(&store.take(3)), [(0, 1), (1, 1), (2, 1)]);
        store.give_back(Offset(1));
        assert_eq!(store.push(&budget, events(1, 1), 20), Ok(Offset(4)));
        assert_eq!(store.peek(9, |_| true).len(), 3);
        assert_eq!((store.len(), store.oldest_ms()), (5, Some(10)));
        assert_eq!(offsets(&store.take(9)), [(1, 2), (3, 1), (4, 1)]);
        for offset in 0..5 {
            assert!(store.settle(Offset(offset)).is_some());
            assert!(store.settle(Offset(offset)).is_none(), "once");
            store.give_back(Offset(offset));
        }
        assert_eq!(
            (store.len(), store.bytes(), store.oldest_ms()),
            (0, 0, None)
        );
        assert_eq!(budget.used(Class::Queues), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_and_what_is_settled_makes_room() {
        let (mut store, budget) = (MemoryStore::default(), Budget::new(MEMORY_MIN_BYTES));
        let piece = budget.max(Class::Queues) / 4;
        store.push(&budget, events(2, piece), 0).unwrap();
        let before = (store.len(), budget.used(Class::Queues));
        assert!(store.push(&budget, events(3, piece), 0).is_err());
        assert_eq!((store.len(), budget.used(Class::Queues)), before);
        store.take(1);
        store.settle(Offset(0));
        assert_eq!(store.push(&budget, events(2, piece), 0), Ok(Offset(2)));
    }

    #[test]
    fn no_more_is_in_flight_than_may_be() {
        let (mut store, budget) = (MemoryStore::default(), Budget::default());
        store
            .push(&budget, events(QUEUE_IN_FLIGHT_MAX + 1, 0), 0)
            .unwrap();
        assert_eq!(store.paused(), None);
        assert_eq!(store.take(usize::MAX).len(), QUEUE_IN_FLIGHT_MAX);
        assert_eq!(store.take(1).len(), 0);
        assert!(store.paused().is_some());
        // What is put aside has no place in flight, and needs none.
        store.put_aside(Offset(6));
        assert_eq!(
            (store.paused(), store.in_flight()),
            (None, QUEUE_IN_FLIGHT_MAX - 1)
        );
        store.give_back(Offset(6));
        assert_eq!(store.take(1).len(), 1);
        assert!(store.take_aside(|_| false).is_none());
        assert_eq!(
            store.take_aside(|_| true).unwrap().0.offset.0 as usize,
            QUEUE_IN_FLIGHT_MAX
        );
        assert_eq!(store.in_flight(), QUEUE_IN_FLIGHT_MAX);
        store.give_back(Offset(QUEUE_IN_FLIGHT_MAX as u64));
        assert_eq!(
            (store.in_flight(), store.ready.len()),
            (QUEUE_IN_FLIGHT_MAX, 1)
        );
        store.settle(Offset(7));
        assert_eq!(store.paused(), None);
        assert_eq!(store.take(2).len(), 1);
        assert_eq!(store.paused(), None, "nothing waits");
    }
}

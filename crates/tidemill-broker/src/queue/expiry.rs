//! How long messages are good for: the attribute that says it, what a queue says of all of its
//! own, and the one timer of a queue that puts away what has expired at its head.
//!
//! The time is a date, as other programs read it: the attribute `expirytime` of CloudEvents. This
//! room may not know where messages are kept.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::{Event, ExtensionValue, Fetch, InvalidEvent, PublishError, TopicId, TopicName};
use tidemill_log::PartitionId;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::QueueError;
use super::dead::{Why, bury_in_time};
use super::live::{Held, Live, Store};
use super::store::locked;
use crate::broker::Inner;
use crate::fetch;
use crate::limits::{EXPIRED_UNDER_WAY_MAX, EXPIRY_LOOK_AGAIN, EXPIRY_LOOK_MAX, QUEUE_TTL_MAX};

/// The attribute of a message that is good for a time: until when, as RFC 3339.
pub const EXPIRY: &str = "expirytime";

/// Until when a message is good; `None`: for ever. What is no time says nothing.
pub(super) fn expiry(event: &Event) -> Option<Timestamp> {
    event.extension_str(EXPIRY)?.parse().ok()
}

/// Whether a message is not good any longer.
pub(super) fn is_over(event: &Event, now: Timestamp) -> bool {
    expiry(event).is_some_and(|until| until <= now)
}

/// A message that is good for no longer than `ttl`; one that says less of itself stays as it is.
///
/// # Errors
/// It says of itself what is no time.
pub(super) fn within(
    event: Event,
    ttl: Option<Duration>,
    now: Timestamp,
) -> Result<Event, QueueError> {
    let own = expiry(&event);
    if own.is_none() && event.extension(EXPIRY).is_some() {
        let why = "it is a text that says a time, as in \"2026-01-31T12:00:00Z\", before \
                   9999-12-30T22:00:01Z; leave it out where the message is good for ever";
        return Err(PublishError::Invalid(InvalidEvent::attribute(EXPIRY, why)).into());
    }
    let until = ttl.map(|ttl| now.saturating_add(ttl).unwrap_or(Timestamp::MAX));
    match until.filter(|until| own.is_none_or(|own| *until < own)) {
        None => Ok(event),
        Some(until) => {
            let until = ExtensionValue::String(until.to_string().into());
            let event = event.to_builder().extension(EXPIRY, until).build();
            Ok(event.map_err(PublishError::Invalid)?)
        }
    }
}

/// A message as it is given back to a queue. A date that is over goes, whoever set it, as nobody
/// would get the message else, and so does what is no date, which was not always refused; one that
/// is not over stays. The queue's time begins anew, and the sooner of the two counts.
///
/// # Errors
/// It would be none without its date, which cannot be.
pub(super) fn anew(
    event: Event,
    ttl: Option<Duration>,
    now: Timestamp,
) -> Result<Event, QueueError> {
    let stays = expiry(&event).is_some_and(|until| until > now);
    let event = match stays || event.extension(EXPIRY).is_none() {
        true => event,
        false => {
            let event = event.to_builder().without_extension(EXPIRY).build();
            event.map_err(PublishError::Invalid)?
        }
    };
    within(event, ttl, now)
}

/// A time for which messages may be good.
///
/// # Errors
/// [`QueueError::Limit`] where none can be good for that.
pub(super) fn checked(ttl: Duration) -> Result<Duration, QueueError> {
    let ttl = Duration::from_millis(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    if ttl.is_zero() || ttl > QUEUE_TTL_MAX {
        let max_ms = QUEUE_TTL_MAX.as_millis();
        let why = format!("messages are good for 1 to {max_ms} ms; leave it out for ever");
        return Err(QueueError::Limit(why));
    }
    Ok(ttl)
}

/// Expired messages of a queue that are given out to nobody and not put away yet.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Each with how often it was given out before.
    waiting: VecDeque<(Held, u32, Why)>,
    /// How many are being put away, or tried again.
    under_way: usize,
}

impl Live {
    /// Messages of this queue may expire: from now on its timer runs.
    pub(super) fn expires(self: &Arc<Self>, inner: &Arc<Inner>) {
        // Without a runtime nothing runs; whoever takes messages has one.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.expiring.swap(true, Ordering::AcqRel) {
            let (inner, live) = (Arc::downgrade(inner), Arc::downgrade(self));
            runtime.spawn(watch_expiry(inner, live));
        }
    }

    /// The head of the queue may be another one.
    pub(super) fn head_changed(&self) {
        if self.expiring.load(Ordering::Acquire) {
            self.head.notify_one();
        }
    }

    /// Puts away what has expired at the head; answers when there is something to look at again.
    fn expire(self: &Arc<Self>, inner: &Arc<Inner>) -> Duration {
        let now = Timestamp::now();
        while let Some(given) = self.take_over(inner, now) {
            let until = expiry(&given.message.event).unwrap_or(now);
            let before = given.deliveries.saturating_sub(1);
            self.put_away(inner, given.held, before, until);
        }
        let Some(head) = self.first() else {
            // What is there and not read yet, as there is no room for it, has no waker here.
            return match self.waiting(inner) {
                0 => EXPIRY_LOOK_MAX,
                _ => EXPIRY_LOOK_AGAIN,
            };
        };
        // Who waits may have heard of it while this looked.
        self.notify.notify_one();
        wait_for(expiry(&head), now)
    }

    /// Puts a message away that has expired: to the dead letters, or it is settled. Where many wait
    /// for that, or it does not succeed, it waits aside.
    pub(super) fn put_away(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        held: Held,
        deliveries: u32,
        until: Timestamp,
    ) {
        if let (Store::Memory(store), Held::Memory(offset)) = (&self.store, &held) {
            locked(store).put_aside(*offset);
        }
        let mut aside = self.aside();
        aside
            .waiting
            .push_back((held, deliveries, Why::Expired(until)));
        if aside.under_way < EXPIRED_UNDER_WAY_MAX {
            aside.under_way += 1;
            tokio::spawn(bury_all(Arc::downgrade(inner), Arc::downgrade(self)));
        }
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one who buries is to bury next; without anything it ends.
    fn next_aside(&self) -> Option<(Held, u32, Why)> {
        let mut aside = self.aside();
        let next = aside.waiting.pop_front();
        if next.is_none() {
            aside.under_way -= 1;
        }
        next
    }
}

impl Inner {
    /// Queues whose messages expire are in use from the beginning, so that they do: those that say
    /// so of all of theirs at once, and others once the message at their head was looked at.
    pub(crate) fn open_queues_that_expire(self: &Arc<Self>) {
        let state = self.durable.state();
        let all = state.queues.iter();
        let (always, perhaps): (Vec<_>, Vec<_>) = all
            .map(|(id, of)| (*id, of.settings.ttl.is_some()))
            .partition(|(_, always)| *always);
        drop(state);
        let catalog = self.durable.catalog();
        for name in always.into_iter().filter_map(|(id, _)| catalog.name(id)) {
            // What cannot be opened now says why when somebody uses it.
            let _ = self.queue(name);
        }
        if let Ok(runtime) = Handle::try_current()
            && !perhaps.is_empty()
        {
            let ids = perhaps.into_iter().map(|(id, _)| id).collect();
            runtime.spawn(open_by_head(Arc::downgrade(self), ids));
        }
    }

    /// Whether the oldest message that is not settled may expire, or cannot be looked at now.
    async fn head_expires(&self, name: &TopicName, id: PartitionId) -> bool {
        let head = {
            let state = self.durable.state();
            let cursor = state.queue_cursor(id);
            cursor.map(|cursor| cursor.next_unsettled(cursor.position()))
        };
        let (Some(head), Some(stable)) = (head, self.stable(id)) else {
            return false;
        };
        let offset = head.max(stable.earliest);
        if offset >= stable.end {
            return false;
        }
        let wanted = Fetch {
            topic: name.clone(),
            partition: id.partition,
            offset,
            max_events: 1,
            max_bytes: 1,
            wait: Duration::ZERO,
        };
        let read = fetch::read(self, id, &wanted).await;
        let head = read.map(|read| read.events.into_iter().next());
        head.is_err()
            || head.is_ok_and(|head| head.is_none_or(|(_, event)| expiry(&event).is_some()))
    }
}

/// Opens those of the queues at whose head is a message that expires, one after the other: what
/// is behind another message is seen once somebody uses the queue.
async fn open_by_head(inner: Weak<Inner>, ids: Vec<TopicId>) {
    for id in ids {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        if inner.closed.load(Ordering::Acquire) {
            return;
        }
        let catalog = inner.durable.catalog();
        let name = catalog.name(id).cloned();
        let topic = name.as_ref().and_then(|name| catalog.topic(name));
        let (Some(name), Some(topic)) = (name, topic) else {
            continue;
        };
        for id in topic.partition_ids() {
            if inner.head_expires(&name, id).await {
                // What cannot be opened now says why when somebody uses it.
                let _ = inner.queue(&name);
            }
        }
    }
}

/// How long a queue's timer waits for a head that is good until then.
fn wait_for(until: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(until) = until else {
        return EXPIRY_LOOK_MAX;
    };
    // It is over, and could not be taken just now.
    if until <= now {
        return EXPIRY_LOOK_AGAIN;
    }
    let left = Duration::try_from(until.duration_since(now));
    // Dates may jump.
    left.unwrap_or(EXPIRY_LOOK_MAX).min(EXPIRY_LOOK_MAX)
}

/// Buries what has expired, one after the other, until nothing waits for that.
async fn bury_all(inner: Weak<Inner>, live: Weak<Live>) {
    loop {
        let (Some(inner), Some(live)) = (inner.upgrade(), live.upgrade()) else {
            return;
        };
        let Some(next) = live.next_aside() else {
            return;
        };
        bury_in_time(inner, live, next).await;
    }
}

/// The timer of one queue, as long as it and the broker are there.
async fn watch_expiry(inner: Weak<Inner>, live: Weak<Live>) {
    loop {
        let (wait, head) = {
            let (Some(inner), Some(live)) = (inner.upgrade(), live.upgrade()) else {
                return;
            };
            if inner.closed.load(Ordering::Acquire) || !inner.queues.has(&live) {
                return;
            }
            live.end_leases(&inner);
            (live.expire(&inner), Arc::clone(&live.head))
        };
        // A little later than that time, it is over.
        let wait = wait.saturating_add(Duration::from_millis(1));
        // Either way there is something to look at.
        let _ = timeout(wait, head.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::{EventId, EventType, Source};

    use super::*;

    fn event(until: Option<&str>) -> Event {
        let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
        let mut event = Event::builder(id, Source::new("/test").unwrap(), ty);
        if let Some(until) = until {
            event = event.extension(EXPIRY, ExtensionValue::String(until.into()));
        }
        event.build().unwrap()
    }

    #[test]
    fn the_sooner_of_the_messages_and_the_queues_time_counts() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let until = |own, ttl_s: Option<u64>| {
            let event = within(event(own), ttl_s.map(Duration::from_secs), now).unwrap();
            event.extension_str(EXPIRY).map(str::to_owned)
        };
        let (soon, late) = ("2026-01-31T12:00:05Z", "2026-01-31T13:00:00Z");
        assert_eq!(until(None, None), None);
        assert_eq!(until(None, Some(5)).as_deref(), Some(soon));
        assert_eq!(until(Some(late), Some(5)).as_deref(), Some(soon));
        assert_eq!(until(Some(soon), Some(9)).as_deref(), Some(soon));
        assert_eq!(until(Some(late), None).as_deref(), Some(late));
        assert!(within(event(Some("soon")), None, now).is_err());
        // As late as a time can be, and what others write for ever.
        let last = Timestamp::MAX.to_string();
        assert_eq!(until(Some(&last), None), Some(last));
        let ever = within(event(Some("9999-12-31T23:59:59Z")), None, now).unwrap_err();
        let ever = ever.to_string();
        assert!(
            ever.contains("9999-12-30T22:00:01Z; leave it out"),
            "{ever}"
        );
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_over(&event(Some(soon)), at(soon)));
        assert!(!is_over(&event(Some(soon)), now) && !is_over(&event(None), at(late)));
        let again = anew(event(Some(soon)), Some(Duration::from_secs(60)), at(late)).unwrap();
        assert_eq!(again.extension_str(EXPIRY), Some("2026-01-31T13:01:00Z"));
        let again = anew(event(Some(soon)), None, at(late)).unwrap();
        assert_eq!(again.extension_str(EXPIRY), None);
        // What is not over stays.
        let again = anew(event(Some(late)), Some(Duration::from_secs(7200)), now).unwrap();
        assert_eq!(again.extension_str(EXPIRY), Some(late));
        for no_time in [
            ExtensionValue::Integer(1_769_860_800),
            ExtensionValue::Boolean(true),
        ] {
            let event = event(None).to_builder().extension(EXPIRY, no_time).build();
            let event = event.unwrap();
            assert!(within(event.clone(), None, now).is_err());
            // One that is there from before is not refused.
            let again = anew(event, None, now).unwrap();
            assert!(again.extension(EXPIRY).is_none());
        }
    }

    #[test]
    fn a_head_that_is_over_and_stays_is_looked_at_again_soon() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let wait = |until: &str| wait_for(Some(until.parse().unwrap()), now);
        assert_eq!(wait("2026-01-31T12:00:00Z"), EXPIRY_LOOK_AGAIN);
        assert_eq!(wait("2020-01-31T12:00:00Z"), EXPIRY_LOOK_AGAIN);
        assert_eq!(wait("2026-01-31T12:00:05Z"), Duration::from_secs(5));
        assert_eq!(wait("2120-01-31T12:00:00Z"), EXPIRY_LOOK_MAX);
        assert_eq!(wait_for(None, now), EXPIRY_LOOK_MAX);
    }
}

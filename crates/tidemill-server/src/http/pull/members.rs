//! Members of groups that have no connection: all that pull the same topics for a group share one
//! member of it, which is made by the first pull and goes when nobody pulls and nothing is held.
//!
//! ```text
//! a pull ──► its turn at the member ──► deliveries under leases ──► settled, or given back
//! ```
//!
//! Knows nothing of HTTP but what went wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_core::{
    Bus, Delivery, Fetch, FetchError, GroupMember, GroupName, Offset, Order, Partition, PullError,
    Settlement, Start, Subscription, TopicName,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::leases::{Begun, Ended, Leases, millis_until};
use super::token::Token;
use crate::http::problem::{Kind, Problem};
use crate::limits::{
    PULL_HELD_MAX, PULL_IDLE, PULL_LEAST_WAIT, PULL_MAX_BYTES, PULL_MEMBER_HELD_MAX,
    PULL_MEMBERS_MAX,
};

/// What tells one member from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) group: GroupName,
    /// Sorted, each once.
    pub(super) topics: Vec<TopicName>,
    pub(super) order: Order,
}

/// What a pull asks for.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) key: Key,
    pub(super) start: Start,
    pub(super) max: usize,
    pub(super) wait: Duration,
    pub(super) lease: Duration,
}

/// The member itself, while there is one; who has it locked pulls.
type Slot = Arc<tokio::sync::Mutex<Option<Box<dyn GroupMember>>>>;

struct Member {
    key: Arc<Key>,
    slot: Slot,
    /// Pulls that have it or wait for it.
    pulling: usize,
    /// Deliveries that are held under leases, and places for more of them.
    held: usize,
    /// When the last pull ended, or the last delivery was settled.
    used: Instant,
}

impl Member {
    fn is_idle(&self) -> bool {
        self.pulling == 0 && self.held == 0
    }
}

#[derive(Default)]
struct State {
    members: HashMap<Key, Member>,
    leases: Leases,
    /// Deliveries for which a pull that is under way has places.
    reserved: usize,
    /// When the sweeper looks next.
    looks: Option<Instant>,
}

impl State {
    /// As many places as are free, `most` at most.
    fn reserve(&mut self, key: &Key, most: usize) -> usize {
        let Some(member) = self.members.get_mut(key) else {
            return 0;
        };
        let own = PULL_MEMBER_HELD_MAX.saturating_sub(member.held);
        let all = PULL_HELD_MAX.saturating_sub(self.leases.len() + self.reserved);
        let count = most.min(own).min(all);
        member.held += count;
        self.reserved += count;
        count
    }

    fn give_back(&mut self, key: &Key, count: usize) {
        self.reserved -= count;
        if let Some(member) = self.members.get_mut(key) {
            member.held = member.held.saturating_sub(count);
        }
    }
}

/// All members without a connection, and what they hold.
pub(crate) struct Pullers {
    bus: Bus,
    server: u64,
    state: Mutex<State>,
    /// The sweeper has to look earlier.
    earlier: Notify,
}

/// A delivery and the lease under which it is held.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) token: Token,
    pub(super) delivery: Delivery,
}

/// Deliveries that were pulled. Dropped before they are kept, they are given back: who asked is
/// gone.
pub(super) struct Given {
    pullers: Arc<Pullers>,
    pub(super) leased: Vec<Leased>,
    pub(super) until: Instant,
    kept: bool,
}

impl Given {
    /// They are on their way to whoever asked.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.kept {
            for leased in &self.leased {
                self.pullers.give_up(leased.token.number);
            }
        }
    }
}

/// Places for deliveries of one pull, until they are under leases or it is over.
struct Places<'a> {
    pullers: &'a Pullers,
    key: &'a Key,
    count: usize,
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.pullers.state().give_back(self.key, self.count);
    }
}

/// A pull's place at its member.
struct Seat {
    pullers: Arc<Pullers>,
    key: Arc<Key>,
    slot: Slot,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.pullers.state();
        if let Some(member) = state.members.get_mut(&*self.key) {
            member.pulling -= 1;
            member.used = Instant::now();
        }
        self.pullers.look_by(&mut state, Instant::now() + PULL_IDLE);
    }
}

impl Pullers {
    pub(crate) fn new(bus: Bus) -> Self {
        Self {
            bus,
            server: uuid::Uuid::now_v7().as_u64_pair().1,
            state: Mutex::default(),
            earlier: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_by(&self, state: &mut State, by: Instant) {
        if state.looks.is_none_or(|looks| by < looks) {
            state.looks = Some(by);
            self.earlier.notify_one();
        }
    }

    /// How many deliveries are held under leases.
    pub(crate) fn held(&self) -> usize {
        self.state().leases.len()
    }

    /// A place at the member of this key, which need not be there yet.
    fn enter(self: &Arc<Self>, key: Key) -> Result<Seat, Problem> {
        let mut state = self.state();
        if !state.members.contains_key(&key) {
            if state.members.len() >= PULL_MEMBERS_MAX {
                let detail = format!(
                    "{PULL_MEMBERS_MAX} groups and lists of topics are pulled from already; try \
                     again when some have not been for a while"
                );
                return Err(Problem::new(Kind::Overloaded, detail).retry_later());
            }
            let member = Member {
                key: Arc::new(key.clone()),
                slot: Slot::default(),
                pulling: 0,
                held: 0,
                used: Instant::now(),
            };
            state.members.insert(key.clone(), member);
        }
        let member = state.members.get_mut(&key);
        let member = member.expect("it was inserted just now where it was not there");
        member.pulling += 1;
        Ok(Seat {
            pullers: Arc::clone(self),
            key: Arc::clone(&member.key),
            slot: Arc::clone(&member.slot),
        })
    }

    /// Pulls as many deliveries as are there, `max` at most, once there is one or the time is over.
    pub(super) async fn pull(self: &Arc<Self>, pull: Pull) -> Result<Given, Problem> {
        let Pull {
            key,
            start,
            max,
            wait,
            lease,
        } = pull;
        let until = Instant::now() + wait.max(PULL_LEAST_WAIT);
        let seat = self.enter(key)?;
        let Ok(mut slot) = timeout_at(until, seat.slot.lock()).await else {
            return Ok(self.given(&seat.key, None, Vec::new(), lease));
        };
        // More of them when there is something to be had: others may wait, too.
        let places = self.room(&seat.key)?;
        let mut rejoined = slot.is_none();
        loop {
            let member = self.joined(&mut slot, &seat.key, start).await?;
            let first = match timeout(Duration::ZERO, member.pull(1)).await {
                Ok(first) => first,
                Err(_) => match timeout_at(until, member.pull(1)).await {
                    Ok(first) => first,
                    Err(_) => return Ok(self.given(&seat.key, None, Vec::new(), lease)),
                },
            };
            match first {
                Ok(first) => {
                    // Under leases at once: who asked may be gone at the next waiting.
                    let mut given = self.given(&seat.key, Some(places), first, lease);
                    self.more(member, &seat.key, &mut given, max).await;
                    return Ok(given);
                }
                // The group or a topic was deleted; this pull begins anew, once.
                Err(PullError::Gone) if !rejoined => {
                    *slot = None;
                    rejoined = true;
                }
                Err(error) => {
                    if error == PullError::Gone {
                        *slot = None;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// What is there beside the first delivery, within the bounds of an answer.
    async fn more(
        &self,
        member: &mut Box<dyn GroupMember>,
        key: &Arc<Key>,
        given: &mut Given,
        most: usize,
    ) {
        let mut bytes: usize = given.leased.iter().map(|one| size_of(&one.delivery)).sum();
        while !given.leased.is_empty() && given.leased.len() < most && bytes < PULL_MAX_BYTES {
            let have = given.leased.len();
            let fit = (PULL_MAX_BYTES - bytes) / (bytes / have).max(1);
            let credit = have.min(most - have).min(fit.max(1));
            let Some(places) = self.places(key, credit) else {
                return;
            };
            let credit = places.count;
            let Ok(Ok(pulled)) = timeout(Duration::ZERO, member.pull(credit)).await else {
                // What is wrong is told by the next pull.
                return;
            };
            bytes += pulled.iter().map(|(one, _)| size_of(one)).sum::<usize>();
            let more = self.hold(key, places, pulled, given.until);
            given.leased.extend(more);
        }
    }

    /// The member, which joins its group where it has not yet.
    async fn joined<'a>(
        &self,
        slot: &'a mut Option<Box<dyn GroupMember>>,
        key: &Key,
        start: Start,
    ) -> Result<&'a mut Box<dyn GroupMember>, Problem> {
        if slot.is_none() {
            self.dismiss(&key.group, |other| other.order != key.order);
            let subscription = Subscription {
                topics: key.topics.clone(),
                group: key.group.clone(),
                order: key.order,
                start,
            };
            self.are_there(&key.topics).await?;
            *slot = Some(self.bus.subscribe(subscription).await?);
        }
        Ok(slot.as_mut().expect("it was put there where it was not"))
    }

    /// A subscription would make the topics that are not there. Who pulls names what is.
    async fn are_there(&self, topics: &[TopicName]) -> Result<(), Problem> {
        for topic in topics {
            // Of a topic that is there, this says that nothing is kept there.
            let fetch = Fetch {
                topic: topic.clone(),
                partition: Partition(0),
                offset: Offset(u64::MAX),
                max_events: 1,
                max_bytes: 1,
                wait: Duration::ZERO,
            };
            let fetched = self.bus.fetch(fetch).await;
            if let Err(error @ (FetchError::UnknownTopic(_) | FetchError::IsQueue(_))) = fetched {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// A place for the first delivery of a pull.
    fn room<'a>(&'a self, key: &'a Key) -> Result<Places<'a>, Problem> {
        self.places(key, 1).ok_or_else(|| {
            let detail = "too many deliveries are held under leases; settle some first";
            Problem::new(Kind::Overloaded, detail).retry_later()
        })
    }

    /// Places for as many deliveries as there may be, `most` at most; `None` where there are none.
    fn places<'a>(&'a self, key: &'a Key, most: usize) -> Option<Places<'a>> {
        let count = self.state().reserve(key, most);
        (count > 0).then_some(Places {
            pullers: self,
            key,
            count,
        })
    }

    fn given(
        self: &Arc<Self>,
        key: &Arc<Key>,
        places: Option<Places<'_>>,
        pulled: Vec<(Delivery, Settlement)>,
        lease: Duration,
    ) -> Given {
        let until = Instant::now() + lease;
        Given {
            pullers: Arc::clone(self),
            leased: places.map_or_else(Vec::new, |places| self.hold(key, places, pulled, until)),
            until,
            kept: false,
        }
    }

    fn hold(
        &self,
        key: &Arc<Key>,
        mut places: Places<'_>,
        pulled: Vec<(Delivery, Settlement)>,
        until: Instant,
    ) -> Vec<Leased> {
        let mut state = self.state();
        state.give_back(key, std::mem::take(&mut places.count));
        if let Some(member) = state.members.get_mut(&**key) {
            member.held += pulled.len();
        }
        let mut leased = Vec::with_capacity(pulled.len());
        for (delivery, settlement) in pulled {
            let number = state.leases.give(key, &delivery, settlement, until);
            let token = Token {
                server: self.server,
                number,
            };
            leased.push(Leased { token, delivery });
        }
        self.look_by(&mut state, until);
        leased
    }

    /// A delivery is to be settled.
    pub(super) fn begin(&self, group: &GroupName, token: Token) -> Begun {
        if token.server != self.server {
            return Begun::Stale;
        }
        let mut state = self.state();
        state.leases.begin(group, token.number, Instant::now())
    }

    /// It was settled like this, or is nobody's any longer.
    pub(super) fn end(&self, token: Token, outcome: Option<&'static str>) {
        let mut state = self.state();
        let member = state.leases.end(token.number, outcome);
        let ended = member.map(|member| (member, None)).into_iter().collect();
        let ended = self.over(&mut state, ended);
        drop((state, ended));
    }

    /// It was not settled, and may be once more.
    pub(super) fn take_back(&self, token: Token, settlement: Settlement) {
        let mut state = self.state();
        let now = Instant::now();
        let ended = state.leases.take_back(token.number, settlement, now);
        let ended = self.over(&mut state, ended);
        if let Some(first) = state.leases.first_end() {
            self.look_by(&mut state, first);
        }
        drop(state);
        drop(ended);
    }

    /// It is held until then.
    pub(super) fn extend(&self, token: Token, settlement: Settlement, until: Instant) {
        let mut state = self.state();
        state.leases.extend(token.number, settlement, until);
        self.look_by(&mut state, until);
    }

    fn give_up(&self, number: u64) {
        let mut state = self.state();
        let ended = state.leases.give_up(number);
        let ended = self.over(&mut state, ended);
        drop(state);
        drop(ended);
    }

    /// Counts what is not held any longer. What is answered is dropped without the lock.
    fn over(&self, state: &mut State, ended: Ended) -> Ended {
        let now = Instant::now();
        for (key, _) in &ended {
            if let Some(member) = state.members.get_mut(&**key) {
                member.held -= 1;
                member.used = now;
            }
        }
        if !ended.is_empty() {
            self.look_by(state, now + PULL_IDLE);
        }
        ended
    }

    /// Lets those members of a group go that nobody pulls for and that hold nothing.
    pub(super) fn dismiss(&self, group: &GroupName, which: impl Fn(&Key) -> bool) {
        let mut gone = Vec::new();
        self.state().members.retain(|key, member| {
            let goes = key.group == *group && member.is_idle() && which(key);
            if goes {
                gone.push(Arc::clone(&member.slot));
            }
            !goes
        });
        // Leaving a group takes its lock.
        drop(gone);
    }

    /// Lets all members of a group go that nobody pulls for and that hold nothing: somebody wants
    /// the group for himself.
    pub(crate) fn dismiss_idle(&self, group: &GroupName) {
        self.dismiss(group, |_| true);
    }

    /// Ends leases whose time is over and lets members go that nobody uses. For ever.
    pub(crate) async fn run(&self) {
        loop {
            let next = self.sweep();
            tokio::select! {
                () = self.earlier.notified() => {}
                () = at(next) => {}
            }
        }
    }

    fn sweep(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        let ended = state.leases.sweep(now);
        let ended = self.over(&mut state, ended);
        let mut gone = Vec::new();
        let mut next = state.leases.first_end();
        state.members.retain(|_, member| {
            if !member.is_idle() {
                return true;
            }
            let goes = member.used + PULL_IDLE;
            if goes <= now {
                gone.push(Arc::clone(&member.slot));
                return false;
            }
            next = Some(next.map_or(goes, |next| next.min(goes)));
            true
        });
        state.looks = next;
        drop(state);
        drop((ended, gone));
        next
    }

    /// Gives everything back and leaves all groups: the server ends.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        let ended = state.leases.clear();
        let members = std::mem::take(&mut state.members);
        drop(state);
        drop((ended, members));
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn size_of(delivery: &Delivery) -> usize {
    delivery.event.size_bytes()
}

/// Milliseconds until then.
pub(super) fn left_ms(until: Instant) -> u64 {
    millis_until(until, Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_broker::Broker;
    use tidemill_core::{Event, EventId, EventType, Source};

    const LEASE: Duration = Duration::from_secs(30);

    fn pull() -> Pull {
        Pull {
            key: Key {
                group: GroupName::new("billing").unwrap(),
                topics: vec![TopicName::new("orders").unwrap()],
                order: Order::PerKey,
            },
            start: Start::Beginning,
            max: 10,
            wait: Duration::ZERO,
            lease: LEASE,
        }
    }

    async fn publish(broker: &Broker) {
        let (id, ty) = (EventId::new("1").unwrap(), EventType::new("made").unwrap());
        let event = Event::builder(id, Source::new("/test").unwrap(), ty);
        let topic = TopicName::new("orders").unwrap();
        let events = vec![event.build().unwrap()];
        broker.bus().publish(topic, events).await.unwrap();
    }

    fn members(broker: &Broker) -> usize {
        let group = broker.group(&pull().key.group);
        group.map_or(0, |group| group.members.len())
    }

    #[tokio::test]
    async fn a_member_goes_after_its_leases_when_nobody_pulls() {
        let broker = Broker::builder().in_memory(1 << 20).open().await.unwrap();
        let pullers = Arc::new(Pullers::new(broker.bus()));
        publish(&broker).await;
        let given = pullers.pull(pull()).await.unwrap();
        let token = given.leased[0].token;
        given.keep();
        tokio::time::pause();
        let settle = || pullers.begin(&pull().key.group, token);
        tokio::time::advance(LEASE - Duration::from_secs(1)).await;
        pullers.sweep();
        assert_eq!((members(&broker), pullers.held()), (1, 1));
        // It is over on the dot, and not only when it was swept.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(settle(), Begun::Stale));
        pullers.sweep();
        assert_eq!((members(&broker), pullers.held()), (1, 0));
        tokio::time::advance(PULL_IDLE).await;
        assert_eq!(pullers.sweep(), None);
        assert_eq!(members(&broker), 0);
        assert!(pullers.state().members.is_empty());
    }

    #[tokio::test]
    async fn what_nobody_gets_is_given_back_at_once() {
        let broker = Broker::builder().in_memory(1 << 20).open().await.unwrap();
        let pullers = Arc::new(Pullers::new(broker.bus()));
        publish(&broker).await;
        let given = pullers.pull(pull()).await.unwrap();
        assert_eq!((given.leased.len(), pullers.held()), (1, 1));
        drop(given);
        assert_eq!(pullers.held(), 0);
        let again = pullers.pull(pull()).await.unwrap();
        assert_eq!(again.leased[0].delivery.attempt.0, 2);
    }

    #[tokio::test]
    async fn pulls_that_are_under_way_have_places_within_the_bounds() {
        let broker = Broker::builder().in_memory(1 << 20).open().await.unwrap();
        let pullers = Arc::new(Pullers::new(broker.bus()));
        let key = |n: usize| Key {
            group: GroupName::new(format!("g{n}")).unwrap(),
            ..pull().key
        };
        let seats: Vec<_> = (0..=PULL_HELD_MAX / PULL_MEMBER_HELD_MAX)
            .map(|n| pullers.enter(key(n)).unwrap())
            .collect();
        // Nothing is under leases yet, and everything is spoken for.
        let (last, others) = seats.split_last().unwrap();
        let mut all = Vec::new();
        for seat in others {
            all.push(pullers.places(&seat.key, usize::MAX).unwrap());
            assert!(pullers.places(&seat.key, 1).is_none());
        }
        let most = |places: &Places<'_>| places.count == PULL_MEMBER_HELD_MAX;
        assert!(all.iter().all(most));
        let refused = pullers.room(&last.key).err().unwrap();
        assert_eq!((refused.kind(), pullers.held()), (Kind::Overloaded, 0));
        publish(&broker).await;
        assert!(pullers.pull(pull()).await.is_err());
        all.pop();
        let given = pullers.pull(pull()).await.unwrap();
        assert_eq!((given.leased.len(), pullers.held()), (1, 1));
        let free = pullers.places(&last.key, usize::MAX).unwrap().count;
        assert_eq!(free, PULL_MEMBER_HELD_MAX - 1);
        drop((all, given));
        assert_eq!(pullers.state().reserved, 0);
    }

    #[tokio::test]
    async fn there_is_a_bound_to_members_without_a_connection() {
        let broker = Broker::builder().in_memory(1 << 20).open().await.unwrap();
        let pullers = Arc::new(Pullers::new(broker.bus()));
        let key = |n: usize| Key {
            group: GroupName::new(format!("g{n}")).unwrap(),
            ..pull().key
        };
        let seats: Vec<_> = (0..PULL_MEMBERS_MAX)
            .map(|n| pullers.enter(key(n)).unwrap())
            .collect();
        let refused = pullers.enter(key(PULL_MEMBERS_MAX)).err().unwrap();
        assert_eq!(refused.kind(), Kind::Overloaded);
        assert!(pullers.enter(key(0)).is_ok());
        drop(seats);
    }
}

//! Who has which delivery until when. A lease that is over gives its delivery back to its group.
//!
//! Pure but for giving back; the time is an argument. Knows nothing of HTTP, nor of how deliveries
//! are come by.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_core::event::REPLY_TO;
use tidemill_core::{Attempt, Delivery, GroupName, Position, Settlement};
use tokio::time::Instant;

use super::members::Key;
use crate::limits::PULL_SETTLED_KEPT;

/// What is known of a delivery while somebody has it.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) member: Arc<Key>,
    pub(super) position: Position,
    pub(super) attempt: Attempt,
    /// When it was given out.
    pub(super) given: jiff::Timestamp,
    /// Somebody waits for a reply to it, or did.
    pub(super) asks: bool,
}

struct Lease {
    about: About,
    /// Not there while a settlement is under way.
    settlement: Option<Settlement>,
    until: Instant,
}

/// What a settlement with a token meets.
#[derive(Debug)]
pub(super) enum Begun {
    /// The right to settle.
    Right(Settlement, About),
    /// Another settlement with it is under way.
    UnderWay,
    /// It was settled with this token before, like this.
    Settled(&'static str),
    /// It is not held: its lease is over, or it is not this group's.
    Stale,
}

/// All leases of a server.
#[derive(Default)]
pub(super) struct Leases {
    held: HashMap<u64, Lease>,
    /// When those end that no settlement is under way of.
    ends: BTreeSet<(Instant, u64)>,
    /// The last ones that were settled, oldest first, and how.
    settled: VecDeque<u64>,
    outcomes: HashMap<u64, &'static str>,
    next: u64,
}

/// What ended without being settled. Dropped, it is given back; that takes other locks.
pub(super) type Ended = Vec<(Arc<Key>, Option<Settlement>)>;

impl Leases {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// When the first one ends.
    pub(super) fn first_end(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Somebody has this from now on; answers the lease's number.
    pub(super) fn give(
        &mut self,
        member: &Arc<Key>,
        delivery: &Delivery,
        settlement: Settlement,
        until: Instant,
    ) -> u64 {
        self.next += 1;
        let lease = Lease {
            about: About {
                member: Arc::clone(member),
                position: delivery.position.clone(),
                attempt: delivery.attempt,
                given: jiff::Timestamp::now(),
                asks: delivery.event.extension_str(REPLY_TO).is_some(),
            },
            settlement: Some(settlement),
            until,
        };
        self.held.insert(self.next, lease);
        self.ends.insert((until, self.next));
        self.next
    }

    /// A delivery is to be settled now.
    pub(super) fn begin(&mut self, group: &GroupName, number: u64, now: Instant) -> Begun {
        if let Some(outcome) = self.outcomes.get(&number) {
            return Begun::Settled(outcome);
        }
        let lease = self.held.get_mut(&number);
        let Some(lease) = lease.filter(|lease| lease.about.member.group == *group) else {
            return Begun::Stale;
        };
        let Some(settlement) = lease.settlement.take() else {
            return Begun::UnderWay;
        };
        if lease.until <= now {
            // Ended by the next sweep, which is due.
            lease.settlement = Some(settlement);
            return Begun::Stale;
        }
        self.ends.remove(&(lease.until, number));
        Begun::Right(settlement, lease.about.clone())
    }

    /// It was settled, or is nobody's any longer: then without an outcome.
    pub(super) fn end(&mut self, number: u64, outcome: Option<&'static str>) -> Option<Arc<Key>> {
        let lease = self.held.remove(&number)?;
        self.ends.remove(&(lease.until, number));
        if let Some(outcome) = outcome {
            self.outcomes.insert(number, outcome);
            self.settled.push_back(number);
            if self.settled.len() > PULL_SETTLED_KEPT
                && let Some(oldest) = self.settled.pop_front()
            {
                self.outcomes.remove(&oldest);
            }
        }
        Some(lease.about.member)
    }

    /// It was not settled, and may be once more. Where its lease has ended meanwhile it is over.
    pub(super) fn take_back(&mut self, number: u64, settlement: Settlement, now: Instant) -> Ended {
        let Some(lease) = self.held.get_mut(&number) else {
            return Vec::new();
        };
        if lease.until > now {
            lease.settlement = Some(settlement);
            self.ends.insert((lease.until, number));
            return Vec::new();
        }
        let member = self.end(number, None);
        let ended = member.map(|member| (member, Some(settlement)));
        ended.into_iter().collect()
    }

    /// It is held for so long from now on. Answers whether it is.
    pub(super) fn extend(&mut self, number: u64, settlement: Settlement, until: Instant) {
        if let Some(lease) = self.held.get_mut(&number) {
            lease.settlement = Some(settlement);
            lease.until = until;
            self.ends.insert((until, number));
        }
    }

    /// Gives up one of which no settlement is under way.
    pub(super) fn give_up(&mut self, number: u64) -> Ended {
        let lease = self.held.get_mut(&number);
        let Some(settlement) = lease.and_then(|lease| lease.settlement.take()) else {
            return Vec::new();
        };
        let member = self.end(number, None);
        let ended = member.map(|member| (member, Some(settlement)));
        ended.into_iter().collect()
    }

    /// Ends those whose time is over.
    pub(super) fn sweep(&mut self, now: Instant) -> Ended {
        let mut ended = Vec::new();
        while let Some((until, number)) = self.ends.first().copied() {
            if until > now {
                break;
            }
            self.ends.remove(&(until, number));
            ended.extend(self.give_up(number));
        }
        ended
    }

    /// Ends all.
    pub(super) fn clear(&mut self) -> Ended {
        self.ends.clear();
        let held = std::mem::take(&mut self.held);
        let held = held.into_values();
        held.map(|lease| (lease.about.member, lease.settlement))
            .collect()
    }
}

/// How long is left until then, in whole milliseconds.
pub(super) fn millis_until(until: Instant, now: Instant) -> u64 {
    let left: Duration = until.saturating_duration_since(now);
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

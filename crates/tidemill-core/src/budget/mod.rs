//! One budget for the memory that data takes on its way: the log's tails, operations that wait,
//! buffers of reads, deliveries, and what doors hold.
//!
//! Every [`Class`] has a part of its own that no other can take, so that none waits for another
//! one; beyond that they share what is left, each up to a bound. A part that was taken is a
//! [`Share`], given back when it is dropped. No locks where nobody listens ([`Budget::freed`]): a
//! share costs one atomic operation where its class's own part has room, three where it has not.
//!
//! This room may not know what is kept in the memory, and nobody waits in it.

mod freed;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::freed::Freed;
use self::freed::Listeners;
use crate::limits::{MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES};

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Records that are taken and not in their segments yet.
    Tails,
    /// Operations with records that wait to be written.
    Writes,
    /// Operations without records that wait to be written, such as settlements.
    Settlements,
    /// Buffers of reads under way.
    Reads,
    /// Events that consumer groups have read and that are not settled.
    Deliveries,
    /// Messages of queues that are kept in memory alone.
    Queues,
    /// Answers of a door, until the client has taken them.
    Answers,
    /// Events that wait for clients that are told of them.
    Outboxes,
    /// Requests that a door has read, until they are answered.
    Requests,
}

/// Parts of a budget that are counted: each class's own part and its bound are so many of them.
const PARTS: usize = 16;

impl Class {
    /// All of them.
    pub const ALL: [Class; 9] = [
        Class::Tails,
        Class::Writes,
        Class::Settlements,
        Class::Reads,
        Class::Deliveries,
        Class::Queues,
        Class::Answers,
        Class::Outboxes,
        Class::Requests,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tails => "tails",
            Self::Writes => "writes",
            Self::Settlements => "settlements",
            Self::Reads => "reads",
            Self::Deliveries => "deliveries",
            Self::Queues => "queues",
            Self::Answers => "answers",
            Self::Outboxes => "outboxes",
            Self::Requests => "requests",
        }
    }

    /// Sixteenths of the budget that are its own, and that it has at most.
    fn parts(self) -> (usize, usize) {
        match self {
            // What is published waits in the one and goes on to the other: neither may have to
            // wait for readers.
            Self::Writes => (2, 2),
            Self::Settlements => (1, 1),
            Self::Tails
            | Self::Reads
            | Self::Queues
            | Self::Answers
            | Self::Outboxes
            | Self::Requests => (1, 4),
            Self::Deliveries => (1, 8),
        }
    }
}

/// What one class has.
#[derive(Debug)]
struct Account {
    /// Bytes that are its own.
    own_max: usize,
    /// Bytes of what all share that it has at most.
    shared_max: usize,
    own: AtomicUsize,
    shared: AtomicUsize,
    /// Bytes beyond the limit.
    over: AtomicUsize,
    listeners: Listeners,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    /// Bytes that all classes share.
    shared_max: usize,
    shared: AtomicUsize,
    /// Bytes beyond the limit.
    over: AtomicUsize,
    accounts: [Account; Class::ALL.len()],
}

/// See the module. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

impl Default for Budget {
    fn default() -> Self {
        Self::new(MEMORY_DEFAULT_BYTES)
    }
}

/// Takes `bytes` where a counter stays within `max`.
fn take(counter: &AtomicUsize, max: usize, bytes: usize) -> bool {
    let more = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= max);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

/// Takes as many of `bytes` as keep a counter within `max`; answers how many.
fn take_some(counter: &AtomicUsize, max: usize, bytes: usize) -> usize {
    let more = |now: usize| Some(now + bytes.min(max.saturating_sub(now)));
    let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    let before = before.unwrap_or_else(|now| now);
    bytes.min(max.saturating_sub(before))
}

fn give(counter: &AtomicUsize, bytes: usize) {
    if bytes > 0 {
        counter.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Budget {
    /// A budget of so many bytes, at least [`MEMORY_MIN_BYTES`].
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.max(MEMORY_MIN_BYTES);
        let part = limit / PARTS;
        let account = |class: Class| {
            let (own, most) = class.parts();
            Account {
                own_max: own * part,
                shared_max: (most - own) * part,
                own: AtomicUsize::new(0),
                shared: AtomicUsize::new(0),
                over: AtomicUsize::new(0),
                listeners: Listeners::default(),
            }
        };
        let own: usize = Class::ALL.iter().map(|class| class.parts().0 * part).sum();
        Self(Arc::new(Inner {
            limit,
            shared_max: limit - own,
            shared: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            accounts: Class::ALL.map(account),
        }))
    }

    fn account(&self, class: Class) -> &Account {
        let account = self.0.accounts.get(class as usize);
        account.expect("every class has one, in the order of its declaration")
    }

    /// Bytes of all classes together.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that one operation with records may have, so that it can always be taken: half of
    /// what waits at most, and all that is a tail's own.
    #[must_use]
    pub fn operation_max(&self) -> usize {
        self.0.limit / PARTS
    }

    /// Bytes that a class has at most.
    #[must_use]
    pub fn max(&self, class: Class) -> usize {
        let account = self.account(class);
        account.own_max + account.shared_max
    }

    /// Bytes that a class has now.
    #[must_use]
    pub fn used(&self, class: Class) -> usize {
        let account = self.account(class);
        account.own.load(Ordering::Relaxed) + account.shared.load(Ordering::Relaxed)
    }

    /// Bytes that all classes have now. What passes from one class to another meanwhile is not
    /// counted twice, as it would be in a sum of [`Budget::used`].
    #[must_use]
    pub fn total(&self) -> usize {
        let accounts = self.0.accounts.iter();
        let own: usize = accounts.map(|one| one.own.load(Ordering::Relaxed)).sum();
        own + self.0.shared.load(Ordering::Relaxed)
    }

    /// Bytes beyond the limit, for what had to be taken whole: see [`Share::grow_anyway`].
    #[must_use]
    pub fn over(&self) -> usize {
        self.0.over.load(Ordering::Relaxed)
    }

    /// What of [`Budget::over`] is of one class.
    #[must_use]
    pub fn over_in(&self, class: Class) -> usize {
        self.account(class).over.load(Ordering::Relaxed)
    }

    /// Bytes that a class could take now.
    #[must_use]
    pub fn free(&self, class: Class) -> usize {
        let account = self.account(class);
        let left =
            |counter: &AtomicUsize, max: usize| max.saturating_sub(counter.load(Ordering::Relaxed));
        let shared = left(&self.0.shared, self.0.shared_max);
        left(&account.own, account.own_max) + shared.min(left(&account.shared, account.shared_max))
    }

    /// Takes so many bytes. `None` where they are not free.
    #[must_use]
    pub fn take(&self, class: Class, bytes: usize) -> Option<Share> {
        let mut share = self.empty(class);
        share.grow(bytes).then_some(share)
    }

    /// A share of no bytes, to be grown.
    pub fn empty(&self, class: Class) -> Share {
        Share {
            budget: self.clone(),
            class,
            own: 0,
            shared: 0,
            over: 0,
        }
    }
}

/// A part of a budget that was taken. Dropping it gives it back.
#[must_use]
pub struct Share {
    budget: Budget,
    class: Class,
    /// Bytes of the class's own part, of what all share, and of neither.
    own: usize,
    shared: usize,
    over: usize,
}

impl Share {
    /// How much it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.own + self.shared + self.over
    }

    /// Takes more. Where that is not free it stays what it was, and the answer is `false`.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let account = self.budget.account(self.class);
        let own = take_some(&account.own, account.own_max, bytes);
        let rest = bytes - own;
        if rest > 0 {
            if !take(&account.shared, account.shared_max, rest) {
                give(&account.own, own);
                return false;
            }
            let inner = &self.budget.0;
            if !take(&inner.shared, inner.shared_max, rest) {
                give(&account.shared, rest);
                give(&account.own, own);
                return false;
            }
        }
        self.own += own;
        self.shared += rest;
        true
    }

    /// Takes more even where it is not free, beyond the limit: for one thing that is in memory
    /// already and is larger than its class may ever have.
    pub fn grow_anyway(&mut self, bytes: usize) {
        if !self.grow(bytes) {
            self.over += bytes;
            let account = self.budget.account(self.class);
            account.over.fetch_add(bytes, Ordering::Relaxed);
            self.budget.0.over.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Gives some of it back: what lies beyond the limit first, what all share then.
    pub fn shrink(&mut self, bytes: usize) {
        let account = self.budget.account(self.class);
        let over = bytes.min(self.over);
        let shared = (bytes - over).min(self.shared);
        let own = (bytes - over - shared).min(self.own);
        self.over -= over;
        self.shared -= shared;
        self.own -= own;
        give(&account.over, over);
        give(&self.budget.0.over, over);
        give(&self.budget.0.shared, shared);
        give(&account.shared, shared);
        give(&account.own, own);
        if over + shared + own > 0 {
            account.listeners.tell();
        }
    }

    /// Makes it so many bytes. Where more is not free it stays what it was, and the answer is
    /// `false`.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let now = self.bytes();
        if bytes >= now {
            return self.grow(bytes - now);
        }
        self.shrink(now - bytes);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes());
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("class", &self.class)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_class_has_its_own_part_whatever_the_others_take() {
        let budget = Budget::new(MEMORY_MIN_BYTES);
        let mut taken = Vec::new();
        for class in [
            Class::Deliveries,
            Class::Answers,
            Class::Tails,
            Class::Outboxes,
        ] {
            while let Some(share) = budget.take(class, 4096) {
                taken.push(share);
            }
        }
        assert!(budget.total() <= budget.limit());
        assert_eq!(budget.0.shared.load(Ordering::Relaxed), budget.0.shared_max);
        for class in [
            Class::Writes,
            Class::Settlements,
            Class::Reads,
            Class::Queues,
            Class::Requests,
        ] {
            let own = class.parts().0 * budget.limit() / PARTS;
            assert_eq!(budget.free(class), own);
            let share = budget.take(class, own).expect("its own part is free");
            assert!(budget.take(class, 1).is_none());
            taken.push(share);
        }
        assert_eq!(budget.total(), budget.limit());
        drop(taken);
        assert_eq!((budget.total(), budget.over()), (0, 0));
        assert_eq!(budget.0.shared.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_taken_whole_is_counted_apart_and_given_back() {
        let budget = Budget::new(MEMORY_MIN_BYTES);
        let mut share = budget.empty(Class::Reads);
        share.grow_anyway(2 * MEMORY_MIN_BYTES);
        assert_eq!(budget.over(), 2 * MEMORY_MIN_BYTES);
        assert_eq!(budget.total(), 0);
        share.shrink(MEMORY_MIN_BYTES);
        assert_eq!(budget.over(), MEMORY_MIN_BYTES);
        drop(share);
        assert_eq!(budget.over(), 0);
    }

    #[test]
    fn many_threads_never_have_more_than_there_is() {
        let budget = Budget::new(MEMORY_MIN_BYTES);
        std::thread::scope(|threads| {
            for number in 0..4_usize {
                let budget = &budget;
                threads.spawn(move || {
                    let mut shares = Vec::new();
                    for step in 0..20_000_usize {
                        let class = Class::ALL[(step * 7 + number * 3) % Class::ALL.len()];
                        let bytes = (step * 7919 + number * 104_729) % (MEMORY_MIN_BYTES / 8);
                        match budget.take(class, bytes) {
                            Some(share) => shares.push(share),
                            None => drop(shares.pop()),
                        }
                        let shared = budget.0.shared.load(Ordering::Relaxed);
                        assert!(shared <= budget.0.shared_max);
                        assert!(
                            budget.account(class).own.load(Ordering::Relaxed)
                                <= budget.account(class).own_max
                        );
                    }
                });
            }
        });
        assert_eq!((budget.total(), budget.over()), (0, 0));
        assert_eq!(budget.0.shared.load(Ordering::Relaxed), 0);
    }

    proptest! {
        /// Whatever is taken and given back, the counts are those of the shares that are there.
        #[test]
        fn counts_are_those_of_the_shares(
            steps in prop::collection::vec((0..8usize, 0..3u8, 0..MEMORY_MIN_BYTES), 1..200),
        ) {
            let budget = Budget::new(MEMORY_MIN_BYTES);
            let mut shares: Vec<Share> = Class::ALL.map(|class| budget.empty(class)).into();
            for (at, what, bytes) in steps {
                let before = shares[at].bytes();
                let free = budget.free(shares[at].class);
                match what {
                    0 => prop_assert_eq!(shares[at].grow(bytes), bytes <= free),
                    1 => shares[at].shrink(bytes.min(before)),
                    _ => prop_assert_eq!(
                        shares[at].resize(bytes),
                        bytes <= before + free
                    ),
                }
                for (class, share) in Class::ALL.iter().zip(&shares) {
                    prop_assert_eq!(budget.used(*class), share.bytes());
                    prop_assert!(budget.used(*class) <= budget.max(*class));
                }
                prop_assert!(budget.total() <= budget.limit());
            }
        }
    }
}

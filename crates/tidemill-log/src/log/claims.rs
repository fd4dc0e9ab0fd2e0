//! Whose turn it is at the entrance: a lane that was refused, and of which nothing waits, has a
//! claim on the room that it asked for.
//!
//! Nobody waits at the entrance: whoever is refused comes again, or does not. So without claims one
//! that needs much room finds it only where others happen to leave so much at once, and two that
//! take all that they may never do. Claims are kept in the order in which they were made. What
//! comes without one leaves free what all of them ask for, and a claim what those before it do: so
//! the first one finds its room as soon as enough of what was there before is done, and each other
//! one after those before it. A claim ends when its lane was let in, or did not ask again for
//! [`CLAIM_FOR`]. It holds others up once its lane has asked again: most that are refused once and
//! go away never come back, connections of clients that try again over another one among them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{CLAIM_FOR, CLAIMS_MAX};

#[derive(Debug)]
struct Claim {
    lane: u64,
    bytes: usize,
    until: Duration,
    /// It was asked for again, so whoever has it waits.
    again: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims {
    waiting: Mutex<VecDeque<Claim>>,
    /// How many there are, so that the usual case of none costs nothing.
    count: AtomicUsize,
}

/// What one that asks leaves free for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// So many bytes.
    pub(super) leaves: usize,
    /// It has a claim.
    pub(super) claimed: bool,
    /// Nobody's claim is older.
    pub(super) first: bool,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Claim>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a lane that asks for so many bytes.
    pub(super) fn turn(&self, lane: u64, bytes: usize, now: impl Fn() -> Duration) -> Turn {
        let mut turn = Turn {
            leaves: 0,
            claimed: false,
            first: true,
        };
        if self.count.load(Ordering::Acquire) == 0 {
            return turn;
        }
        let now = now();
        let mut waiting = self.lock();
        waiting.retain(|claim| claim.until > now);
        self.count.store(waiting.len(), Ordering::Release);
        for claim in waiting.iter() {
            if claim.lane == lane && bytes <= claim.bytes {
                turn.claimed = true;
                break;
            }
            if !claim.again {
                continue;
            }
            turn.first = false;
            turn.leaves = turn.leaves.saturating_add(claim.bytes);
        }
        turn
    }

    /// A lane was refused so many bytes: it has a claim on them now, if it had none, or for longer.
    pub(super) fn claim(&self, lane: u64, bytes: usize, now: impl Fn() -> Duration) {
        let until = now().saturating_add(CLAIM_FOR);
        let mut waiting = self.lock();
        if let Some(claim) = waiting.iter_mut().find(|claim| claim.lane == lane) {
            claim.bytes = claim.bytes.max(bytes);
            claim.until = until;
            claim.again = true;
        } else if waiting.len() < CLAIMS_MAX {
            waiting.push_back(Claim {
                lane,
                bytes,
                until,
                again: false,
            });
        }
        self.count.store(waiting.len(), Ordering::Release);
    }

    /// A lane was let in with its claim.
    pub(super) fn done(&self, lane: u64) {
        let mut waiting = self.lock();
        waiting.retain(|claim| claim.lane != lane);
        self.count.store(waiting.len(), Ordering::Release);
    }
}

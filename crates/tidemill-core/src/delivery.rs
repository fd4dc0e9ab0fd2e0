//! One attempt at one event, and the right to settle it once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bus::BoxFuture;
use crate::error::SettleError;
use crate::event::Event;
use crate::name::{GroupName, TopicName};
use crate::position::{Attempt, Generation, Position};

/// One attempt at one event, as a handler's input. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event.
    pub event: Arc<Event>,
    /// Where it is kept.
    pub position: Position,
    /// Which try this is.
    pub attempt: Attempt,
    /// The group that reads it.
    pub group: GroupName,
}

/// What names one attempt to the bus that gave it: a stale ticket is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Where the event is kept.
    pub position: Position,
    /// The group's generation when it was given out.
    pub generation: Generation,
    /// Which try this is.
    pub attempt: Attempt,
}

/// Implemented by a bus: settles attempts that it gave out.
pub trait Settle: Send + Sync {
    /// Settles one attempt together with its staged effects, whole or not at all. Resolves when
    /// that is durable, with the positions of the staged events in their order.
    ///
    /// After an error other than [`SettleError::Stale`] and [`SettleError::Indeterminate`] the
    /// ticket is as good as before: the holder may settle with it again, or abandon it.
    fn settle(
        &self,
        ticket: Ticket,
        commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>>;

    /// The holder is gone without settling: the event may be given out again. Must not block, and
    /// does nothing where the ticket was settled meanwhile.
    fn abandon(&self, ticket: Ticket);

    /// A handler has returned from the attempt and the process lives, but nothing is settled yet.
    /// Must not block. A bus that holds nothing back until that is known does nothing, as this
    /// default does.
    fn outlived(&self, ticket: &Ticket) {
        let _ = ticket;
    }
}

/// The right to settle one attempt. By value, so settling twice does not compile; dropped
/// without being settled, the event is given out again.
#[must_use = "an event that is not settled is delivered again"]
pub struct Settlement {
    held: Option<(Arc<dyn Settle>, Ticket)>,
}

impl Settlement {
    /// For implementors of a bus: the right to settle `ticket` at `settler`.
    pub fn new(settler: Arc<dyn Settle>, ticket: Ticket) -> Self {
        Self {
            held: Some((settler, ticket)),
        }
    }

    /// Settles the attempt with its staged effects. Resolves when that is durable, with the
    /// positions of the staged events in their order.
    ///
    /// # Errors
    /// [`SettleError::Stale`] when another member has the event by now. Nothing of the commit is
    /// kept then, but where the bus lost the answer, as one over the network may: the event is
    /// settled then, by this commit or another, and its effects are there once. After an error
    /// that leaves the event unsettled it is given out again.
    pub async fn settle(mut self, commit: Commit) -> Result<Vec<Position>, SettleError> {
        self.try_settle(commit).await
    }

    /// Settles like [`Settlement::settle`], but the right stays with the holder after an error
    /// that another try, or another commit, may cure. The right is spent by success,
    /// [`SettleError::Stale`] and [`SettleError::Indeterminate`].
    ///
    /// # Errors
    /// As [`Settlement::settle`]; [`SettleError::Stale`] where the right is spent.
    pub async fn try_settle(&mut self, commit: Commit) -> Result<Vec<Position>, SettleError> {
        let Some((settler, ticket)) = &self.held else {
            return Err(SettleError::Stale);
        };
        let settled = settler.settle(ticket.clone(), commit).await;
        match settled {
            Ok(_) | Err(SettleError::Stale | SettleError::Indeterminate(_)) => self.held = None,
            Err(_) => {}
        }
        settled
    }

    /// Says that a handler has returned from the attempt and the process lives, where it is not
    /// settled yet, as before it is tried again in place: the event holds up no others for what
    /// it might do to the process.
    pub fn outlived(&self) {
        if let Some((settler, ticket)) = &self.held {
            settler.outlived(ticket);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some((settler, ticket)) = self.held.take() {
            settler.abandon(ticket);
        }
    }
}

impl std::fmt::Debug for Settlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settlement")
            .field("ticket", &self.held.as_ref().map(|h| &h.1))
            .finish()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Done: the event is settled for its group.
    Ack,
    /// Not done: give the event out again, not before `after` has passed.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// Given up: the event is copied to the group's dead letters and settled.
    DeadLetter {
        /// Why. Boxed, as it is rare and large.
        failure: Box<Failure>,
    },
}

/// Why and how an event was given up. Kept beside the dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The class of the failure in a word: `error`, `panic`, `timeout`, `undecodable`,
    /// `unhandled`, `rejected`, `crash`.
    pub reason: String,
    /// The error's text, cut to [`crate::limits::ATTRIBUTE_MAX_BYTES`].
    pub error: String,
    /// How many times it was tried.
    pub attempts: u32,
    /// When it was first tried.
    pub first: Option<Timestamp>,
    /// When it was last tried.
    pub last: Option<Timestamp>,
    /// The handler's id, where one was found.
    pub handler: Option<String>,
    /// The handler's version.
    pub version: Option<String>,
}

/// What a handler wants to happen together with the settlement.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Events to publish, in this order.
    pub events: Vec<(TopicName, Event)>,
    /// The answer to a request; sent once the commit is durable, never stored. Boxed, as most
    /// handlers give none.
    pub reply: Option<Box<Event>>,
}

/// An outcome and its staged effects: one entry of the journal.
#[derive(Clone, Debug)]
pub struct Commit {
    /// How the attempt ended. Effects are kept only with [`Outcome::Ack`].
    pub outcome: Outcome,
    /// What happens with it.
    pub effects: Effects,
}

impl Commit {
    /// Settled without effects.
    #[must_use]
    pub fn ack() -> Self {
        Self {
            outcome: Outcome::Ack,
            effects: Effects::default(),
        }
    }
}

/// The topic that keeps the dead letters of `group`. No two groups share one:
///
/// - A name of characters that a topic may have is kept, if there is room for it:
///   `<group>.deadletter`.
/// - In any other name `_` becomes `__` and each byte (of UTF-8) that a topic cannot have becomes
///   `_` and two hexadecimal digits: `<escaped>.deadletter_x`. So `a b` is `a_20b.deadletter_x`.
/// - Where there is no room for that either, the name is cut and its FNV-1a hash of 128 bits stands
///   for the rest: `<cut>.<hash>.deadletter_h`.
#[must_use]
pub fn dead_letter_topic(group: &GroupName) -> TopicName {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let bytes = group.as_str().bytes();
    if bytes.clone().all(legal)
        && let Ok(plain) = TopicName::new(format!("{group}.deadletter"))
    {
        return plain;
    }
    let mut escaped = String::new();
    for byte in bytes.clone() {
        match byte {
            b'_' => escaped.push_str("__"),
            _ if legal(byte) => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("_{byte:02X}")),
        }
    }
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME)
    });
    TopicName::new(format!("{escaped}.deadletter_x")).unwrap_or_else(|_| {
        escaped.truncate(READABLE_BYTES);
        TopicName::new(format!("{escaped}.{hash:032x}.deadletter_h"))
            .expect("every character was made legal and the length is bounded")
    })
}

/// Whether a name has the form of those that [`dead_letter_topic`] gives, whatever group that may
/// be of.
#[must_use]
pub fn is_for_dead_letters(name: &TopicName) -> bool {
    let ends = [".deadletter", ".deadletter_x", ".deadletter_h"];
    ends.iter().any(|end| name.as_str().ends_with(end))
}

/// How much of a long group's name is kept readable in the name of its dead letters.
const READABLE_BYTES: usize = 200;

/// FNV-1a of 128 bits (Fowler, Noll, Vo; IETF draft-eastlake-fnv).
const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(group: &str) -> String {
        let group = GroupName::new(group.to_owned()).unwrap();
        dead_letter_topic(&group).as_str().to_owned()
    }

    #[test]
    fn dead_letters_of_different_groups_never_meet() {
        assert_eq!(topic("billing.eu-1_a"), "billing.eu-1_a.deadletter");
        assert_eq!(topic("a_b"), "a_b.deadletter");
        assert_eq!(topic("a b"), "a_20b.deadletter_x");
        assert_eq!(topic("a/b"), "a_2Fb.deadletter_x");
        assert_eq!(topic("a_20b c"), "a__20b_20c.deadletter_x");
        assert_eq!(topic("\u{e9}"), "_C3_A9.deadletter_x");
        let long = "x".repeat(238);
        assert_eq!(topic(&long), format!("{long}.deadletter"));
        let long = |end: &str| topic(&("x".repeat(250) + end));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").ends_with(".deadletter_h") && long("a").len() <= 249);
        let blanks = |end: &str| topic(&(" ".repeat(250) + end));
        assert_ne!(blanks("a"), blanks("b"));
    }

    #[test]
    fn the_names_of_dead_letters_are_told_by_their_ends() {
        for name in ["billing", "a b", &"x".repeat(255)] {
            let group = GroupName::new(name.to_owned()).unwrap();
            assert!(is_for_dead_letters(&dead_letter_topic(&group)), "{name}");
        }
        for name in ["deadletter", "billing.deadletters", "x.deadletter.y"] {
            let topic = TopicName::new(name.to_owned()).unwrap();
            assert!(!is_for_dead_letters(&topic), "{name}");
        }
    }

    /// The values of the draft's test vectors for "" and "foobar".
    #[test]
    fn the_hash_is_fnv_1a() {
        let hash = |text: &str| {
            let step = |hash: u128, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME);
            text.bytes().fold(FNV_OFFSET, step)
        };
        assert_eq!(hash(""), FNV_OFFSET);
        assert_eq!(hash("foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}

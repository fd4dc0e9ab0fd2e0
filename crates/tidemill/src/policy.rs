//! What becomes of a failure.
//!
//! This file may not know handlers or buses: it turns a class into a decision.

use std::time::Duration;

use crate::handler::Retry;
use crate::limits::OVERLOAD_WAIT;
use crate::outcome::{Fail, FailClass};

/// One failed attempt, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// The failure.
    pub fail: &'a Fail,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// The id of the handler.
    pub handler: &'a str,
    /// The handler's retry policy.
    pub retry: &'a Retry,
}

/// What becomes of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again, not before `after` has passed.
    Retry {
        /// The wait.
        after: Duration,
        /// Whether the failed try counts as one.
        counted: bool,
    },
    /// Give the event up: copy it to the dead letters and go on.
    DeadLetter,
}

/// Decides what becomes of failures. Replace it with
/// [`Router::failure_policy`](crate::Router::failure_policy); a closure is one too.
pub trait FailurePolicy: Send + Sync + 'static {
    /// Decides. Must not block.
    fn decide(&self, failed: &FailedAttempt<'_>) -> Decision;
}

impl<F> FailurePolicy for F
where
    F: Fn(&FailedAttempt<'_>) -> Decision + Send + Sync + 'static,
{
    fn decide(&self, failed: &FailedAttempt<'_>) -> Decision {
        self(failed)
    }
}

/// The policy where none is given: permanent failures and undecodable events become dead letters
/// at once; an overload is tried again without counting; everything else as often as the
/// handler's [`Retry`] says.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClass;

impl FailurePolicy for ByClass {
    fn decide(&self, failed: &FailedAttempt<'_>) -> Decision {
        match failed.fail.class() {
            FailClass::Permanent | FailClass::Undecodable => Decision::DeadLetter,
            FailClass::Overloaded => Decision::Retry {
                after: failed.fail.retry_after().unwrap_or(OVERLOAD_WAIT),
                counted: false,
            },
            FailClass::Transient | FailClass::Timeout | FailClass::Panic => {
                match failed.retry.wait_after(failed.attempt) {
                    Some(wait) => Decision::Retry {
                        after: failed.fail.retry_after().unwrap_or(wait),
                        counted: true,
                    },
                    None => Decision::DeadLetter,
                }
            }
        }
    }
}

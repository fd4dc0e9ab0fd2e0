//! What a member that handles in this process does after a bad end, beside pulling: markers are
//! kept before events are handled, and what ended the process too often is given up.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_core::delivery::{Settle, Settlement};
use tidemill_core::{Commit, Delivery, Effects, Failure, Outcome, SettleError, Ticket};
use tokio::sync::oneshot;

use super::Group;
use crate::broker::Inner;
use crate::machine::{Marked, Marks, Operation};

/// Events that a member was given and that are being marked. Dropped, they are given back.
pub(super) struct Marking {
    given: VecDeque<(Delivery, Settlement)>,
    /// `None` once the answer is there.
    kept: Option<oneshot::Receiver<()>>,
}

impl Marking {
    pub(super) fn begin(
        inner: &Inner,
        group: &Group,
        marks: Vec<Marked>,
        given: Vec<(Delivery, Settlement)>,
    ) -> Self {
        let (sender, kept) = oneshot::channel();
        let operation = Operation::Mark(Marks {
            group: group.id,
            epoch: inner.handle.epoch(),
            marks,
        });
        let name = group.name.clone();
        inner.handle.submit(operation, move |answer| {
            if let Err(error) = answer {
                tracing::warn!(group = %name, %error, "events are handled without a marker");
            }
            // Nobody may wait any longer.
            let _ = sender.send(());
        });
        Self {
            given: given.into(),
            kept: Some(kept),
        }
    }

    /// Waits until the markers are where the end of the process does not reach them, or cannot
    /// be: what the log refuses is handled all the same.
    pub(super) async fn kept(&mut self) {
        if let Some(kept) = &mut self.kept {
            // Without an answer the log is gone.
            let _ = kept.await;
            self.kept = None;
        }
    }

    /// The first of them, at most `credit`, and whether there are more.
    pub(super) fn take(&mut self, credit: usize) -> (Vec<(Delivery, Settlement)>, bool) {
        let count = credit.min(self.given.len());
        let taken = self.given.drain(..count).collect();
        (taken, !self.given.is_empty())
    }
}

/// Makes a dead letter of an event that ended the process again and again.
pub(super) async fn give_up(
    inner: Arc<Inner>,
    group: Arc<Group>,
    settler: Arc<dyn Settle>,
    ticket: Ticket,
    failure: Failure,
) {
    let (at, error) = (ticket.position.clone(), failure.error.clone());
    let commit = Commit {
        outcome: Outcome::DeadLetter {
            failure: Box::new(failure),
        },
        effects: Effects::default(),
    };
    match settler.settle(ticket.clone(), commit).await {
        Ok(_) => tracing::error!(group = %group.name, %at, %error, "an event is a dead letter"),
        Err(SettleError::Stale) => {}
        Err(why) => {
            if group.letter_refused(&ticket, inner.now()) == 1 {
                tracing::warn!(group = %group.name, %at, %why, "a dead letter has to wait");
            }
        }
    }
}

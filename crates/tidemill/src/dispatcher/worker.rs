//! One worker: takes the next event, calls its handler, settles, and begins again. As many run as
//! handlers may run at once; each is one task for many events, so an event costs no task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidemill_core::error::Unavailable;
use tidemill_core::{Attempt, Settlement};
use tidemill_core::{Commit, Delivery, Effects, Failure, Outcome, PublishError, SettleError};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::delay::{Cause, Delayed};
use super::error::ServeError;
use super::hooks::{Attempted, End, Settled};
use super::queue::Taken;
use super::shared::{Job, Shared};
use crate::app::{Verdict, VerdictKind};
use crate::limits::{ERROR_TEXT_MAX_BYTES, SETTLE_WAIT_FIRST, SETTLE_WAIT_MAX};
use crate::outcome::FailClass;
use crate::router::HandlerInfo;

/// Works until the dispatcher ends.
pub(super) async fn work(shared: Arc<Shared>) {
    let mut next = None;
    loop {
        // A worker whose events never wait for anything must not keep its thread for itself.
        tokio::task::consume_budget().await;
        let taken = match next.take() {
            Some(taken) => taken,
            None => match shared.next().await {
                Some(taken) => taken,
                None => return,
            },
        };
        next = shared.run(taken).await;
    }
}

impl Shared {
    /// Steps three and four: invokes the handler, and gives its result to the bus.
    async fn run(&self, mut taken: Taken<Job>) -> Option<Taken<Job>> {
        let began = Instant::now();
        let verdict = self.app.call(taken.item.delivery.clone()).await;
        let took = began.elapsed();
        let Outcome::Retry { after } = verdict.commit.outcome else {
            self.tell_attempt(&taken.item, &verdict, took, None);
            let (job, lane) = taken.split();
            self.finish(job, verdict, took).await;
            return self.done(lane);
        };
        let wait = self.jittered(after);
        self.tell_attempt(&taken.item, &verdict, took, Some(wait));
        let job = &mut taken.item;
        job.settlement.outlived();
        job.first_try.get_or_insert_with(|| ago(took));
        // Without advice the handler itself asked for another try, which counts.
        if verdict.retry.is_none_or(|advice| advice.counted) {
            let attempt = &mut job.delivery.attempt;
            *attempt = Attempt(attempt.0.saturating_add(1));
        }
        self.counters.retried.add(1);
        self.put_back(taken, wait)
    }

    async fn finish(&self, job: Job, verdict: Verdict, took: Duration) {
        let mut commit = verdict.commit;
        if let Outcome::DeadLetter { failure } = &mut commit.outcome {
            let first = job.first_try.unwrap_or_else(|| ago(took));
            // The two are read from the clock one after the other.
            failure.first = Some(failure.last.map_or(first, |last| first.min(last)));
            failure.attempts = failure.attempts.max(job.delivery.attempt.0);
        }
        let refused = Refused {
            attempts: job.delivery.attempt.0,
            first: job.first_try.unwrap_or_else(|| ago(took)),
            handler: verdict.handler.and_then(|at| self.app.describe().get(at)),
        };
        let end = self
            .settle(&job.delivery, job.settlement, &mut commit, &refused)
            .await;
        let published = match end {
            End::Acknowledged => commit.effects.events.len(),
            _ => 0,
        };
        let counters = &self.counters;
        counters.published.add(published);
        match end {
            End::Acknowledged => counters.acknowledged.add(1),
            End::DeadLettered => counters.dead_lettered.add(1),
            End::Stale => counters.stale.add(1),
            End::Unsettled => counters.unsettled.add(1),
        }
        if let Some(hooks) = &self.settings.hooks {
            hooks.settled(&Settled {
                delivery: &job.delivery,
                end,
                published,
                took: job.added.elapsed(),
            });
        }
    }

    /// Settles, and tries again with growing waits for as long as the bus may recover. A commit
    /// whose events the bus refuses becomes a dead letter; a dead letter that it refuses too is
    /// tried again until it is taken, as the event must not be lost, and ends the dispatcher
    /// where it can never be taken.
    ///
    /// At the end of the dispatcher what is refused or needs somebody's help is given back at
    /// once; what a busy bus will take in a moment is tried on, until the grace period is over.
    async fn settle(
        &self,
        delivery: &Delivery,
        mut settlement: Settlement,
        commit: &mut Commit,
        refused: &Refused<'_>,
    ) -> End {
        let mut backoff = Backoff::new(SETTLE_WAIT_FIRST, SETTLE_WAIT_MAX);
        let mut delayed = Delayed::new(&self.delays, &self.counters);
        loop {
            let error = match settlement.try_settle(commit.clone()).await {
                Ok(_) => return end_of(&commit.outcome),
                Err(error) => error,
            };
            let cause = match what_to_do(&error, &commit.outcome) {
                Next::Drop => {
                    tracing::debug!(position = %delivery.position, "a settlement was stale");
                    return End::Stale;
                }
                Next::Stop => {
                    tracing::error!(position = %delivery.position, %error, "cannot settle");
                    self.fail(ServeError::Settle(error));
                    return End::Unsettled;
                }
                Next::DeadLetter => {
                    *commit = refused.dead_letter(&error);
                    continue;
                }
                Next::Never => {
                    let position = delivery.position.clone();
                    tracing::error!(%position, %error, "the dead letter can never be kept");
                    self.fail(ServeError::DeadLetter { position, error });
                    return End::Unsettled;
                }
                Next::Wait(cause) => cause,
            };
            let wait = self.jittered(backoff.wait());
            delayed.wait(cause, &delivery.position, &error, wait);
            let passes = is_overload(&error);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stopped(), if !passes => return End::Unsettled,
            }
        }
    }

    fn tell_attempt(
        &self,
        job: &Job,
        verdict: &Verdict,
        took: Duration,
        again_after: Option<Duration>,
    ) {
        let counters = &self.counters;
        match verdict.kind {
            VerdictKind::Handled => counters.handled.add(1),
            VerdictKind::Unhandled => counters.unhandled.add(1),
            VerdictKind::Failed(FailClass::Overloaded) => counters.turned_away.add(1),
            VerdictKind::Failed(_) => counters.failed.add(1),
        }
        if let Some(hooks) = &self.settings.hooks {
            hooks.attempted(&Attempted {
                delivery: &job.delivery,
                handler: verdict.handler.and_then(|at| self.app.describe().get(at)),
                kind: verdict.kind,
                took,
                again_after,
            });
        }
    }
}

/// The date of `took` before now.
fn ago(took: Duration) -> Timestamp {
    let now = Timestamp::now();
    now.checked_sub(took).unwrap_or(now)
}

fn end_of(outcome: &Outcome) -> End {
    match outcome {
        Outcome::DeadLetter { .. } => End::DeadLettered,
        Outcome::Ack | Outcome::Retry { .. } => End::Acknowledged,
    }
}

/// What follows an error of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: somebody else has the event.
    Drop,
    /// The bus is done for.
    Stop,
    /// The staged events can never be published.
    DeadLetter,
    /// The dead letter can never be published.
    Never,
    /// Try the same again later.
    Wait(Cause),
}

/// Whether the bus only has too much to do at this moment.
fn is_overload(error: &SettleError) -> bool {
    matches!(
        error,
        SettleError::Unavailable(Unavailable::Overloaded)
            | SettleError::Effect(PublishError::Unavailable(Unavailable::Overloaded))
    )
}

fn what_to_do(error: &SettleError, outcome: &Outcome) -> Next {
    let by_state = |unavailable: &Unavailable| match unavailable {
        Unavailable::Full(_) | Unavailable::Overloaded => Next::Wait(Cause::Unavailable),
        Unavailable::SyncFailed(_) | Unavailable::Closed => Next::Stop,
    };
    match error {
        SettleError::Stale => Next::Drop,
        SettleError::Indeterminate(_) => Next::Stop,
        SettleError::Unavailable(unavailable) => by_state(unavailable),
        SettleError::Effect(PublishError::Unavailable(unavailable)) => by_state(unavailable),
        SettleError::Effect(PublishError::Indeterminate(_)) => Next::Stop,
        SettleError::Effect(_) if matches!(outcome, Outcome::Ack) => Next::DeadLetter,
        SettleError::Effect(PublishError::TooLarge { .. } | PublishError::Invalid(_)) => {
            Next::Never
        }
        SettleError::Effect(_) | SettleError::Other(_) => Next::Wait(Cause::Refused),
    }
}

/// What the dead letter of an event says whose outputs the bus refused.
struct Refused<'a> {
    attempts: u32,
    first: Timestamp,
    handler: Option<&'a HandlerInfo>,
}

impl Refused<'_> {
    fn dead_letter(&self, error: &SettleError) -> Commit {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(ERROR_TEXT_MAX_BYTES));
        let failure = Box::new(Failure {
            reason: FailClass::Permanent.reason().to_owned(),
            error: text,
            attempts: self.attempts,
            first: Some(self.first),
            last: Some(Timestamp::now()),
            handler: self.handler.map(|info| info.id.clone()),
            version: self.handler.map(|info| info.version.clone()),
        });
        Commit {
            outcome: Outcome::DeadLetter { failure },
            effects: Effects::default(),
        }
    }
}

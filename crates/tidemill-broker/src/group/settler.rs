//! Settling: an attempt's outcome and its staged effects as one operation of the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_core::dead_letter::{self, DeadLetter};
use tidemill_core::delivery::{Settle, dead_letter_topic};
use tidemill_core::limits::DEAD_LETTER_HOPS_MAX;
use tidemill_core::{
    BoxFuture, Commit, Effects, Event, Failure, Offset, Outcome, Position, PublishError,
    SettleError, Ticket, TopicName,
};
use tidemill_log::CommitError;
use tidemill_log::limits::BATCH_MAX_BYTES;
use tokio::sync::oneshot;

use super::Group;
use super::settle::{Begun, Ended};
use crate::broker::Inner;
use crate::encode::{Places, Sorted, too_large};
use crate::inbox::Answer;
use crate::limits::{EFFECTS_MAX_EVENTS, REROUTES_MAX};
use crate::machine::{Append, Operation, Receipt, Refusal, Settled};
use crate::metrics::add;
use crate::original::{Letter, original};

/// Settles the attempts of one group.
#[derive(Clone)]
pub(super) struct Settler {
    inner: Arc<Inner>,
    group: Arc<Group>,
}

/// An attempt while its settlement is under way. Dropped, nothing was kept.
struct Settling {
    settler: Settler,
    ticket: Ticket,
    begun: Begun,
    /// What the requester is told when this is durable.
    answer: Option<Answer>,
    dead: bool,
    ended: Ended,
}

impl Settling {
    /// The commit is durable.
    fn done(mut self) {
        self.ended = Ended::Settled;
        let inner = &self.settler.inner;
        add(&inner.counters.settled, 1);
        if self.dead {
            add(&inner.counters.dead_lettered, 1);
        }
        if let Some(answer) = self.answer.take()
            && inner.inboxes.answer(&self.begun.event, answer)
        {
            add(&inner.counters.replies, 1);
        }
    }

    fn ended(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let partition = self.begun.partition;
        self.settler
            .group
            .end_settle(partition, &self.ticket, self.ended);
    }
}

type Answered = Result<Vec<Vec<Offset>>, (CommitError<Refusal>, Option<Box<Settling>>)>;

/// Events staged for one topic.
struct Staged {
    topic: TopicName,
    create: bool,
    events: Vec<Event>,
    /// Their places among all staged events.
    order: Vec<usize>,
    /// Most bytes of one event's data, and of all of them.
    max_bytes: (usize, usize),
    /// Whether it is a dead letter.
    dead: bool,
    /// The record that it is a dead letter of, where that is more than its event.
    original: Option<Bytes>,
}

/// A dead letter was taken once, perhaps under larger limits than those of today: only the batch
/// bounds it, which holds more than any publish may have had.
pub(crate) const DEAD_LETTER_MAX_BYTES: (usize, usize) = (BATCH_MAX_BYTES, BATCH_MAX_BYTES);

impl Settler {
    pub(super) fn new(inner: Arc<Inner>, group: Arc<Group>) -> Self {
        Self { inner, group }
    }

    async fn settle_now(
        self,
        ticket: Ticket,
        commit: Commit,
    ) -> Result<Vec<Position>, SettleError> {
        let settled = match commit.outcome {
            Outcome::Retry { after } => self.retry(&ticket, after).map(|()| Vec::new()),
            Outcome::Ack => self.commit(ticket, commit.effects, None).await,
            Outcome::DeadLetter { failure } => {
                self.commit(ticket, Effects::default(), Some(*failure))
                    .await
            }
        };
        match &settled {
            Ok(_) => {}
            Err(SettleError::Stale) => add(&self.inner.counters.stale_settlements, 1),
            Err(_) => add(&self.inner.counters.settle_errors, 1),
        }
        settled
    }

    fn retry(&self, ticket: &Ticket, after: Duration) -> Result<(), SettleError> {
        let due = (!after.is_zero()).then(|| self.inner.now().saturating_add(after));
        if self.group.retry(ticket, due) {
            add(&self.inner.counters.retried, 1);
            return Ok(());
        }
        Err(SettleError::Stale)
    }

    async fn commit(
        &self,
        ticket: Ticket,
        effects: Effects,
        failure: Option<Failure>,
    ) -> Result<Vec<Position>, SettleError> {
        let begun = self.group.begin_settle(&ticket)?;
        let mut settling = Settling {
            settler: self.clone(),
            ticket,
            begun,
            answer: effects.reply.map(Answer::Reply),
            dead: failure.is_some(),
            ended: Ended::Refused,
        };
        let count = effects.events.len();
        let staged = match failure {
            Some(failure) => self.dead_letter(&mut settling, failure).await?,
            None => self.stage(effects.events)?,
        };
        // The common case, without anything staged, needs no second try.
        for _ in 0..REROUTES_MAX {
            let (appends, places) = self.encode(&staged).map_err(SettleError::Effect)?;
            match self.submit(settling, appends).await {
                Ok(bases) => {
                    self.note(&staged);
                    return Ok(positions(&staged, &places, &bases, count));
                }
                Err((CommitError::Refused(Refusal::Rerouted { .. }), Some(again))) => {
                    settling = *again;
                }
                Err((CommitError::Refused(Refusal::UnknownTopic(topic)), Some(again)))
                    if staged.iter().any(|one| one.create && one.topic == topic) =>
                {
                    settling = *again;
                }
                Err((error, _)) => return Err(settle_error(error)),
            }
        }
        let why = "a staged event's topic keeps changing; try again";
        Err(SettleError::Effect(PublishError::Other(why.into())))
    }

    /// The staged events are published. A dead letter is none of its event's source.
    fn note(&self, staged: &[Staged]) {
        for staged in staged.iter().filter(|staged| !staged.dead) {
            let counters = &self.inner.counters;
            add(&counters.published_events, staged.events.len());
            let bytes = staged.events.iter().map(Event::size_bytes).sum();
            add(&counters.published_bytes, bytes);
            self.inner.seen.note(&staged.topic, &staged.events);
        }
    }

    /// Sorts the events by their topics. All of them together may have what one publish may have,
    /// since they are one entry of the journal.
    fn stage(&self, events: Vec<(TopicName, Event)>) -> Result<Vec<Staged>, SettleError> {
        if events.len() > EFFECTS_MAX_EVENTS {
            let why = format!(
                "{} events are more than the {EFFECTS_MAX_EVENTS} that one commit takes",
                events.len()
            );
            return Err(SettleError::Effect(PublishError::Other(why)));
        }
        let max_bytes = self.inner.publish_bounds();
        let size_bytes = events.iter().map(|(_, event)| event.size_bytes()).sum();
        too_large(size_bytes, max_bytes.1).map_err(SettleError::Effect)?;
        let mut staged: Vec<Staged> = Vec::new();
        for (place, (topic, event)) in events.into_iter().enumerate() {
            let at = staged.iter().position(|have| have.topic == topic);
            let at = at.unwrap_or_else(|| {
                staged.push(Staged {
                    topic,
                    create: self.inner.settings.auto_create_topics,
                    events: Vec::new(),
                    order: Vec::new(),
                    max_bytes,
                    dead: false,
                    original: None,
                });
                staged.len() - 1
            });
            if let Some(of_topic) = staged.get_mut(at) {
                of_topic.events.push(event);
                of_topic.order.push(place);
            }
        }
        Ok(staged)
    }

    /// The dead letter of the attempt. Its topic is made where there is none, whatever the
    /// settings say.
    async fn dead_letter(
        &self,
        settling: &mut Settling,
        failure: Failure,
    ) -> Result<Vec<Staged>, SettleError> {
        let why = format!("{}: {}", failure.reason, failure.error);
        settling.answer = Some(Answer::DeadLettered(why));
        if goes_round(&settling.begun.event, &settling.ticket.position) {
            settling.dead = false;
            let (group, at) = (&self.group.name, &settling.ticket.position);
            tracing::warn!(
                %group, %at, error = failure.error,
                "an event was a dead letter {DEAD_LETTER_HOPS_MAX} times in a row: it is no \
                 further one, and its newest letter stays where it is"
            );
            return Ok(Vec::new());
        }
        let (id, at) = (settling.begun.partition, settling.ticket.position.offset);
        let record = self.inner.record(id, at).await.unwrap_or_else(|error| {
            let (group, at) = (&self.group.name, &settling.ticket.position);
            tracing::warn!(%group, %at, %error, "a dead letter is kept without its record");
            None
        });
        let original = record.and_then(|record| original(&record, &settling.begun.event));
        let letter = DeadLetter {
            event: Event::clone(&settling.begun.event),
            origin: settling.ticket.position.clone(),
            group: self.group.name.clone(),
            failure,
        };
        let invalid = |error| SettleError::Effect(PublishError::Invalid(error));
        Ok(vec![Staged {
            topic: dead_letter_topic(&self.group.name),
            create: true,
            events: vec![letter.to_event().map_err(invalid)?],
            order: vec![0],
            max_bytes: DEAD_LETTER_MAX_BYTES,
            dead: true,
            original,
        }])
    }

    fn encode(&self, staged: &[Staged]) -> Result<(Vec<Append>, Vec<Places>), PublishError> {
        let encoded = staged.iter().map(|staged| {
            let (topic, events) = (&staged.topic, &staged.events);
            if let (true, [event]) = (staged.dead, &**events) {
                let letter = Letter {
                    event: event.clone(),
                    original: staged.original.clone(),
                };
                return self.inner.encode_letters(topic, &[letter]);
            }
            self.inner
                .encode_within(topic, staged.create, events, staged.max_bytes)
        });
        encoded
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.into_iter().unzip())
    }

    /// Has the commit made durable. What follows from it happens even when nobody waits for
    /// the answer any longer.
    async fn submit(&self, settling: Settling, appends: Vec<Append>) -> Answered {
        let offset = settling.ticket.position.offset;
        let operation = Operation::Commit {
            group: self.group.id,
            settled: vec![Settled {
                partition: settling.begun.partition,
                epoch: settling.begun.epoch,
                range: offset..offset.next(),
            }],
            appends,
        };
        let (sender, receiver) = oneshot::channel();
        self.inner.handle.submit(operation, move |answer| {
            let answer = match answer {
                Ok(receipt) => {
                    settling.done();
                    match receipt {
                        Receipt::Appended(bases) => Ok(bases),
                        _ => Ok(Vec::new()),
                    }
                }
                Err(error @ CommitError::Refused(Refusal::Stale)) => {
                    // Settled before, in a way that this state did not see.
                    settling.ended(Ended::Settled);
                    Err((error, None))
                }
                Err(error @ CommitError::Indeterminate(_)) => {
                    settling.ended(Ended::Unknown);
                    Err((error, None))
                }
                Err(error) => Err((error, Some(Box::new(settling)))),
            };
            // Nobody may be there: then a settlement that was not made ends with this.
            let _ = sender.send(answer);
        });
        let gone = |_| {
            let why = "the broker was dropped before it answered";
            Err((CommitError::Indeterminate(why.into()), None))
        };
        receiver.await.unwrap_or_else(gone)
    }
}

/// Whether an event is in the dead letters that it was read from, and was in others before so
/// often that it might never end.
pub(crate) fn goes_round(event: &Event, at: &Position) -> bool {
    let is_kept = |letter: DeadLetter| dead_letter_topic(&letter.group) == at.topic;
    dead_letter::hops(event) >= DEAD_LETTER_HOPS_MAX
        && DeadLetter::from_event(event).is_ok_and(is_kept)
}

/// Where the staged events are, in their order.
fn positions(
    staged: &[Staged],
    places: &[Places],
    bases: &[Vec<Offset>],
    count: usize,
) -> Vec<Position> {
    let mut all: Vec<(usize, Position)> = Vec::with_capacity(count);
    for ((staged, places), bases) in staged.iter().zip(places).zip(bases) {
        let of_topic = Sorted::positions(places, bases);
        all.extend(staged.order.iter().copied().zip(of_topic));
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, position)| position).collect()
}

fn settle_error(error: CommitError<Refusal>) -> SettleError {
    match error {
        CommitError::Unavailable(why) => SettleError::Unavailable(why),
        CommitError::Indeterminate(why) => SettleError::Indeterminate(why),
        CommitError::Refused(refusal) => match refusal {
            // The group, or the topic, was deleted and perhaps made again: nobody has it.
            Refusal::Stale
            | Refusal::Sought
            | Refusal::UnknownGroup
            | Refusal::UnknownPartition(_) => SettleError::Stale,
            Refusal::UnknownTopic(topic) => SettleError::Effect(PublishError::UnknownTopic(topic)),
            Refusal::IsQueue(name) => SettleError::Effect(PublishError::IsQueue(name)),
            Refusal::TooMany { .. } | Refusal::Partitions { .. } => {
                SettleError::Effect(PublishError::Other(refusal.to_string()))
            }
            other => SettleError::Other(other.to_string()),
        },
    }
}

impl Settle for Settler {
    fn settle(
        &self,
        ticket: Ticket,
        commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>> {
        Box::pin(self.clone().settle_now(ticket, commit))
    }

    fn abandon(&self, ticket: Ticket) {
        if self.group.retry(&ticket, None) {
            add(&self.inner.counters.abandoned, 1);
        }
    }

    fn outlived(&self, ticket: &Ticket) {
        self.group.outlived(ticket);
    }
}

//! Settling what members of share groups are done with: ranges of offsets, and dead letters of
//! those that were rejected or given up, each with its settlement as one operation of the log.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use tidemill_core::budget::Class;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::error::Unavailable;
use tidemill_core::{Event, Failure, Offset, Position, PublishError};
use tidemill_log::{CommitError, PartitionId};

use super::live::Live;
use super::records::{Dead, Death, Plan};
use super::types::ShareError;
use crate::broker::Inner;
use crate::decode::event;
use crate::fetch::{Trouble, read_batches};
use crate::group::{DEAD_LETTER_MAX_BYTES, goes_round};
use crate::limits::{READ_MAX_BYTES, REROUTES_MAX, SHARE_AGAIN_AFTER, SHARE_LETTERS_MAX};
use crate::machine::{Append, Operation, Refusal, Settled};
use crate::metrics::add;

/// A partition, and the epoch of its position in which records were given out.
pub(super) type Place = (PartitionId, u64);

/// What is settled, and by whom.
struct Settling {
    inner: Arc<Inner>,
    live: Arc<Live>,
    place: Place,
    /// Whose it is again where nothing is kept, and for how long.
    back: (ByteString, Duration),
}

/// Has what was given up settled, when that can be; not where the group has members of another
/// kind by now, whose it is.
pub(super) fn settle_later(inner: &Arc<Inner>, live: &Arc<Live>, place: Place, plan: Plan) {
    let Some(hold) = live.hold(inner) else {
        live.restart(place);
        return;
    };
    let settling = settle(
        inner,
        live,
        place,
        plan,
        (ByteString::new(), SHARE_AGAIN_AFTER),
    );
    let group = live.name.clone();
    tokio::spawn(async move {
        let settled = settling.await;
        drop(hold);
        if let Err(why) = settled {
            tracing::warn!(%group, %why, "could not give records up, which is tried again");
        }
    });
}

/// Settles what a plan says, also where nobody waits for the answer any longer. Where something is
/// not kept, that is `back` as it was.
pub(super) fn settle(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    place: Place,
    plan: Plan,
    back: (ByteString, Duration),
) -> impl Future<Output = Result<(), ShareError>> + Send + 'static {
    let settling = Settling {
        inner: Arc::clone(inner),
        live: Arc::clone(live),
        place,
        back,
    };
    let running = tokio::spawn(settling.run(plan));
    async move {
        let lost = |_| Err(Unavailable::Closed.into());
        running.await.unwrap_or_else(lost)
    }
}

impl Settling {
    async fn run(self, plan: Plan) -> Result<(), ShareError> {
        let mut done = Ok(());
        if !plan.settle.is_empty() {
            done = self.commit(&plan.settle, &[]).await;
        }
        let mut rest = plan.dead.as_slice();
        while !rest.is_empty() && done.is_ok() {
            match self.letters(rest).await {
                Ok((letters, count)) => {
                    let (now, later) = rest.split_at(count.min(rest.len()));
                    done = self.commit(&ranges(now), &letters).await;
                    if done.is_ok() {
                        let counters = &self.inner.counters;
                        add(&counters.dead_lettered, letters.len());
                    }
                    rest = later;
                }
                Err(why) => done = Err(why),
            }
        }
        if done.is_err() {
            self.give_back(&ranges(rest));
        }
        done
    }

    fn give_back(&self, ranges: &[Range<Offset>]) {
        let back = (&self.back.0, self.back.1);
        self.live.unsettled(&self.inner, self.place, ranges, back);
    }

    /// Settles ranges together with dead letters.
    async fn commit(&self, ranges: &[Range<Offset>], letters: &[Event]) -> Result<(), ShareError> {
        let mut tries = 1;
        let error = loop {
            let operation = match self.operation(ranges, letters) {
                Ok(operation) => operation,
                Err(why) => {
                    self.give_back(ranges);
                    return Err(why);
                }
            };
            match self.inner.submit(operation).await {
                Ok(_) => {
                    self.live.settled(&self.inner, self.place, ranges);
                    let count = ranges.iter().map(|of| of.end.0 - of.start.0).sum::<u64>();
                    add(&self.inner.counters.settled, count as usize);
                    return Ok(());
                }
                // The topic of the letters has changed.
                Err(CommitError::Refused(Refusal::Rerouted { .. } | Refusal::UnknownTopic(_)))
                    if tries < REROUTES_MAX =>
                {
                    tries += 1;
                }
                Err(error) => break error,
            }
        };
        Err(match error {
            // Nobody knows: it stays as it is until a restart.
            CommitError::Indeterminate(why) => ShareError::Indeterminate(why),
            CommitError::Refused(
                Refusal::Stale
                | Refusal::Sought
                | Refusal::UnknownGroup
                | Refusal::UnknownPartition(_),
            ) => {
                self.live.restart(self.place);
                ShareError::NotAcquired
            }
            CommitError::Unavailable(why) => {
                self.give_back(ranges);
                why.into()
            }
            CommitError::Refused(other) => {
                self.give_back(ranges);
                ShareError::Other(other.to_string())
            }
        })
    }

    fn operation(
        &self,
        ranges: &[Range<Offset>],
        letters: &[Event],
    ) -> Result<Operation, ShareError> {
        let group = self.inner.durable.state().group_id(&self.live.name);
        let (partition, epoch) = self.place;
        let settled = ranges.iter().map(|range| Settled {
            partition,
            epoch,
            range: range.clone(),
        });
        Ok(Operation::Commit {
            group: group.ok_or(ShareError::UnknownGroup)?,
            settled: settled.collect(),
            appends: self.append(letters)?.into_iter().collect(),
        })
    }

    fn append(&self, letters: &[Event]) -> Result<Option<Append>, ShareError> {
        if letters.is_empty() {
            return Ok(None);
        }
        let topic = dead_letter_topic(&self.live.name);
        let append = self
            .inner
            .encode_within(&topic, true, letters, DEAD_LETTER_MAX_BYTES);
        let refused = |why: PublishError| ShareError::Other(why.to_string());
        append.map(|(append, _)| Some(append)).map_err(refused)
    }

    /// The letters of the first of these records, and of how many. One that is not there any more,
    /// or cannot be read, has none.
    async fn letters(&self, dead: &[Dead]) -> Result<(Vec<Event>, usize), ShareError> {
        let (id, _) = self.place;
        let Some(first) = dead.first().map(|dead| dead.offset) else {
            return Ok((Vec::new(), 0));
        };
        let catalog = self.inner.durable.catalog();
        let topic = catalog.name(id.topic).ok_or(ShareError::UnknownTopic)?;
        let stable = self.inner.stable(id).ok_or(ShareError::UnknownTopic)?;
        let mut share = self.inner.settings.memory.empty(Class::Reads);
        // One batch, or a few small ones.
        let read = read_batches(
            &self.inner,
            id,
            first,
            READ_MAX_BYTES / 4,
            &stable,
            &mut share,
        );
        let batches = match read.await {
            Ok(batches) => batches.unwrap_or_default(),
            Err(Trouble::OutOfRange { .. } | Trouble::Unknown) => Vec::new(),
            Err(trouble) => match trouble.of(topic, first) {
                tidemill_core::FetchError::Damaged { .. } => Vec::new(),
                why => return Err(why.into()),
            },
        };
        let end = batches
            .last()
            .map_or(first, |last| last.last_offset())
            .max(first);
        let here = dead.iter().take_while(|dead| dead.offset <= end);
        let mut here: BTreeMap<Offset, Dead> = here.map(|dead| (dead.offset, *dead)).collect();
        while here.len() > SHARE_LETTERS_MAX {
            here.pop_last();
        }
        let count = here.len();
        let mut letters = Vec::new();
        for batch in &batches {
            let Ok(records) = batch.checked_records() else {
                continue;
            };
            for record in records.map_while(Result::ok) {
                if let Some(dead) = here.remove(&record.offset) {
                    letters.extend(self.letter(event(&record, topic, id), topic, dead)?);
                }
            }
        }
        Ok((letters, count))
    }

    fn letter(
        &self,
        event: Event,
        topic: &tidemill_core::TopicName,
        dead: Dead,
    ) -> Result<Option<Event>, ShareError> {
        let origin = Position {
            topic: topic.clone(),
            partition: self.place.0.partition,
            offset: dead.offset,
        };
        if goes_round(&event, &origin) {
            return Ok(None);
        }
        let (reason, error) = match dead.death {
            Death::Rejected => ("rejected", "a member of the share group rejected it"),
            Death::GaveUp => (
                "max_deliveries",
                "it was given out as often as it may, in vain",
            ),
        };
        let letter = DeadLetter {
            event,
            origin,
            group: self.live.name.clone(),
            failure: Failure {
                reason: reason.to_owned(),
                error: error.to_owned(),
                attempts: dead.deliveries.into(),
                first: None,
                last: Some(Timestamp::now()),
                handler: None,
                version: None,
            },
        };
        let invalid = |why: tidemill_core::InvalidEvent| ShareError::Other(why.to_string());
        letter.to_event().map(Some).map_err(invalid)
    }
}

/// The offsets of records as ranges.
fn ranges(dead: &[Dead]) -> Vec<Range<Offset>> {
    let mut ranges: Vec<Range<Offset>> = Vec::new();
    for at in dead.iter().map(|dead| dead.offset) {
        match ranges.last_mut().filter(|last| last.end == at) {
            Some(last) => last.end = at.next(),
            None => ranges.push(at..at.next()),
        }
    }
    ranges
}

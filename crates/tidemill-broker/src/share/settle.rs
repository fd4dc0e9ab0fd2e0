//! Settling what members of share groups are done with: ranges of offsets, and dead letters of
//! those that were rejected or given up, each with its settlement as one operation of the log.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use jiff::Timestamp;
use tidemill_core::budget::{Class, Share};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::error::Unavailable;
use tidemill_core::{Event, Failure, FetchError, Offset, Position, PublishError, TopicName};
use tidemill_log::{Batch, CommitError, PartitionId};

use super::live::Live;
use super::records::{Dead, Death, Plan};
use super::types::ShareError;
use crate::broker::Inner;
use crate::decode::event;
use crate::fetch::{Trouble, read_batches};
use crate::group::goes_round;
use crate::limits::{READ_MAX_BYTES, REROUTES_MAX, SHARE_LETTERS_BYTES, SHARE_LETTERS_MAX};
use crate::machine::{Append, Operation, Refusal, Settled};
use crate::metrics::add;
use crate::original::{Letter, is_unwritable, original};

/// A partition, and the epoch of its position in which records were given out.
pub(super) type Place = (PartitionId, u64);

/// What is settled, and by whom.
struct Settling {
    inner: Arc<Inner>,
    live: Arc<Live>,
    place: Place,
    /// Whose it is again where nothing is kept, and for how long; `None` where it is given up.
    back: Option<(ByteString, Duration)>,
}

/// Why something was not settled.
enum Stop {
    /// These records can be no letters, ever; others may be. They are as they were.
    These(PublishError),
    /// Nothing can be settled now. It was given back.
    All(ShareError),
}

impl From<Stop> for ShareError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::These(why) => Self::Other(why.to_string()),
            Stop::All(why) => why,
        }
    }
}

/// Has what was given up settled, when that can be; not where the group has members of another
/// kind by now, whose it is.
pub(super) fn settle_later(inner: &Arc<Inner>, live: &Arc<Live>, place: Place, plan: Plan) {
    let Some(hold) = live.hold(inner) else {
        live.restart(place);
        return;
    };
    let is_new = plan.dead.iter().any(|dead| dead.tries == 0);
    let settling = settle(inner, live, place, plan, None);
    let group = live.name.clone();
    tokio::spawn(async move {
        let settled = settling.await;
        drop(hold);
        match settled {
            Ok(()) => {}
            Err(why) if is_new => tracing::warn!(
                %group, %why,
                "could not give records up, which is tried again with growing pauses"
            ),
            Err(why) => tracing::debug!(%group, %why, "could not give records up again"),
        }
    });
}

/// Settles what a plan says, also where nobody waits for the answer any longer. Where something is
/// not kept, that is the member's again that `back` names, or waits to be given up again.
pub(super) fn settle(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    place: Place,
    plan: Plan,
    back: Option<(ByteString, Duration)>,
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
        if !plan.settle.is_empty()
            && let Err(why) = self.commit(&plan.settle, &[]).await
        {
            self.give_back(&ranges(&plan.dead));
            return Err(why.into());
        }
        let mut rest = plan.dead.as_slice();
        let mut read = None;
        while !rest.is_empty() {
            let buried = match self.letters(rest, &mut read).await {
                Ok((letters, count)) => (count, self.bury(first(rest, count).0, &letters).await),
                Err(Stop::These(why)) => (1, Err(Stop::These(why))),
                Err(Stop::All(why)) => {
                    self.give_back(&ranges(rest));
                    return Err(why);
                }
            };
            let (count, buried) = buried;
            let (these, after) = first(rest, count);
            rest = after;
            let done = match buried {
                Err(Stop::These(why)) => self.settle_without(these, &why).await,
                buried => buried,
            };
            if let Err(why) = done {
                self.give_back(&ranges(rest));
                return Err(why.into());
            }
        }
        Ok(())
    }

    /// Settles records with their letters.
    async fn bury(&self, dead: &[Dead], letters: &[Letter]) -> Result<(), Stop> {
        self.commit(&ranges(dead), letters).await?;
        add(&self.inner.counters.dead_lettered, letters.len());
        Ok(())
    }

    /// Settles records without letters, which can never be kept.
    async fn settle_without(&self, dead: &[Dead], why: &PublishError) -> Result<(), Stop> {
        self.commit(&ranges(dead), &[]).await?;
        let id = self.place.0;
        let topic = self.inner.durable.catalog().name(id.topic).cloned();
        for (topic, dead) in topic.iter().cycle().zip(dead) {
            let at = Position {
                topic: topic.clone(),
                partition: id.partition,
                offset: dead.offset,
            };
            self.inner.unwritable(&self.live.name, &at, why);
        }
        Ok(())
    }

    fn give_back(&self, ranges: &[Range<Offset>]) {
        let place = self.place;
        if self.inner.durable.catalog().name(place.0.topic).is_none() {
            // Nothing is left that could be anybody's.
            self.live.restart(place);
            return;
        }
        self.live
            .unsettled(&self.inner, place, ranges, self.back.as_ref());
    }

    /// Settles ranges together with dead letters; gives them back where that is not done.
    async fn commit(&self, ranges: &[Range<Offset>], letters: &[Letter]) -> Result<(), Stop> {
        let mut tries = 1;
        let error = loop {
            let operation = match self.operation(ranges, letters) {
                Ok(operation) => operation,
                Err(Stop::These(why)) => return Err(Stop::These(why)),
                Err(Stop::All(why)) => {
                    self.give_back(ranges);
                    return Err(Stop::All(why));
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
        Err(Stop::All(match error {
            // Nobody knows: it stays as it is until a restart.
            CommitError::Indeterminate(why) => ShareError::Indeterminate(why),
            CommitError::Refused(Refusal::UnknownGroup) => {
                self.live.restart(self.place);
                ShareError::UnknownGroup
            }
            CommitError::Refused(
                Refusal::Stale | Refusal::Sought | Refusal::UnknownPartition(_),
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
        }))
    }

    fn operation(&self, ranges: &[Range<Offset>], letters: &[Letter]) -> Result<Operation, Stop> {
        let (partition, epoch) = self.place;
        let settled = ranges.iter().map(|range| Settled {
            partition,
            epoch,
            range: range.clone(),
        });
        Ok(Operation::Commit {
            group: self.live.id,
            settled: settled.collect(),
            appends: self.append(letters)?.into_iter().collect(),
        })
    }

    fn append(&self, letters: &[Letter]) -> Result<Option<Append>, Stop> {
        if letters.is_empty() {
            return Ok(None);
        }
        let topic = dead_letter_topic(&self.live.name);
        let append = self.inner.encode_letters(&topic, letters);
        let refused = |why: PublishError| match is_unwritable(&why) {
            true => Stop::These(why),
            false => Stop::All(ShareError::Other(why.to_string())),
        };
        append.map(|(append, _)| Some(append)).map_err(refused)
    }

    /// The letters of the first of these records, and of how many. One that is not there any more,
    /// or cannot be read, has none. What was `read` for those before them serves them too, where
    /// they lie in it.
    async fn letters(
        &self,
        dead: &[Dead],
        read: &mut Option<(Vec<Batch>, Share)>,
    ) -> Result<(Vec<Letter>, usize), Stop> {
        let Some(begin) = dead.first().map(|dead| dead.offset) else {
            return Ok((Vec::new(), 0));
        };
        let (id, _) = self.place;
        let catalog = self.inner.durable.catalog();
        let unknown = || Stop::All(ShareError::UnknownTopic);
        let topic = catalog.name(id.topic).ok_or_else(unknown)?;
        let holds = |batch: &Batch| (batch.base_offset()..=batch.last_offset()).contains(&begin);
        let have = read.take_if(|(batches, _)| batches.iter().any(holds));
        // What is not of use is given back before more is taken.
        *read = None;
        let (batches, _) = read.insert(match have {
            Some(have) => have,
            None => self.batches(topic, begin).await.map_err(Stop::All)?,
        });
        let end = batches.last().map_or(begin, |last| last.last_offset());
        let here = dead.iter().take(SHARE_LETTERS_MAX);
        let here = here.take_while(|dead| dead.offset <= end.max(begin));
        let here: BTreeMap<Offset, Dead> = here.map(|dead| (dead.offset, *dead)).collect();
        let (mut letters, mut bytes) = (Vec::new(), 0);
        let records = batches
            .iter()
            .filter_map(|batch| batch.checked_records().ok());
        for record in records.flat_map(|records| records.map_while(Result::ok)) {
            let Some(dead) = here.get(&record.offset) else {
                continue;
            };
            // Each of those before it has one, or needs none.
            let before = here.range(..dead.offset).count();
            let event = event(&record, topic, id);
            let original = original(&record, &event);
            let letter = match self.letter(event, topic, *dead) {
                Ok(Some(event)) => Letter { event, original },
                Ok(None) => continue,
                Err(_) if before > 0 => return Ok((letters, before)),
                Err(why) => return Err(Stop::These(why)),
            };
            bytes += letter.size_bytes();
            if before > 0 && bytes > SHARE_LETTERS_BYTES {
                return Ok((letters, before));
            }
            letters.push(letter);
        }
        Ok((letters, here.len()))
    }

    /// One batch with this record, or a few small ones; none where they are gone or damaged.
    async fn batches(
        &self,
        topic: &TopicName,
        first: Offset,
    ) -> Result<(Vec<Batch>, Share), ShareError> {
        let (id, _) = self.place;
        let stable = self.inner.stable(id).ok_or(ShareError::UnknownTopic)?;
        let mut share = self.inner.settings.memory.empty(Class::Reads);
        let most = READ_MAX_BYTES / 4;
        let read = read_batches(&self.inner, id, first, most, &stable, &mut share);
        let batches = match read.await {
            Ok(batches) => batches.unwrap_or_default(),
            Err(Trouble::OutOfRange { .. } | Trouble::Unknown) => Vec::new(),
            Err(trouble) => match trouble.of(topic, first) {
                FetchError::Damaged { .. } => Vec::new(),
                why => return Err(why.into()),
            },
        };
        Ok((batches, share))
    }

    fn letter(
        &self,
        event: Event,
        topic: &TopicName,
        dead: Dead,
    ) -> Result<Option<Event>, PublishError> {
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
        letter.to_event().map(Some).map_err(PublishError::Invalid)
    }
}

/// The first ones of these, and the others.
fn first(dead: &[Dead], count: usize) -> (&[Dead], &[Dead]) {
    dead.split_at(count.min(dead.len()))
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

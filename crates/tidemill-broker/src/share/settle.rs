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
use crate::original::{Letter, original};

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
    /// These records can be no letters; others may be.
    These(ShareError),
    /// Nothing can be settled now.
    All(ShareError),
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
            && let Err(Stop::These(why) | Stop::All(why)) = self.commit(&plan.settle, &[]).await
        {
            self.give_back(&ranges(&plan.dead));
            return Err(why);
        }
        let mut done = Ok(());
        let mut rest = plan.dead.as_slice();
        while !rest.is_empty() {
            let (count, buried) = match self.letters(rest).await {
                Ok((letters, count)) => (count, self.bury(rest, (letters, count)).await),
                Err(stop) => {
                    let count = match stop {
                        Stop::These(_) => 1,
                        Stop::All(_) => rest.len(),
                    };
                    self.give_back(&ranges(first(rest, count).0));
                    (count, Err(stop))
                }
            };
            rest = first(rest, count).1;
            match buried {
                Ok(()) => {}
                Err(Stop::These(why)) => done = Err(why),
                Err(Stop::All(why)) => {
                    self.give_back(&ranges(rest));
                    return Err(why);
                }
            }
        }
        done
    }

    /// Settles the first records of these with their letters.
    async fn bury(&self, dead: &[Dead], letters: (Vec<Letter>, usize)) -> Result<(), Stop> {
        let (letters, count) = letters;
        self.commit(&ranges(first(dead, count).0), &letters).await?;
        add(&self.inner.counters.dead_lettered, letters.len());
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
                Err(stop) => {
                    self.give_back(ranges);
                    return Err(stop);
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
        let refused = |why: PublishError| {
            let text = ShareError::Other(why.to_string());
            match why {
                PublishError::TooLarge { .. } | PublishError::Invalid(_) => Stop::These(text),
                _ => Stop::All(text),
            }
        };
        append.map(|(append, _)| Some(append)).map_err(refused)
    }

    /// The letters of the first of these records, and of how many. One that is not there any more,
    /// or cannot be read, has none.
    async fn letters(&self, dead: &[Dead]) -> Result<(Vec<Letter>, usize), Stop> {
        let Some(begin) = dead.first().map(|dead| dead.offset) else {
            return Ok((Vec::new(), 0));
        };
        let (id, _) = self.place;
        let catalog = self.inner.durable.catalog();
        let unknown = || Stop::All(ShareError::UnknownTopic);
        let topic = catalog.name(id.topic).ok_or_else(unknown)?;
        let (batches, _memory) = self.batches(topic, begin).await.map_err(Stop::All)?;
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

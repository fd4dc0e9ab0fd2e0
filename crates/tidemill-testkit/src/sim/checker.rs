//! The checker: knows everything that was sealed, acknowledged, refused or left open, and says
//! which promise of the log a run broke. May not know: how the log keeps its files.
//!
//! The promises, as they are checked:
//! - an operation is answered once; what was refused or unavailable was never sealed;
//! - a receipt comes after the machine was told of the operation, and says what was sealed;
//! - readers see exactly the sealed events below the high watermark, which never runs back;
//! - what survives a crash is a beginning of what was sealed, whole operations in their order,
//!   and state and records are exactly those of that beginning: nothing is invented, changed,
//!   doubled or torn apart;
//! - under `every_commit`, and whenever the machine itself did not lose its power, that
//!   beginning has everything that was acknowledged or shown to a reader, so settled stays
//!   settled and no offset is used for another event;
//! - under the relaxed policies it has everything that was acknowledged before the last sync.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidemill_core::Offset;
use tidemill_log::{Batch, CommitError, Read, Reader};

use crate::sim::ledger::{EventRef, Ledger, Limits, Operation, Part, Shared, State};
use crate::sim::ledger::{events_of, partition_id};
use tidemill_log::Machine;

/// What the log answered to one operation.
pub type Answer = Result<<Ledger as Machine>::Receipt, CommitError<<Ledger as Machine>::Refusal>>;

/// A promise that was broken, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Breaks off with the given words unless the condition holds.
macro_rules! promise {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(Broken(format!($($words)+)));
        }
    };
}

type Checked = Result<(), Broken>;

/// Bytes that one read asks for at most.
const READ_MAX_BYTES: usize = 16 * 1024;

/// The model: what there is when a beginning of the history is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The machine's state.
    pub state: State,
    /// The events of every partition, by its number.
    pub partitions: BTreeMap<u64, Vec<EventRef>>,
}

impl Model {
    /// Does an operation, as the log should.
    pub fn perform(&mut self, operation: &Operation) {
        for (index, part) in (0u32..).zip(&operation.parts) {
            match *part {
                Part::Create(partition) => {
                    self.partitions.insert(partition, Vec::new());
                }
                Part::Delete(partition) => {
                    self.partitions.remove(&partition);
                }
                Part::Publish {
                    partition,
                    count,
                    size,
                } => {
                    let events = self.partitions.entry(partition).or_default();
                    events.extend(events_of(operation.number, index, count, size));
                }
                Part::Settle { .. }
                | Part::Add { .. }
                | Part::Trim { .. }
                | Part::Retain { .. } => {}
            }
        }
        self.state.perform(operation);
    }
}

/// How a life of the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process was killed; the page cache stayed.
    Killed,
    /// The power went.
    PowerLost,
}

/// See the module.
#[derive(Debug)]
pub struct Checker {
    shared: Shared,
    /// Whether an acknowledgement means synced.
    every_commit: bool,
    /// Operations without an answer.
    open: BTreeSet<u64>,
    /// The place in the history of every operation sealed.
    places: HashMap<u64, u64>,
    /// The beginning of the history that `places` and `live` know.
    known: u64,
    /// What is durable and shown, kept in step with the machine.
    live: Model,
    /// How much of the history was acknowledged or shown.
    promised: u64,
    /// How much of it a loss of power may not take.
    safe: u64,
    /// Acknowledged operations in all.
    acknowledged: u64,
    /// The high watermark seen of every partition.
    ends: BTreeMap<u64, u64>,
    /// The earliest offset seen of every partition.
    earliest: BTreeMap<u64, u64>,
    /// The wall clock in milliseconds.
    wall_ms: i64,
}

impl Checker {
    /// A checker of a log that begins empty.
    #[must_use]
    pub fn new(shared: Shared, every_commit: bool) -> Self {
        Self {
            shared,
            every_commit,
            open: BTreeSet::new(),
            places: HashMap::new(),
            known: 0,
            live: Model::default(),
            promised: 0,
            safe: 0,
            acknowledged: 0,
            ends: BTreeMap::new(),
            earliest: BTreeMap::new(),
            wall_ms: i64::MAX,
        }
    }

    /// What the wall clock shows.
    pub fn time(&mut self, wall_ms: i64) {
        self.wall_ms = wall_ms;
    }

    /// How many operations were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How much of the history was acknowledged or shown so far.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// The model of what is durable and shown.
    #[must_use]
    pub fn live(&self) -> &Model {
        &self.live
    }

    /// How many operations wait for their answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// An operation was handed to the log.
    pub fn submitted(&mut self, number: u64) {
        self.open.insert(number);
    }

    /// A sync was seen to succeed that was asked for when `promised` operations had been
    /// promised: from now on no loss of power may take these.
    pub fn synced(&mut self, promised: u64) {
        self.safe = self.safe.max(promised);
    }

    /// Takes over what was sealed and applied since the last look.
    fn catch_up(&mut self) -> Checked {
        let history = self.shared.enter();
        if let Some(broken) = &history.broken {
            return Err(Broken(broken.clone()));
        }
        for (place, sealed) in (0..).zip(&history.sealed).skip(self.known as usize) {
            self.places.insert(sealed.operation.number, place);
            self.known = place + 1;
        }
        while self.live.state.applied < history.applied {
            let next = history.sealed.get(self.live.state.applied as usize);
            let next = next.ok_or_else(|| Broken("more was applied than sealed".to_owned()))?;
            self.live.perform(&next.operation);
        }
        Ok(())
    }

    /// The log answered an operation. `faulty` says whether the disk has failed in this life.
    ///
    /// # Errors
    /// The promise that the answer breaks.
    pub fn answered(&mut self, number: u64, answer: &Answer, faulty: bool) -> Checked {
        self.catch_up()?;
        let was_open = self.open.remove(&number);
        promise!(
            was_open,
            "operation {number} was answered twice: {answer:?}"
        );
        let place = self.places.get(&number).copied();
        match answer {
            Ok((named, bases)) => {
                let Some(place) = place else {
                    return Err(Broken(format!("operation {number} was never sealed")));
                };
                let applied = self.live.state.applied;
                promise!(
                    place < applied,
                    "operation {number} was acknowledged as entry {place} and {applied} are applied"
                );
                let history = self.shared.enter();
                let sealed = history.sealed.get(place as usize).map(|s| &s.bases);
                promise!(
                    *named == number && sealed == Some(bases),
                    "operation {number} was sealed as {sealed:?} and answered {answer:?}"
                );
                drop(history);
                self.acknowledged += 1;
                self.promised = self.promised.max(place + 1);
            }
            Err(CommitError::Refused((named, why))) => promise!(
                *named == number && place.is_none(),
                "operation {number} was refused ({why}) as {named}, sealed as {place:?}"
            ),
            Err(CommitError::Unavailable(why)) => promise!(
                place.is_none(),
                "operation {number} was sealed as {place:?} and answered as not written: {why}"
            ),
            Err(CommitError::Indeterminate(why)) => {
                promise!(
                    faulty,
                    "operation {number} is indeterminate on a sound disk: {why}"
                );
            }
        }
        Ok(())
    }

    /// Compares a partition's bounds with the model of what is applied.
    ///
    /// # Errors
    /// The promise that the bounds break.
    pub fn look(&mut self, reader: &Reader, partition: u64) -> Checked {
        self.catch_up()?;
        let bounds = reader.bounds(partition_id(partition));
        let events = self.live.partitions.get(&partition);
        let end = bounds.map(|bounds| bounds.end.0);
        let expected = events.map(|events| events.len() as u64);
        promise!(
            end == expected,
            "partition {partition} has {bounds:?}, and {expected:?} events are durable"
        );
        if let Some((bounds, events)) = bounds.zip(events) {
            let limits = self.live.state.limits_of(partition);
            may_begin_at(partition, bounds.earliest.0, &limits, events, self.wall_ms)?;
            let before = self.earliest.insert(partition, bounds.earliest.0);
            promise!(
                before.is_none_or(|before| before <= bounds.earliest.0),
                "the earliest offset of {partition} went back from {before:?} to {bounds:?}"
            );
        }
        let before = self.ends.get(&partition).copied().unwrap_or(0);
        promise!(
            end.is_none_or(|end| end >= before),
            "the high watermark of {partition} went back from {before} to {end:?}"
        );
        if let Some(end) = end {
            self.ends.insert(partition, end);
        }
        self.promised = self.promised.max(self.live.state.applied);
        Ok(())
    }

    /// Reads a partition from `from` on, until its end or for `reads` reads, and compares it
    /// with the model. Damage is fine where `decayed` says that the media was changed at rest.
    ///
    /// # Errors
    /// The promise that a read breaks.
    pub fn read(&mut self, reader: &Reader, partition: u64, from: u64, reads: u64) -> Checked {
        self.look(reader, partition)?;
        let id = partition_id(partition);
        let Some(events) = self.live.partitions.get(&partition) else {
            let read = reader.read(id, Offset(from), READ_MAX_BYTES);
            promise!(
                matches!(read, Read::Unknown),
                "partition {partition} is not there and a read gave {read:?}"
            );
            return Ok(());
        };
        let earliest = reader.bounds(id).map_or(0, |bounds| bounds.earliest.0);
        if from < earliest {
            let read = reader.read(id, Offset(from), READ_MAX_BYTES);
            promise!(
                matches!(&read, Read::OutOfRange(bounds) if bounds.earliest.0 == earliest),
                "partition {partition} begins at {earliest} and a read at {from} gave {read:?}"
            );
        }
        let mut at = from.max(earliest);
        for _ in 0..reads {
            let batches = match reader.read(id, Offset(at), READ_MAX_BYTES) {
                Read::AtEnd => {
                    promise!(
                        at == events.len() as u64,
                        "partition {partition} ends at {at} of {} events",
                        events.len()
                    );
                    return Ok(());
                }
                Read::Batches(batches) => batches,
                Read::Disk(read) => read.run().map_err(|error| {
                    Broken(format!(
                        "partition {partition} cannot be read at {at}: {error}"
                    ))
                })?,
                other => {
                    return Err(Broken(format!(
                        "a read of partition {partition} at {at} of {} gave {other:?}",
                        events.len()
                    )));
                }
            };
            let next = compare(partition, at, &batches, events)?;
            promise!(
                next > at,
                "a read of partition {partition} at {at} gave nothing"
            );
            at = next;
        }
        Ok(())
    }

    /// The log came back: compares what it recovered with a beginning of the history, then
    /// everything that it serves.
    ///
    /// # Errors
    /// The promise that the recovery broke.
    pub fn recovered(&mut self, reader: &Reader, death: Death) -> Checked {
        let floor = match death {
            Death::Killed => self.promised,
            Death::PowerLost if self.every_commit => self.promised,
            Death::PowerLost => self.safe,
        };
        let state = {
            let mut history = self.shared.enter();
            let state = history.recovered.take();
            state.ok_or_else(|| Broken("the machine was not told that it recovered".to_owned()))?
        };
        let mut model = Model::default();
        {
            let mut history = self.shared.enter();
            if let Some(broken) = &history.broken {
                return Err(Broken(broken.clone()));
            }
            let applied = state.applied;
            let sealed = history.sealed.len() as u64;
            promise!(
                applied <= sealed,
                "{applied} entries came back of {sealed} that were sealed"
            );
            promise!(
                applied >= floor,
                "{applied} entries came back, and {floor} of {sealed} were promised ({death:?})"
            );
            history.sealed.truncate(applied as usize);
            history
                .sealed
                .iter()
                .for_each(|sealed| model.perform(&sealed.operation));
        }
        promise!(
            state == model.state,
            "the state came back as {state:?} instead of {:?}",
            model.state
        );
        if death == Death::PowerLost && !self.every_commit {
            // What was shown and is lost now may have been a deletion.
            self.earliest.clear();
        }
        self.begin_again(model);
        let partitions: Vec<u64> = self.ever().collect();
        for partition in partitions {
            self.read(reader, partition, 0, u64::MAX)?;
        }
        Ok(())
    }

    fn begin_again(&mut self, model: Model) {
        let applied = model.state.applied;
        self.places.retain(|_, place| *place < applied);
        self.known = applied;
        self.promised = applied;
        self.safe = applied;
        self.open.clear();
        self.ends.clear();
        self.live = model;
    }

    /// The numbers of all partitions that ever were, as far as the history goes.
    pub fn ever(&self) -> impl Iterator<Item = u64> + use<> {
        let history = self.shared.enter();
        let parts = history.sealed.iter().flat_map(|s| &s.operation.parts);
        let created = parts.filter_map(|part| match part {
            Part::Create(partition) => Some(*partition),
            _ => None,
        });
        created.collect::<Vec<_>>().into_iter()
    }
}

/// Bytes that an event takes in a batch at most, but for its value.
const EVENT_MAX_BYTES: u64 = 128;

/// Whether a partition may begin at this offset: everything that was deleted by its offset is
/// gone, and nothing else but what was old enough, or more than was to be kept.
fn may_begin_at(
    partition: u64,
    earliest: u64,
    limits: &Limits,
    events: &[EventRef],
    wall_ms: i64,
) -> Checked {
    let all = events.len() as u64;
    promise!(
        (limits.trimmed..=all).contains(&earliest),
        "partition {partition} begins at {earliest} with {limits:?} and {all} events"
    );
    let bytes = |event: &EventRef| u64::from(event.size).max(16) + EVENT_MAX_BYTES;
    let (gone, kept) = events.split_at(earliest as usize);
    let kept_bytes: u64 = kept.iter().map(bytes).sum();
    let surplus = limits
        .retention_bytes
        .is_some_and(|least| least <= kept_bytes);
    let expired = gone.iter().skip(limits.trimmed as usize).find(|event| {
        let until = |ms: u64| event.timestamp_ms() + ms as i64;
        limits.retention_ms.is_none_or(|ms| until(ms) > wall_ms)
    });
    promise!(
        surplus || expired.is_none(),
        "partition {partition} begins at {earliest}, and {expired:?} is gone at {wall_ms} with \
         {kept_bytes} bytes kept and {limits:?}"
    );
    Ok(())
}

/// Compares batches with the events from `at` on; answers where they end.
fn compare(partition: u64, at: u64, batches: &[Batch], events: &[EventRef]) -> Result<u64, Broken> {
    let mut next = None;
    for batch in batches {
        for record in batch.records() {
            let record = record.map_err(|error| {
                Broken(format!(
                    "a record of partition {partition} is not one: {error}"
                ))
            })?;
            let offset = record.offset.0;
            let expected = next.unwrap_or_else(|| offset.min(at));
            promise!(
                offset == expected,
                "partition {partition} goes on with {offset} instead of {expected}"
            );
            let event = events.get(offset as usize).ok_or_else(|| {
                Broken(format!(
                    "partition {partition} has no event {offset}: it was invented"
                ))
            })?;
            let same = record.value.as_deref() == Some(&event.value()[..])
                && record.key.as_deref() == Some(&event.key()[..])
                && record.timestamp_ms == event.timestamp_ms()
                && record.headers.len() == 1;
            promise!(
                same,
                "partition {partition} has at {offset} not {event:?} but {record:?}"
            );
            next = Some(offset + 1);
        }
    }
    Ok(next.unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ledger::{Sealed, batch_of};
    use tidemill_core::error::Unavailable;

    fn publish(number: u64) -> Operation {
        let part = Part::Publish {
            partition: 0,
            count: 2,
            size: 40,
        };
        Operation {
            number,
            parts: vec![part],
        }
    }

    /// A checker that saw operation 1 sealed, and applied where asked for.
    fn sealed(applied: bool) -> Checker {
        let shared = Shared::default();
        let mut state = State::default();
        state.perform(&publish(1));
        shared.enter().sealed.push(Sealed {
            operation: publish(1),
            bases: vec![(0, 0)],
            chain: state.chain,
        });
        shared.enter().applied = u64::from(applied);
        let mut checker = Checker::new(shared, true);
        checker.submitted(1);
        checker.submitted(2);
        checker
    }

    fn broken(applied: bool, number: u64, answer: &Answer) -> bool {
        sealed(applied).answered(number, answer, false).is_err()
    }

    #[test]
    fn wrong_answers_are_broken_promises() {
        let right: Answer = Ok((1, vec![(0, 0)]));
        assert!(!broken(true, 1, &right));
        assert!(
            broken(false, 1, &right),
            "acknowledged before it was applied"
        );
        assert!(broken(true, 1, &Ok((1, vec![(0, 7)]))), "another offset");
        assert!(broken(true, 2, &Ok((2, Vec::new()))), "never sealed");
        assert!(broken(true, 3, &right), "never submitted");
        let mut checker = sealed(true);
        checker.answered(1, &right, false).unwrap();
        assert!(
            checker.answered(1, &right, false).is_err(),
            "answered twice"
        );
    }

    #[test]
    fn what_was_sealed_is_neither_refused_nor_unavailable() {
        let refused: Answer = Err(CommitError::Refused((1, "no")));
        assert!(broken(true, 1, &refused));
        assert!(!broken(true, 2, &Err(CommitError::Refused((2, "no")))));
        let unavailable: Answer = Err(CommitError::Unavailable(Unavailable::Overloaded));
        assert!(broken(true, 1, &unavailable));
        assert!(!broken(true, 2, &unavailable));
    }

    #[test]
    fn a_sound_disk_leaves_nothing_open() {
        let open: Answer = Err(CommitError::Indeterminate("sync".to_owned()));
        assert!(sealed(true).answered(1, &open, false).is_err());
        assert!(sealed(true).answered(1, &open, true).is_ok());
    }

    #[test]
    fn records_are_compared_byte_by_byte() {
        let events: Vec<EventRef> = events_of(1, 0, 3, 40).collect();
        let batch = || batch_of(1, 0, 3, 40);
        assert_eq!(compare(0, 0, &[batch()], &events), Ok(3));
        assert_eq!(
            compare(0, 2, &[batch()], &events),
            Ok(3),
            "it may begin before"
        );
        let gap = batch().with_base_offset(Offset(3));
        assert!(compare(0, 0, &[batch(), gap], &events).is_err(), "invented");
        assert!(
            compare(0, 0, &[batch(), batch()], &events).is_err(),
            "doubled"
        );
        let other = batch_of(2, 0, 3, 40);
        assert!(compare(0, 0, &[other], &events).is_err(), "another's");
        let longer = batch_of(1, 0, 3, 41);
        assert!(compare(0, 0, &[longer], &events).is_err(), "changed");
    }

    #[test]
    fn only_what_is_old_or_too_much_may_be_gone() {
        let events: Vec<EventRef> = events_of(100, 0, 10, 40).collect();
        let old_ms = events[4].timestamp_ms();
        let gone = |earliest: u64, limits: Limits| {
            may_begin_at(0, earliest, &limits, &events, old_ms + 1_000).is_ok()
        };
        let none = Limits::default();
        assert!(gone(0, none) && !gone(1, none) && !gone(11, none));
        let trimmed = Limits { trimmed: 3, ..none };
        assert!(gone(3, trimmed) && !gone(2, trimmed) && !gone(4, trimmed));
        let retention_ms = Some(1_000);
        let aged = Limits {
            retention_ms,
            ..none
        };
        assert!(gone(0, aged) && gone(5, aged) && !gone(6, aged));
        let retention_bytes = Some(2 * (40 + EVENT_MAX_BYTES));
        let bounded = Limits {
            retention_bytes,
            ..none
        };
        assert!(gone(0, bounded) && gone(8, bounded) && !gone(9, bounded));
    }
}

//! The checker: knows everything that was sealed, acknowledged, refused or left open, and says
//! which promise of the log a run broke. May not know: how the log keeps its files.
//!
//! The promises, as they are checked:
//! - an operation is answered once; what was refused or unavailable was never sealed;
//! - a receipt comes after the machine was told of the operation, and says what was sealed;
//! - readers see exactly the sealed events below the high watermark, which never runs back, but
//!   what retention has taken from the front, and what compaction has left out: events whose key
//!   has a later one, and records without a value whose time is over, with all before them;
//! - what survives a crash is a beginning of what was sealed, whole operations in their order,
//!   and state and records are exactly those of that beginning: nothing is invented, changed,
//!   doubled or torn apart; a transaction's end is there in all of its partitions or in none;
//! - under `every_commit`, and whenever the machine itself did not lose its power, that
//!   beginning has everything that was acknowledged or shown to a reader, so settled stays
//!   settled and no offset is used for another event;
//! - under the relaxed policies it has everything that was acknowledged before the last sync;
//! - a backup that was restored is exactly the beginning that was durable at its moment;
//! - what was damaged at rest is named by reads and never served.

mod model;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidemill_log::{CommitError, Machine, Reader};

use crate::sim::ledger::{Ledger, Part, Shared, State, partition_id};
pub use model::Model;
pub(crate) use reads::Circumstances;
pub use reads::Seen;
use reads::{Expected, is_found, is_unknown, judge};

/// What the log answered to one operation.
pub type Answer = Result<<Ledger as Machine>::Receipt, CommitError<<Ledger as Machine>::Refusal>>;

/// A promise that was broken, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Breaks off with the given words unless the condition holds.
macro_rules! promise {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::sim::checker::Broken(format!($($words)+)));
        }
    };
}
pub(crate) use promise;

type Checked = Result<(), Broken>;

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
    around: Circumstances,
    seen: Seen,
}

impl Checker {
    /// A checker of a log that begins empty.
    #[must_use]
    pub fn new(shared: Shared, every_commit: bool) -> Self {
        let around = Circumstances {
            age_max_ms: i64::MAX,
            ..Circumstances::default()
        };
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
            around,
            seen: Seen::default(),
        }
    }

    /// No age was judged by a later time than `age_max_ms` so far, and ages have grown by
    /// `aged_max_ms` at most, in milliseconds.
    pub fn time(&mut self, age_max_ms: i64, aged_max_ms: u64) {
        (self.around.age_max_ms, self.around.aged_max_ms) = (age_max_ms, aged_max_ms);
    }

    /// A file of this partition was damaged at rest.
    pub fn decayed(&mut self, partition: u64) {
        self.around.decayed.insert(partition);
    }

    /// Whether a file of this partition was damaged at rest.
    #[must_use]
    pub fn is_decayed(&self, partition: u64) -> bool {
        self.around.decayed.contains(&partition)
    }

    /// Takes back that a file of this partition was damaged: that was a copy's.
    pub(crate) fn mended(&mut self, partition: u64) {
        self.around.decayed.remove(&partition);
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

    /// What reads have met.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen
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
        let new = history.sealed.get(self.known as usize..);
        for (place, sealed) in (self.known..).zip(new.unwrap_or_default()) {
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
        self.promised = self.promised.max(self.live.state.applied);
        let bounds = reader.bounds(partition_id(partition));
        let expected = Expected::of(&self.live, partition, &self.around);
        promise!(
            bounds.is_some() == expected.is_some(),
            "partition {partition} has {bounds:?}, and the model does not agree"
        );
        let (Some(bounds), Some(expected)) = (bounds, expected) else {
            return Ok(());
        };
        expected.may_have(bounds)?;
        let before = self.earliest.insert(partition, bounds.earliest.0);
        promise!(
            before.is_none_or(|before| before <= bounds.earliest.0),
            "the earliest offset of {partition} went back from {before:?} to {bounds:?}"
        );
        let before = self.ends.insert(partition, bounds.end.0);
        promise!(
            before.is_none_or(|before| before <= bounds.end.0),
            "the high watermark of {partition} went back from {before:?} to {bounds:?}"
        );
        Ok(())
    }

    /// Reads a partition from `from` on, until its end or for `reads` reads, and compares it
    /// with the model.
    ///
    /// # Errors
    /// The promise that a read breaks.
    pub fn read(&mut self, reader: &Reader, partition: u64, from: u64, reads: u64) -> Checked {
        self.look(reader, partition)?;
        let Some(expected) = Expected::of(&self.live, partition, &self.around) else {
            return is_unknown(reader, partition);
        };
        let seen = expected.read(reader, from, reads)?;
        self.seen.add(seen);
        Ok(())
    }

    /// Searches a partition for the first event of a time or later.
    ///
    /// # Errors
    /// The promise that the answer breaks.
    pub fn search(&mut self, reader: &Reader, partition: u64, since_ms: i64) -> Checked {
        self.look(reader, partition)?;
        is_found(reader, &self.live, partition, since_ms, &self.around)
    }

    /// How much of the history must be there after a death.
    fn floor(&self, death: Death) -> u64 {
        match death {
            Death::PowerLost if !self.every_commit => self.safe,
            Death::Killed | Death::PowerLost => self.promised,
        }
    }

    /// How much of the history a backup of this moment has at least.
    #[must_use]
    pub fn durable_floor(&self) -> u64 {
        self.floor(Death::PowerLost)
    }

    /// The model of the first `applied` operations.
    ///
    /// # Errors
    /// Where they are fewer than `floor` or more than were sealed.
    pub(crate) fn beginning(&self, applied: u64, floor: u64) -> Result<Model, Broken> {
        let history = self.shared.enter();
        if let Some(broken) = &history.broken {
            return Err(Broken(broken.clone()));
        }
        let sealed = history.sealed.len();
        let Some(beginning) = history.sealed.get(..applied as usize) else {
            let what = format!("{applied} entries came back of {sealed} that were sealed");
            return Err(Broken(what));
        };
        promise!(
            applied >= floor,
            "{applied} entries came back, and {floor} of {sealed} were promised"
        );
        Ok(Model::of(beginning.iter().map(|sealed| &sealed.operation)))
    }

    /// Holds a log that was opened on a copy of the disk, after a loss of power or from a backup,
    /// to a beginning of the history. Changes nothing of what is known of the log itself.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub(crate) fn copy(
        &self,
        reader: &Reader,
        state: &State,
        model: &Model,
    ) -> Result<Seen, Broken> {
        model.is(state)?;
        judge(reader, model, self.ever(), &self.around)
    }

    /// The log came back: compares what it recovered with a beginning of the history, then
    /// everything that it serves.
    ///
    /// # Errors
    /// The promise that the recovery broke.
    pub fn recovered(&mut self, reader: &Reader, death: Death) -> Checked {
        let state = self.shared.enter().recovered.take();
        let state =
            state.ok_or_else(|| Broken("the machine was not told that it recovered".to_owned()))?;
        let model = self.beginning(state.applied, self.floor(death));
        let model = model.map_err(|Broken(why)| Broken(format!("{why} ({death:?})")))?;
        model.is(&state)?;
        let applied = state.applied as usize;
        self.shared.enter().sealed.truncate(applied);
        if death == Death::PowerLost && !self.every_commit {
            // What was shown and is lost now may have been a deletion.
            self.earliest.clear();
        }
        self.begin_again(model);
        for partition in self.ever() {
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

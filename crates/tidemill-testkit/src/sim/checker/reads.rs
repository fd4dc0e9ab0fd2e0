//! What a reader may be shown of a model: every event once and in its order, but what retention
//! has taken from the front and compaction from between. May not know: the history, crashes.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::Offset;
use tidemill_log::batch::Record;
use tidemill_log::{Batch, Bounds, Cleanup, PartitionSettings, Read, ReadError, Reader};

use super::model::Model;
use super::{Broken, Checked, promise};
use crate::sim::ledger::{EventRef, Kind, Limits, State, partition_id, settings_of};
use crate::sim::scenario::WALL_MIN_MS;

/// Bytes that one read asks for at most.
const READ_MAX_BYTES: usize = 16 * 1024;

/// Bytes that an event takes in a batch at most, but for its value.
pub(super) const EVENT_MAX_BYTES: u64 = 128;

/// What is known beside the model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// No age was ever judged by a later time than this, in milliseconds.
    pub(crate) age_max_ms: i64,
    /// Ages have grown by this many milliseconds at most since the log was made.
    pub(crate) aged_max_ms: u64,
    /// Partitions whose files were damaged at rest.
    pub(crate) decayed: BTreeSet<u64>,
}

/// What a look found that not every run meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events that were fenced off as damaged.
    pub fenced: u64,
    /// Events that a compaction has left out.
    pub compacted: u64,
    /// Records without a value that a compaction has left out.
    pub forgotten: u64,
    /// Events whose segment went from between others because all of it was settled.
    pub dropped: u64,
}

impl Seen {
    /// Counts another's.
    pub fn add(&mut self, other: Self) {
        self.fenced += other.fenced;
        self.compacted += other.compacted;
        self.forgotten += other.forgotten;
        self.dropped += other.dropped;
    }
}

/// One partition as it should be.
pub(super) struct Expected<'a> {
    partition: u64,
    events: &'a [EventRef],
    latest: Option<&'a BTreeMap<[u8; 1], u64>>,
    limits: Limits,
    settings: PartitionSettings,
    state: &'a State,
    around: &'a Circumstances,
}

/// How a read went on.
enum Next {
    Batches(Vec<Batch>),
    Damaged(u64),
    End,
}

impl<'a> Expected<'a> {
    pub(super) fn of(
        model: &'a Model,
        partition: u64,
        around: &'a Circumstances,
    ) -> Option<Expected<'a>> {
        Some(Self {
            partition,
            events: model.partitions.get(&partition)?,
            latest: model.latest.get(&partition),
            limits: model.state.limits_of(partition),
            settings: settings_of(partition),
            state: &model.state,
            around,
        })
    }

    /// The earliest time that an event's record may have.
    fn time_min_ms(&self, event: &EventRef) -> i64 {
        match self.settings.append_time {
            true => WALL_MIN_MS,
            false => event.timestamp_ms(),
        }
    }

    /// Whether a record is this event, with the time that it must have.
    fn is(&self, event: &EventRef, record: &Record) -> bool {
        match self.settings.append_time {
            true => record.timestamp_ms >= WALL_MIN_MS && event.is_but_for_its_time(record),
            false => event.is(record),
        }
    }

    /// Whether the event at an offset is settled and may be gone because of that.
    fn may_be_dropped(&self, offset: u64) -> bool {
        let goes = self.settings.cleanup == Cleanup::Settled;
        goes && self.state.is_settled(self.partition, offset, offset + 1)
    }

    /// Whether a later event has replaced the one at an offset, or it is a record without a value
    /// that may have been forgotten, where the partition is compacted; or it is settled, where
    /// such go.
    fn may_be_missing(&self, offset: u64, event: &EventRef) -> bool {
        if self.may_be_dropped(offset) {
            return true;
        }
        if !self.settings.cleanup.compacts() || event.kind != Kind::Plain {
            return false;
        }
        let Some(key) = event.key() else {
            return false;
        };
        let latest = self.latest.and_then(|latest| latest.get(&key));
        let replaced = latest.is_some_and(|latest| offset < *latest);
        let waited = self.around.aged_max_ms >= self.settings.delete_retention_ms;
        replaced || (event.is_tombstone() && waited)
    }

    /// Whether the partition may begin and end at these offsets: everything that was deleted by
    /// its offset is gone, and nothing else but what was old enough, or more than was to be kept.
    pub(super) fn may_have(&self, bounds: Bounds) -> Checked {
        let (partition, earliest, all) = (self.partition, bounds.earliest.0, self.events.len());
        promise!(
            bounds.end.0 == all as u64,
            "partition {partition} has {bounds:?}, and {all} events are durable"
        );
        let limits = &self.limits;
        promise!(
            (limits.trimmed..=all as u64).contains(&earliest),
            "partition {partition} begins at {earliest} with {limits:?} and {all} events"
        );
        let bytes = |event: &EventRef| u64::from(event.size).max(16) + EVENT_MAX_BYTES;
        let (gone, kept) = self.events.split_at(earliest as usize);
        let kept_bytes: u64 = kept.iter().map(bytes).sum();
        let deletes = self.settings.cleanup.deletes();
        let most = limits.retention_bytes.filter(|_| deletes);
        if most.is_some_and(|least| least <= kept_bytes) {
            return Ok(());
        }
        let now_ms = self.around.age_max_ms;
        let is_young = |event: &EventRef| {
            let time_ms = self.time_min_ms(event);
            let until = |ms: u64| time_ms.saturating_add(ms as i64);
            let age_ms = limits.retention_ms.filter(|_| deletes);
            age_ms.is_none_or(|ms| until(ms) > now_ms)
        };
        let gone = (0..).zip(gone).skip(limits.trimmed as usize);
        let mut gone = gone.filter(|(at, event)| !self.may_be_missing(*at, event));
        let young = gone.find(|(_, event)| is_young(event));
        promise!(
            young.is_none(),
            "partition {partition} begins at {earliest}, and {young:?} is gone at {now_ms} with \
             {kept_bytes} bytes kept and {limits:?}"
        );
        Ok(())
    }

    /// Reads from `from` on, until the end or for `reads` reads.
    pub(super) fn read(&self, reader: &Reader, from: u64, reads: u64) -> Result<Seen, Broken> {
        let (id, partition) = (partition_id(self.partition), self.partition);
        let earliest = reader.bounds(id).map_or(0, |bounds| bounds.earliest.0);
        if from < earliest {
            let read = reader.read(id, Offset(from), READ_MAX_BYTES);
            promise!(
                matches!(&read, Read::OutOfRange(bounds) if bounds.earliest.0 == earliest),
                "partition {partition} begins at {earliest} and a read at {from} gave {read:?}"
            );
        }
        let whole = from <= earliest && reads == u64::MAX;
        let mut found = Found::new(self, from.max(earliest));
        for _ in 0..reads {
            let at = found.at;
            match self.next(reader, at)? {
                Next::End => {
                    promise!(
                        at == self.events.len() as u64,
                        "partition {partition} ends at {at} of {} events",
                        self.events.len()
                    );
                    if whole && found.seen.fenced == 0 {
                        self.nothing_came_back(earliest, &found)?;
                    }
                    break;
                }
                Next::Damaged(resume) => {
                    let here = self.around.decayed.contains(&partition) && resume > at;
                    promise!(
                        here,
                        "partition {partition} has damage at {at}, up to {resume}"
                    );
                    found.seen.fenced += resume - at;
                    found.at = resume;
                }
                Next::Batches(batches) => {
                    batches.iter().try_for_each(|batch| found.take(batch))?;
                    promise!(
                        found.at > at,
                        "a read of partition {partition} at {at} gave nothing"
                    );
                }
            }
        }
        Ok(found.seen)
    }

    fn next(&self, reader: &Reader, at: u64) -> Result<Next, Broken> {
        let partition = self.partition;
        let failed = |error: String| {
            let what = format!("partition {partition} cannot be read at {at}: {error}");
            Err(Broken(what))
        };
        match reader.read(partition_id(partition), Offset(at), READ_MAX_BYTES) {
            Read::AtEnd => Ok(Next::End),
            Read::Batches(batches) => Ok(Next::Batches(batches)),
            Read::Disk(read) => match read.run() {
                Ok(batches) => Ok(Next::Batches(batches)),
                Err(ReadError::Damaged { resume, why, .. })
                    if !self.around.decayed.contains(&partition) =>
                {
                    failed(format!("damage up to {resume}: {why}"))
                }
                Err(ReadError::Damaged { resume, .. }) => Ok(Next::Damaged(resume.0)),
                Err(error) => failed(error.to_string()),
            },
            other => failed(format!("{other:?} of {}", self.events.len())),
        }
    }

    /// What a reader of everything believes of a key is what it should: where a record without a
    /// value was forgotten, so was everything before it that has its key.
    fn nothing_came_back(&self, earliest: u64, found: &Found<'_>) -> Checked {
        if !self.settings.cleanup.compacts() {
            return Ok(());
        }
        let partition = self.partition;
        let mut expected = BTreeMap::new();
        for (offset, event) in (0u64..).zip(self.events).skip(earliest as usize) {
            believe(&mut expected, offset, event);
        }
        promise!(
            expected == found.believed,
            "a reader of partition {partition} from {earliest} on believes {:?} of its keys \
             instead of {expected:?}",
            found.believed
        );
        Ok(())
    }
}

/// Notes the latest value of an event's key, by its offset.
fn believe(of: &mut BTreeMap<[u8; 1], u64>, offset: u64, event: &EventRef) {
    let is_marker = matches!(event.kind, Kind::Marker { .. });
    match event.key() {
        Some(key) if !is_marker && event.is_tombstone() => {
            of.remove(&key);
        }
        Some(key) if !is_marker => {
            of.insert(key, offset);
        }
        _ => {}
    }
}

/// What was read so far.
pub(super) struct Found<'a> {
    expected: &'a Expected<'a>,
    /// Everything before was read.
    at: u64,
    believed: BTreeMap<[u8; 1], u64>,
    seen: Seen,
}

impl<'a> Found<'a> {
    pub(super) fn new(expected: &'a Expected<'a>, at: u64) -> Self {
        Self {
            expected,
            at,
            believed: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// Compares the next batch with the events from `at` on.
    pub(super) fn take(&mut self, batch: &Batch) -> Checked {
        let (partition, events) = (self.expected.partition, self.expected.events);
        let (base, end) = (batch.base_offset().0, batch.next_offset().0);
        if self.at < base {
            self.dropped(base)?;
        }
        promise!(
            base <= self.at && self.at < end,
            "partition {partition} goes on with {base}..{end} at {}",
            self.at
        );
        let mut next = self.at;
        for record in batch.records() {
            let record = record.map_err(|error| {
                Broken(format!(
                    "a record of partition {partition} is not one: {error}"
                ))
            })?;
            let offset = record.offset.0;
            let event = events.get(offset as usize).ok_or_else(|| {
                Broken(format!(
                    "partition {partition} has no event {offset}: it was invented"
                ))
            })?;
            let right_kind = batch.is_control() == matches!(event.kind, Kind::Marker { .. })
                && batch.is_transactional() == (event.kind != Kind::Plain);
            promise!(
                right_kind && self.expected.is(event, &record),
                "partition {partition} has at {offset} not {event:?} but {record:?}"
            );
            if offset < self.at {
                continue;
            }
            promise!(
                next <= offset,
                "partition {partition} goes back to {offset} from {next}"
            );
            self.left_out(next, offset)?;
            believe(&mut self.believed, offset, event);
            next = offset + 1;
        }
        self.left_out(next, end)?;
        self.at = end;
        Ok(())
    }

    /// The events up to this offset are in no segment.
    fn dropped(&mut self, to: u64) -> Checked {
        let partition = self.expected.partition;
        let mut offsets = self.at..to;
        let wrong = offsets.find(|offset| !self.expected.may_be_dropped(*offset));
        promise!(
            wrong.is_none(),
            "partition {partition} goes on with {to} at {}, and {wrong:?} is not settled",
            self.at
        );
        self.seen.dropped += to - self.at;
        self.at = to;
        Ok(())
    }

    /// The events of these offsets are not there.
    pub(super) fn left_out(&mut self, from: u64, to: u64) -> Checked {
        let partition = self.expected.partition;
        for offset in from..to {
            let event = self.expected.events.get(offset as usize);
            let may = event.filter(|event| self.expected.may_be_missing(offset, event));
            promise!(
                may.is_some(),
                "partition {partition} has nothing at {offset} instead of {event:?}"
            );
            self.seen.compacted += 1;
            self.seen.forgotten += u64::from(may.is_some_and(EventRef::is_tombstone));
        }
        Ok(())
    }
}

/// Holds everything that a reader shows of these partitions to a model.
pub(super) fn judge(
    reader: &Reader,
    model: &Model,
    partitions: impl Iterator<Item = u64>,
    around: &Circumstances,
) -> Result<Seen, Broken> {
    let mut seen = Seen::default();
    for partition in partitions {
        let bounds = reader.bounds(partition_id(partition));
        let Some(expected) = Expected::of(model, partition, around) else {
            is_unknown(reader, partition)?;
            continue;
        };
        let Some(bounds) = bounds else {
            let why = format!("partition {partition} is not there");
            return Err(Broken(why));
        };
        expected.may_have(bounds)?;
        seen.add(expected.read(reader, 0, u64::MAX)?);
    }
    Ok(seen)
}

/// There is no such partition, or no more.
pub(super) fn is_unknown(reader: &Reader, partition: u64) -> Checked {
    let read = reader.read(partition_id(partition), Offset(0), READ_MAX_BYTES);
    promise!(
        matches!(read, Read::Unknown),
        "partition {partition} is not there and a read gave {read:?}"
    );
    Ok(())
}

/// The first event of a time or later is where the log finds it.
pub(super) fn is_found(
    reader: &Reader,
    model: &Model,
    partition: u64,
    since_ms: i64,
    around: &Circumstances,
) -> Checked {
    let search = reader.since(partition_id(partition), since_ms);
    let expected = Expected::of(model, partition, around);
    let (Some(search), Some(expected)) = (search, expected) else {
        return is_unknown(reader, partition);
    };
    if around.decayed.contains(&partition) || expected.settings.append_time {
        // A lie may lead it anywhere within the bounds; and when something was appended only the
        // log knows.
        return search.run().map(drop).map_err(|e| Broken(e.to_string()));
    }
    let found = search.run().map_err(|error| Broken(error.to_string()))?.0;
    let earliest = reader.bounds(partition_id(partition));
    let earliest = earliest.map_or(0, |bounds| bounds.earliest.0);
    // What ends a transaction is nobody's event.
    let is_marker = |event: &EventRef| matches!(event.kind, Kind::Marker { .. });
    let of_time =
        |(_, event): &(u64, &EventRef)| event.timestamp_ms() >= since_ms && !is_marker(event);
    let mut fitting = (0u64..).zip(expected.events).skip(earliest as usize);
    let end = expected.events.len() as u64;
    // What lies before it was compacted away.
    let before = fitting.clone().take_while(|(at, _)| *at < found);
    let mut missed = before.filter(of_time);
    let passed_over = missed.find(|(at, event)| !expected.may_be_missing(*at, event));
    let fits = found == end
        || fitting
            .find(|(at, _)| *at == found)
            .as_ref()
            .is_some_and(of_time);
    promise!(
        fits && passed_over.is_none(),
        "a search of partition {partition} for {since_ms} gave {found} and passed over \
         {passed_over:?}"
    );
    Ok(())
}

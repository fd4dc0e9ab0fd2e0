//! What a machine may put into the entry that it is sealing.
//!
//! This room keeps how far partitions reach and how they are set, as sealed so far. It may not
//! know the disk or what is durable.

use std::collections::HashMap;

use tidemill_core::Offset;

use crate::batch::Batch;
use crate::journal::group::GroupBuilder;
use crate::machine::PartitionId;
use crate::settings::PartitionSettings;

/// How far a partition reaches, as sealed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first offset that is kept.
    pub(crate) earliest: Offset,
    /// The offset of the next record.
    pub(crate) end: Offset,
}

/// All partitions, as sealed so far.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    spans: HashMap<PartitionId, Span>,
    /// Settings that are not the default ones.
    settings: HashMap<PartitionId, PartitionSettings>,
}

impl Outlines {
    pub(crate) fn of(
        partitions: impl Iterator<Item = (PartitionId, Span, PartitionSettings)>,
    ) -> Self {
        let mut outlines = Self::default();
        for (id, span, settings) in partitions {
            outlines.spans.insert(id, span);
            outlines.set(id, settings);
        }
        outlines
    }

    fn set(&mut self, id: PartitionId, settings: PartitionSettings) -> PartitionSettings {
        let before = if settings == PartitionSettings::default() {
            self.settings.remove(&id)
        } else {
            self.settings.insert(id, settings)
        };
        before.unwrap_or_default()
    }

    /// A partition's settings; the default ones where there is no such partition.
    pub(crate) fn settings(&self, id: PartitionId) -> PartitionSettings {
        self.settings.get(&id).copied().unwrap_or_default()
    }

    /// Moves the earliest offset up; answers whether there is such a partition.
    pub(crate) fn trim(&mut self, id: PartitionId, earliest: Offset) -> bool {
        let span = self.spans.get_mut(&id);
        span.is_some_and(|span| {
            span.earliest = span.earliest.max(earliest);
            true
        })
    }

    fn put_back(&mut self, undo: Undo) {
        match undo {
            Undo::Span(id, Some(span)) => {
                self.spans.insert(id, span);
            }
            Undo::Span(id, None) => {
                self.spans.remove(&id);
            }
            Undo::Settings(id, settings) => {
                self.set(id, settings);
            }
        }
    }
}

/// What was before.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Span(PartitionId, Option<Span>),
    Settings(PartitionId, PartitionSettings),
}

/// One entry while it is sealed: partitions made and deleted, records, effects. It becomes one
/// journal entry, whole or not at all, when [`crate::Machine::seal`] answers `Ok`.
#[derive(Debug)]
pub struct Draft<'a> {
    group: &'a mut GroupBuilder,
    outlines: &'a mut Outlines,
    /// The incarnation, which is the records' leader epoch.
    epoch: i32,
    /// When it is sealed, in milliseconds since 1970.
    now_ms: i64,
    /// What `outlines` said before, to be put back in reverse.
    undo: Vec<Undo>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        group: &'a mut GroupBuilder,
        outlines: &'a mut Outlines,
        epoch: i32,
        now_ms: i64,
    ) -> Self {
        group.begin();
        Self {
            group,
            outlines,
            epoch,
            now_ms,
            undo: Vec::new(),
        }
    }

    pub(crate) fn keep(self) {
        self.group.keep();
    }

    pub(crate) fn forget(self) {
        for undo in self.undo.into_iter().rev() {
            self.outlines.put_back(undo);
        }
        self.group.forget();
    }

    /// Makes a partition, empty, at offset 0. Does nothing where there is one.
    pub fn create_partition(&mut self, id: PartitionId) {
        if self.outlines.spans.contains_key(&id) {
            return;
        }
        self.undo.push(Undo::Span(id, None));
        self.outlines.spans.insert(id, Span::default());
        self.group.create(id);
    }

    /// Deletes a partition with everything in it. Does nothing where there is none.
    pub fn delete_partition(&mut self, id: PartitionId) {
        if let Some(span) = self.outlines.spans.remove(&id) {
            let settings = self.outlines.set(id, PartitionSettings::default());
            self.undo.push(Undo::Settings(id, settings));
            self.undo.push(Undo::Span(id, Some(span)));
            self.group.delete(id);
        }
    }

    /// Gives a partition its settings, all of them. Answers whether there is such a partition.
    pub fn configure(&mut self, id: PartitionId, settings: PartitionSettings) -> bool {
        let there = self.outlines.spans.contains_key(&id);
        if there {
            let before = self.outlines.set(id, settings);
            self.undo.push(Undo::Settings(id, before));
            if before != settings {
                self.group.settings(id, settings);
            }
        }
        there
    }

    /// Appends records, whatever base offset the batch has, and answers the offset that the
    /// first of them gets. `None` where there is no such partition. Where the partition's settings
    /// say [so](PartitionSettings::append_time), the time of the records is the wall clock's now.
    pub fn append(&mut self, id: PartitionId, batch: Batch) -> Option<Offset> {
        let before = *self.outlines.spans.get(&id)?;
        let mut batch = batch
            .with_base_offset(before.end)
            .with_leader_epoch(self.epoch);
        if self.outlines.settings(id).append_time {
            batch = batch.with_append_time_ms(self.now_ms);
        }
        let end = batch.next_offset();
        self.outlines.spans.insert(id, Span { end, ..before });
        self.undo.push(Undo::Span(id, Some(before)));
        self.group.records(id, batch);
        Some(before.end)
    }

    /// Deletes the records below an offset, whatever segments they lie in, and answers the first
    /// offset that is kept then: offsets that were deleted stay so. `None` where the offset lies
    /// beyond the end, or there is no such partition.
    pub fn trim(&mut self, id: PartitionId, before: Offset) -> Option<Offset> {
        let span = *self.outlines.spans.get(&id)?;
        if before > span.end {
            return None;
        }
        if before > span.earliest {
            self.undo.push(Undo::Span(id, Some(span)));
            self.outlines.trim(id, before);
            self.group.trim(id, Vec::new(), before);
        }
        Some(span.earliest.max(before))
    }

    /// The offset that the next record gets, everything sealed so far counted. `None` where
    /// there is no such partition.
    #[must_use]
    pub fn end(&self, id: PartitionId) -> Option<Offset> {
        self.outlines.spans.get(&id).map(|span| span.end)
    }

    /// The first offset that is kept, everything sealed so far counted. `None` where there is
    /// no such partition.
    #[must_use]
    pub fn earliest(&self, id: PartitionId) -> Option<Offset> {
        self.outlines.spans.get(&id).map(|span| span.earliest)
    }

    /// A partition's settings, everything sealed so far counted; the default ones where there
    /// is no such partition.
    #[must_use]
    pub fn settings(&self, id: PartitionId) -> PartitionSettings {
        self.outlines.settings(id)
    }

    /// Adds a change of the machine's own state. See [`crate::Machine::apply`].
    pub fn effect(&mut self, kind: u16, bytes: &[u8]) {
        self.group.effect(kind, bytes);
    }
}

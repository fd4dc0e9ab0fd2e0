//! What of each partition is out, and whose it is: whoever comes touches only what is his.
//!
//! It may not know time but as an argument, nor who is a member.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::TopicId;
use tidemill_core::budget::Share;
use tidemill_log::PartitionId;

use super::records::{Plan, Records};
use super::settle::Place;
use crate::limits::SHARE_RECORD_BYTES;

/// What of a partition is out, and the memory of that.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) records: Records,
    memory: Share,
    /// When something of it ends, as it is known to all.
    due: Option<Duration>,
}

impl Part {
    pub(super) fn new(records: Records, memory: Share) -> Self {
        Self {
            records,
            memory,
            due: None,
        }
    }

    /// Takes memory for so many more records; `false` where there is none.
    pub(super) fn grow(&mut self, records: usize) -> bool {
        self.memory.grow(records * SHARE_RECORD_BYTES)
    }

    /// Gives memory back that is not needed any longer.
    pub(super) fn fit(&mut self) {
        let needs = self.records.len() * SHARE_RECORD_BYTES;
        self.memory
            .shrink(self.memory.bytes().saturating_sub(needs));
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parts {
    all: HashMap<PartitionId, Part>,
    /// When something of each ends.
    due: BTreeSet<(Duration, PartitionId)>,
    /// The partitions of which somebody has records.
    held: HashMap<ByteString, BTreeSet<PartitionId>>,
}

impl Parts {
    pub(super) fn get(&self, id: PartitionId) -> Option<&Part> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PartitionId, &Part)> {
        self.all.iter()
    }

    /// When something ends.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How many records somebody has.
    pub(super) fn held_by(&self, who: &ByteString) -> usize {
        let ids = self.held.get(who).into_iter().flatten();
        let parts = ids.filter_map(|id| self.all.get(id));
        parts.map(|part| part.records.held_by(who)).sum()
    }

    /// Does something with a partition; `None` where nothing is known of it.
    pub(super) fn with<T>(
        &mut self,
        id: PartitionId,
        with: impl FnOnce(&mut Part) -> T,
    ) -> Option<T> {
        let part = self.all.get_mut(&id)?;
        let done = with(part);
        let due = part.records.deadline();
        if due != part.due {
            if let Some(before) = std::mem::replace(&mut part.due, due) {
                self.due.remove(&(before, id));
            }
            self.due.extend(due.map(|due| (due, id)));
        }
        for who in part.records.take_moved() {
            match part.records.held_by(&who) {
                0 => lets_go(&mut self.held, &who, id),
                _ => drop(self.held.entry(who).or_default().insert(id)),
            }
        }
        Some(done)
    }

    /// The same where the position was not sought since.
    pub(super) fn with_in<T>(
        &mut self,
        (id, epoch): Place,
        with: impl FnOnce(&mut Part) -> T,
    ) -> Option<T> {
        match self.all.get(&id)?.records.epoch() == epoch {
            true => self.with(id, with),
            false => None,
        }
    }

    /// Begins anew with a partition.
    pub(super) fn put(&mut self, id: PartitionId, part: Part) {
        self.forget(id);
        self.all.insert(id, part);
    }

    pub(super) fn forget(&mut self, id: PartitionId) {
        let Some(part) = self.all.remove(&id) else {
            return;
        };
        if let Some(due) = part.due {
            self.due.remove(&(due, id));
        }
        for who in part.records.holders() {
            lets_go(&mut self.held, who, id);
        }
    }

    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        let ids = self.all.keys().filter(|id| id.topic == topic);
        let ids: Vec<_> = ids.copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
    }

    /// Takes back what members have had for too long.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<(Place, Plan)> {
        let due = self.due.iter().take_while(|(due, _)| *due <= now);
        let ids: Vec<_> = due.map(|(_, id)| *id).collect();
        self.each(ids, |part| part.records.tick(now))
    }

    /// Takes back all that one has.
    pub(super) fn release(&mut self, who: &ByteString) -> Vec<(Place, Plan)> {
        let ids = self.held.get(who).cloned().unwrap_or_default();
        self.each(ids, |part| part.records.release(who))
    }

    fn each(
        &mut self,
        ids: impl IntoIterator<Item = PartitionId>,
        with: impl Fn(&mut Part) -> Plan,
    ) -> Vec<(Place, Plan)> {
        let each = ids
            .into_iter()
            .filter_map(|id| self.with(id, |part| ((id, part.records.epoch()), with(part))));
        each.collect()
    }
}

/// Somebody has nothing of a partition any longer.
fn lets_go(
    held: &mut HashMap<ByteString, BTreeSet<PartitionId>>,
    who: &ByteString,
    id: PartitionId,
) {
    if let Some(ids) = held.get_mut(who) {
        ids.remove(&id);
        if ids.is_empty() {
            held.remove(who);
        }
    }
}

//! Segments go once all of their offsets are settled, also from between others: one record that
//! nobody settles pins its own segment and no other.
//!
//! This room may not know who settles, or what.

use std::ops::Range;

use tidemill_core::Offset;

use super::partition::PartitionState;
use super::retention::{Due, Expiry};
use crate::limits::{EXPIRY_SEGMENTS_MAX, SETTLED_SEGMENT_BYTES_MIN};
use crate::machine::PartitionId;
use crate::segment::Segment;

/// Tells what is settled.
pub(super) struct Judge<'a> {
    pub(super) is_settled: &'a dyn Fn(PartitionId, Range<Offset>) -> bool,
    /// A planted fault: see [`crate::options::Fault::DropUnnamed`].
    pub(super) drops_unnamed: bool,
}

impl PartitionState {
    /// What is due where settled segments go. Those in front move the earliest offset; those from
    /// between others leave a hole.
    pub(super) fn due_settled(
        &self,
        active: &Segment,
        closed: &[Segment],
        judge: &Judge<'_>,
    ) -> Due {
        let goes =
            |segment: &&Segment| (judge.is_settled)(self.id, segment.base..segment.written.end);
        let front = closed.iter().take_while(goes).take(EXPIRY_SEGMENTS_MAX);
        let front: Vec<Offset> = front.map(|segment| segment.base).collect();
        let earliest = self.view.earliest();
        let kept = self.segments.get(front.len());
        if let Some(kept) = kept.filter(|_| !front.is_empty()) {
            return self.delete(front, earliest.max(kept.base));
        }
        // A replay begins with the snapshot that the superblock names: it must name one behind
        // the hole, or the records there would follow nothing.
        let named = |segment: &&Segment| {
            let synced = segment.written == segment.synced;
            let names_next = segment.written.end < self.named;
            synced && (names_next || judge.drops_unnamed)
        };
        let between = closed.iter().filter(named).filter(goes);
        let between = between.take(EXPIRY_SEGMENTS_MAX);
        let between: Vec<Offset> = between.map(|segment| segment.base).collect();
        if !between.is_empty() {
            return self.delete(between, earliest);
        }
        let worth_it = active.written.bytes >= SETTLED_SEGMENT_BYTES_MIN;
        if worth_it && goes(&active) {
            return Due::Roll(active.written.end);
        }
        Due::Nothing
    }

    fn delete(&self, bases: Vec<Offset>, earliest: Offset) -> Due {
        Due::Delete(Expiry {
            id: self.id,
            bases,
            earliest,
            by: self.settings,
        })
    }
}

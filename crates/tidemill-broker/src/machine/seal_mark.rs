//! Attempt markers: what is given out is noted before it is handled.

use super::mark_effect::{Mark, MarkChange};
use super::operation::{Marked, Marks, Receipt, Refusal};
use super::seal::Decision;
use super::state::GroupKind;
use crate::limits::MARKS_MAX;

impl Decision<'_, '_> {
    /// Notes events of a group as given out in this incarnation, or as known no more. What is
    /// settled meanwhile is passed over.
    pub(super) fn mark(&mut self, marks: Marks) -> Result<Receipt, Refusal> {
        let Marks {
            group,
            epoch,
            marks,
        } = marks;
        let have = self.state.group(group);
        // Clients of another kind may have it since.
        let have = have.filter(|have| have.kind == GroupKind::Native);
        let have = have.ok_or(Refusal::UnknownGroup)?;
        let now_ms = u64::try_from(self.now.wall.as_millisecond()).unwrap_or_default();
        let mut changes = Vec::with_capacity(marks.len());
        let mut new = 0;
        for marked in marks {
            let Marked {
                partition,
                offset,
                attempts,
            } = marked;
            let known = have.mark(partition, offset);
            let cursor = have.cursors.get(&partition);
            if cursor.is_none_or(|cursor| cursor.is_settled(offset)) {
                continue;
            }
            new += usize::from(known.is_none());
            let mark = Mark {
                attempts,
                epoch,
                first_ms: known.map_or(now_ms, |known| known.first_ms),
                last_ms: now_ms,
            };
            changes.push(MarkChange {
                group,
                partition,
                offset,
                mark,
            });
        }
        if have.mark_count() + new > MARKS_MAX {
            let (what, max) = ("attempt markers of a group", MARKS_MAX);
            return Err(Refusal::TooMany { what, max });
        }
        self.changes.extend(changes.into_iter().map(Into::into));
        Ok(Receipt::Done)
    }
}

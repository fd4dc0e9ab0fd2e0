//! The records of one partition that a share group has given out and not settled:
//! `(state, now, input) -> effects`.
//!
//! Each record above the group's position is settled, is somebody's until a time, may be given out
//! again, or is being settled. Pure: it may not know the log, nor what is in a record.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytestring::ByteString;
use tidemill_core::Offset;
use tidemill_core::cursor::{Cursor, CursorBounds};

use super::types::{ShareAcknowledgement, ShareAcquired, ShareVerdict};
use crate::limits::{SHARE_AGAIN_AFTER, SHARE_AGAIN_MAX, SHARE_DELIVERIES_MAX, SHARE_WINDOW};

/// Whose a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// Whoever comes may have it.
    Nobody,
    /// A member has it until then.
    Of(ByteString, Duration),
    /// What becomes of it is being made durable.
    Settling,
}

#[derive(Clone, Debug)]
struct Record {
    deliveries: u16,
    /// How often it could not be given up.
    tries: u8,
    hold: Hold,
}

/// A piece of the log, of which nothing is left out between one and the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<Offset>,
    /// Whether there is something to be given out; what is not is passed.
    pub(super) counts: bool,
}

/// What was given out.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) acquired: Vec<ShareAcquired>,
    /// What is settled because there is nothing, ascending.
    pub(super) passed: Vec<Range<Offset>>,
}

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// A member said so.
    Rejected,
    /// It was given out as often as it may.
    GaveUp,
}

/// A record that is to be a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) offset: Offset,
    pub(super) deliveries: u16,
    pub(super) death: Death,
    /// How often it could not be given up.
    pub(super) tries: u8,
}

/// What is to be made durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// What is done, ascending.
    pub(super) settle: Vec<Range<Offset>>,
    pub(super) dead: Vec<Dead>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.dead.is_empty()
    }
}

/// Somebody speaks of what is not his.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// He does not have it (any longer).
    NotAcquired,
    /// It makes no sense.
    Invalid,
}

/// How many records each has that has some.
#[derive(Debug, Default)]
struct Holders {
    counts: BTreeMap<ByteString, usize>,
    /// Who has some and had none, or the other way round, since this was asked last.
    moved: Vec<ByteString>,
}

impl Holders {
    /// A record passes from one hold to another.
    fn pass(&mut self, hold: &mut Hold, to: Hold) {
        if let Hold::Of(who, _) = &to {
            let count = self.counts.entry(who.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.moved.push(who.clone());
            }
        }
        let from = std::mem::replace(hold, to);
        let Hold::Of(who, _) = from else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&who) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&who);
                self.moved.push(who);
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Records {
    cursor: Cursor,
    /// Nothing from here on was given out or passed.
    end: u64,
    /// What lies between the position and the end and is not settled.
    records: BTreeMap<u64, Record>,
    /// Those that nobody has.
    free: BTreeSet<u64>,
    holders: Holders,
    /// No time before this one ends what somebody has.
    due: Option<Duration>,
}

/// The bounds were kept when it was given out.
const UNBOUNDED: CursorBounds = CursorBounds {
    ranges_max: usize::MAX,
    window_max: u64::MAX,
};

/// Adds an offset to ascending ranges.
fn add(ranges: &mut Vec<Range<Offset>>, offset: u64) {
    match ranges.last_mut().filter(|last| last.end.0 == offset) {
        Some(last) => last.end = Offset(offset + 1),
        None => ranges.push(Offset(offset)..Offset(offset + 1)),
    }
}

impl Records {
    /// Of a group that is at this position.
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            end: cursor.position().0,
            cursor,
            records: BTreeMap::new(),
            free: BTreeSet::new(),
            holders: Holders::default(),
            due: None,
        }
    }

    /// How often the position was sought.
    pub(super) fn epoch(&self) -> u64 {
        self.cursor.epoch()
    }

    /// How many records are remembered.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many records members have.
    pub(super) fn in_flight(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// How many records this one has.
    pub(super) fn held_by(&self, who: &ByteString) -> usize {
        self.holders.counts.get(who).copied().unwrap_or(0)
    }

    /// Who has some.
    pub(super) fn holders(&self) -> impl Iterator<Item = &ByteString> {
        self.holders.counts.keys()
    }

    /// Who has some and had none, or the other way round, since this was asked last.
    pub(super) fn take_moved(&mut self) -> Vec<ByteString> {
        std::mem::take(&mut self.holders.moved)
    }

    /// No time before this one ends what somebody has.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Where to read for somebody who wants records; `None` while as many are out as may be.
    pub(super) fn next(&self) -> Option<Offset> {
        let end = self.cursor.next_unsettled(Offset(self.end));
        match self.free.first() {
            Some(free) => Some(Offset(*free)),
            None => (end.0 < self.window_end()).then_some(end),
        }
    }

    fn window_end(&self) -> u64 {
        self.cursor.position().0.saturating_add(SHARE_WINDOW)
    }

    /// Gives a member at least `wanted` of the records in these pieces, which begin at what
    /// [`Records::next`] said or before: whole pieces, but never more than `most` records.
    pub(super) fn acquire(
        &mut self,
        who: &ByteString,
        until: Duration,
        (wanted, most): (usize, usize),
        spans: &[Span],
    ) -> Given {
        let mut given = Given::default();
        let mut count = 0;
        for span in spans {
            // One that begins behind what was looked at says nothing of what lies between.
            if span.range.start.0 > self.next_end() {
                break;
            }
            if !span.counts {
                self.pass(span.range.clone(), &mut given.passed);
                continue;
            }
            if count >= wanted {
                break;
            }
            let from = span.range.start.0.max(self.cursor.position().0);
            for offset in from..span.range.end.0 {
                if count >= most || offset >= self.window_end() {
                    return given;
                }
                count += usize::from(self.take(who, until, offset, &mut given.acquired));
            }
        }
        given
    }

    fn next_end(&self) -> u64 {
        self.cursor.next_unsettled(Offset(self.end)).0
    }

    /// Gives one record out, if nobody has it. Answers whether it did.
    fn take(
        &mut self,
        who: &ByteString,
        until: Duration,
        offset: u64,
        acquired: &mut Vec<ShareAcquired>,
    ) -> bool {
        if offset >= self.end {
            self.end = offset + 1;
            if self.cursor.is_settled(Offset(offset)) {
                return false;
            }
            let record = Record {
                deliveries: 0,
                tries: 0,
                hold: Hold::Nobody,
            };
            self.records.insert(offset, record);
        }
        let Some(record) = self.records.get_mut(&offset) else {
            return false;
        };
        if record.hold != Hold::Nobody {
            return false;
        }
        record.deliveries += 1;
        let hold = Hold::Of(who.clone(), until);
        self.holders.pass(&mut record.hold, hold);
        self.free.remove(&offset);
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        let (at, deliveries) = (Offset(offset), record.deliveries);
        let next =
            |last: &&mut ShareAcquired| last.last.next() == at && last.deliveries == deliveries;
        match acquired.last_mut().filter(next) {
            Some(last) => last.last = at,
            None => acquired.push(ShareAcquired {
                first: at,
                last: at,
                deliveries,
            }),
        }
        true
    }

    /// There is nothing in this range: settles what nobody has of it.
    fn pass(&mut self, range: Range<Offset>, passed: &mut Vec<Range<Offset>>) {
        let held = self.records.range(range.start.0..range.end.0);
        let held = held.filter(|(_, record)| record.hold != Hold::Nobody);
        let mut from = range.start.0;
        let mut pieces = Vec::new();
        for (offset, _) in held {
            pieces.push(from..*offset);
            from = offset + 1;
        }
        pieces.push(from..range.end.0);
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let piece = Offset(piece.start)..Offset(piece.end);
            self.forget(piece.clone());
            passed.push(piece);
        }
        self.end = self.end.max(range.end.0);
    }

    /// What was deleted before anybody had it is passed: everything below `earliest`.
    pub(super) fn trim(&mut self, earliest: Offset) -> Vec<Range<Offset>> {
        let mut passed = Vec::new();
        let position = self.cursor.position();
        if position < earliest {
            self.pass(position..earliest, &mut passed);
        }
        passed
    }

    /// What cannot be read is passed.
    pub(super) fn skip(&mut self, range: Range<Offset>) -> Vec<Range<Offset>> {
        let mut passed = Vec::new();
        // What lies between the end and this is settled.
        if range.start.0 <= self.next_end() {
            self.pass(range, &mut passed);
        }
        passed
    }

    /// Settles a range.
    fn forget(&mut self, range: Range<Offset>) {
        let (from, until) = (range.start.0, range.end.0);
        let gone: Vec<u64> = self.records.range(from..until).map(|(at, _)| *at).collect();
        for offset in gone {
            if let Some(mut record) = self.records.remove(&offset) {
                self.holders.pass(&mut record.hold, Hold::Nobody);
            }
            self.free.remove(&offset);
        }
        let settled = self.cursor.settle(range, UNBOUNDED);
        settled.expect("a cursor without bounds takes everything");
    }

    /// A member says what becomes of what it has: all of it is done, or nothing.
    pub(super) fn acknowledge(
        &mut self,
        who: &ByteString,
        acknowledgements: &[ShareAcknowledgement],
    ) -> Result<Plan, Wrong> {
        self.check(who, acknowledgements)?;
        let mut plan = Plan::default();
        for one in acknowledgements {
            let verdicts = one.verdicts.iter().cycle();
            for (offset, verdict) in (one.first.0..=one.last.0).zip(verdicts) {
                self.judge(offset, *verdict, &mut plan);
            }
        }
        Ok(plan)
    }

    fn check(&self, who: &ByteString, all: &[ShareAcknowledgement]) -> Result<(), Wrong> {
        let mut above = None;
        for one in all {
            let (first, last) = (one.first.0, one.last.0);
            let length = last.checked_sub(first).ok_or(Wrong::Invalid)?;
            let length = usize::try_from(length).map_or(usize::MAX, |n| n.saturating_add(1));
            let verdicts = one.verdicts.len();
            if above.is_some_and(|above| first <= above) || (verdicts != 1 && verdicts != length) {
                return Err(Wrong::Invalid);
            }
            above = Some(last);
            let his = |record: &Record| matches!(&record.hold, Hold::Of(by, _) if by == who);
            let of = self.records.range(first..=last);
            if of.filter(|(_, record)| his(record)).count() != length {
                return Err(Wrong::NotAcquired);
            }
        }
        Ok(())
    }

    fn judge(&mut self, offset: u64, verdict: ShareVerdict, plan: &mut Plan) {
        let Some(record) = self.records.get_mut(&offset) else {
            return;
        };
        let death = match verdict {
            ShareVerdict::Release if record.deliveries < SHARE_DELIVERIES_MAX => {
                self.holders.pass(&mut record.hold, Hold::Nobody);
                self.free.insert(offset);
                return;
            }
            ShareVerdict::Release => Some(Death::GaveUp),
            ShareVerdict::Reject => Some(Death::Rejected),
            ShareVerdict::Accept | ShareVerdict::Gap => None,
        };
        self.holders.pass(&mut record.hold, Hold::Settling);
        match death {
            Some(death) => plan.dead.push(Dead {
                offset: Offset(offset),
                deliveries: record.deliveries,
                death,
                tries: record.tries,
            }),
            None => add(&mut plan.settle, offset),
        }
    }

    /// Takes back what is to be taken back of what members have.
    fn take_back(&mut self, is_back: impl Fn(&ByteString, Duration) -> bool) -> Plan {
        let (mut plan, mut due) = (Plan::default(), None);
        let mut back = Vec::new();
        for (offset, record) in &self.records {
            match &record.hold {
                Hold::Of(who, until) if is_back(who, *until) => back.push(*offset),
                Hold::Of(_, until) => {
                    due = Some(due.map_or(*until, |due: Duration| due.min(*until)));
                }
                Hold::Nobody | Hold::Settling => {}
            }
        }
        for offset in back {
            self.judge(offset, ShareVerdict::Release, &mut plan);
        }
        self.due = due;
        plan
    }

    /// Takes back what members have had for too long.
    pub(super) fn tick(&mut self, now: Duration) -> Plan {
        match self.due.is_some_and(|due| due <= now) {
            true => self.take_back(|_, until| until <= now),
            false => Plan::default(),
        }
    }

    /// Takes back all that a member has.
    pub(super) fn release(&mut self, member: &ByteString) -> Plan {
        self.take_back(|who, _| who == member)
    }

    /// What a member was given until then never came to it: others may have it, as if it had not
    /// been given out. What was released or given out since stays as it is.
    pub(super) fn not_sent(&mut self, (who, until): (&ByteString, Duration), of: ShareAcquired) {
        let hold = Hold::Of(who.clone(), until);
        for (offset, record) in self.records.range_mut(of.first.0..=of.last.0) {
            if record.hold == hold && record.deliveries == of.deliveries {
                self.holders.pass(&mut record.hold, Hold::Nobody);
                record.deliveries -= 1;
                self.free.insert(*offset);
            }
        }
    }

    /// These are settled, and that is durable.
    pub(super) fn settled(&mut self, range: Range<Offset>) {
        self.forget(range);
    }

    /// Nothing was kept of what was being settled: it is as it was, until then.
    pub(super) fn unsettled(&mut self, range: Range<Offset>, who: &ByteString, until: Duration) {
        for (_, record) in self.records.range_mut(range.start.0..range.end.0) {
            if record.hold == Hold::Settling {
                let hold = Hold::Of(who.clone(), until);
                self.holders.pass(&mut record.hold, hold);
                self.due = Some(self.due.map_or(until, |due| due.min(until)));
            }
        }
    }

    /// These could not be given up: they wait for the next try, each time for longer.
    pub(super) fn put_off(&mut self, range: Range<Offset>, now: Duration) {
        for (_, record) in self.records.range_mut(range.start.0..range.end.0) {
            if record.hold == Hold::Settling {
                let pause = SHARE_AGAIN_AFTER.saturating_mul(1 << record.tries.min(30));
                let until = now.saturating_add(pause.min(SHARE_AGAIN_MAX));
                record.tries = record.tries.saturating_add(1);
                let hold = Hold::Of(ByteString::new(), until);
                self.holders.pass(&mut record.hold, hold);
                self.due = Some(self.due.map_or(until, |due| due.min(until)));
            }
        }
    }
}

#[cfg(test)]
impl Records {
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn position(&self) -> Offset {
        self.cursor.position()
    }

    pub(super) fn is_settled(&self, offset: Offset) -> bool {
        self.cursor.is_settled(offset)
    }

    /// What holds at every moment.
    pub(super) fn hold(&self) {
        let position = self.cursor.position().0;
        let mut counts = BTreeMap::new();
        for (offset, record) in &self.records {
            if let Hold::Of(who, _) = &record.hold {
                *counts.entry(who.clone()).or_default() += 1;
            }
            assert!((position..self.end).contains(offset));
            assert!(!self.cursor.is_settled(Offset(*offset)));
            let free = record.hold == Hold::Nobody;
            assert_eq!(free, self.free.contains(offset));
            assert!(record.deliveries <= SHARE_DELIVERIES_MAX);
            assert!(free || record.deliveries > 0);
            assert!(!free || record.deliveries < SHARE_DELIVERIES_MAX);
            if let Hold::Of(_, until) = &record.hold {
                assert!(self.due.is_some_and(|due| due <= *until));
            }
        }
        assert_eq!(counts, self.holders.counts);
        for offset in position..self.end {
            let known = self.records.contains_key(&offset);
            assert!(known != self.cursor.is_settled(Offset(offset)), "{offset}");
        }
        assert!(self.records.len() as u64 <= SHARE_WINDOW);
    }
}

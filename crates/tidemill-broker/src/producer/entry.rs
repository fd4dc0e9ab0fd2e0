//! What is known of one producer in one partition: its epoch, its last batches, and where its
//! open transaction begins. Pure: it checks a batch, and takes one in. May not know: the log,
//! other partitions, transactional ids.

use thiserror::Error;
use tidemill_core::Offset;

use super::ids::{ProducerEpoch, Sequence};
use crate::limits::PRODUCER_BATCHES_MAX;

/// A batch that a producer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    pub(crate) base: Offset,
}

/// A batch as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    pub(crate) transactional: bool,
}

/// What is to become of a batch that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new.
    Append,
    /// It was written before, at this base offset.
    Duplicate(Offset),
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Wrong {
    #[error("the producer's epoch {epoch} is over, {current} is the current one")]
    Epoch {
        epoch: ProducerEpoch,
        current: ProducerEpoch,
    },
    #[error("the batch begins with sequence {found}, {expected} is the next one")]
    Sequence { found: Sequence, expected: Sequence },
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) epoch: ProducerEpoch,
    /// Oldest first, at most [`PRODUCER_BATCHES_MAX`], all of this epoch.
    pub(crate) written: Vec<Written>,
    /// The first offset of the open transaction.
    pub(crate) open: Option<Offset>,
}

impl Entry {
    /// What is to become of this batch. A producer of which nothing is known (there is no
    /// entry) may begin with any sequence, as Kafka has it: what was known may have been
    /// forgotten.
    pub(crate) fn check(have: Option<&Self>, batch: Offered) -> Result<Verdict, Wrong> {
        let Some(have) = have else {
            return Ok(Verdict::Append);
        };
        if batch.epoch < have.epoch {
            return Err(Wrong::Epoch {
                epoch: batch.epoch,
                current: have.epoch,
            });
        }
        let same = |written: &&Written| written.first == batch.first && written.last == batch.last;
        let expected = match have.written.last() {
            Some(last) if batch.epoch == have.epoch => {
                // The newest first: another may have the same numbers after 2^31 records.
                if let Some(before) = have.written.iter().rev().find(same) {
                    return Ok(Verdict::Duplicate(before.base));
                }
                last.last.plus(1)
            }
            // A new epoch begins anew.
            _ => Sequence::default(),
        };
        if batch.first == expected {
            return Ok(Verdict::Append);
        }
        Err(Wrong::Sequence {
            found: batch.first,
            expected,
        })
    }

    /// The batch was written at this base offset.
    pub(crate) fn wrote(&mut self, batch: Offered, base: Offset) {
        self.begin(batch.epoch);
        if self.written.len() >= PRODUCER_BATCHES_MAX {
            self.written.remove(0);
        }
        self.written.push(Written {
            first: batch.first,
            last: batch.last,
            base,
        });
        if batch.transactional && self.open.is_none() {
            self.open = Some(base);
        }
    }

    /// A marker of this epoch ended the transaction. Answers where that had begun.
    pub(crate) fn ended(&mut self, epoch: ProducerEpoch) -> Option<Offset> {
        self.begin(epoch);
        self.open.take()
    }

    fn begin(&mut self, epoch: ProducerEpoch) {
        if self.epoch < epoch {
            self.epoch = epoch;
            self.written.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offered(epoch: i16, first: Sequence, count: u32) -> Offered {
        Offered {
            epoch: ProducerEpoch(epoch),
            first,
            last: first.plus(count - 1),
            transactional: false,
        }
    }

    fn at(number: i32) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn the_last_five_batches_are_recognised_and_no_older_one() {
        let mut entry = Entry::default();
        for n in 0..7 {
            entry.wrote(offered(0, at(n * 2), 2), Offset(n as u64 * 10));
        }
        for n in 2..7 {
            let again = Entry::check(Some(&entry), offered(0, at(n * 2), 2));
            assert_eq!(again, Ok(Verdict::Duplicate(Offset(n as u64 * 10))));
        }
        let old = Entry::check(Some(&entry), offered(0, at(2), 2));
        let (found, expected) = (at(2), at(14));
        assert_eq!(old, Err(Wrong::Sequence { found, expected }));
        let longer = Entry::check(Some(&entry), offered(0, at(12), 3));
        assert!(longer.is_err(), "the same beginning is not the same batch");
    }

    #[test]
    fn an_epoch_begins_with_zero_and_shuts_older_ones_out() {
        let mut entry = Entry::default();
        entry.wrote(offered(3, at(0), 4), Offset(0));
        let old = Entry::check(Some(&entry), offered(2, at(4), 1));
        let (epoch, current) = (ProducerEpoch(2), ProducerEpoch(3));
        assert_eq!(old, Err(Wrong::Epoch { epoch, current }));
        assert!(Entry::check(Some(&entry), offered(4, at(4), 1)).is_err());
        let new = Entry::check(Some(&entry), offered(4, at(0), 4));
        assert_eq!(new, Ok(Verdict::Append), "not a duplicate of epoch 3");
        // A marker can end an epoch, too.
        assert_eq!(entry.ended(ProducerEpoch(5)), None);
        assert!(Entry::check(Some(&entry), offered(5, at(4), 1)).is_err());
        assert!(Entry::check(Some(&entry), offered(5, at(0), 1)).is_ok());
    }

    #[test]
    fn sequences_wrap_and_the_unknown_may_begin_anywhere() {
        let first = offered(0, at(i32::MAX - 1), 2);
        assert_eq!(Entry::check(None, first), Ok(Verdict::Append));
        let mut entry = Entry::default();
        entry.wrote(first, Offset(7));
        let wrapped = offered(0, at(0), 3);
        assert_eq!(Entry::check(Some(&entry), wrapped), Ok(Verdict::Append));
        let across = offered(0, at(i32::MAX), 3);
        assert!(Entry::check(Some(&entry), across).is_err());
        entry.wrote(wrapped, Offset(9));
        let again = Entry::check(Some(&entry), first);
        assert_eq!(again, Ok(Verdict::Duplicate(Offset(7))));
    }

    #[test]
    fn a_transaction_begins_with_its_first_batch() {
        let mut entry = Entry::default();
        entry.wrote(offered(0, at(0), 1), Offset(3));
        assert_eq!(entry.open, None);
        let inside = |number| Offered {
            transactional: true,
            ..offered(0, at(number), 1)
        };
        entry.wrote(inside(1), Offset(5));
        entry.wrote(inside(2), Offset(8));
        assert_eq!(entry.ended(ProducerEpoch(0)), Some(Offset(5)));
        assert_eq!(entry.ended(ProducerEpoch(0)), None);
        let again = Entry::check(Some(&entry), inside(2));
        assert_eq!(again, Ok(Verdict::Duplicate(Offset(8))));
    }

    /// What a producer sends: how many records, and whether an earlier batch is sent again, one
    /// is left out, or a new epoch begins.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Send(u32),
        Again(usize),
        Skip(u32),
        Bump,
        Old(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..50u32).prop_map(Step::Send),
            4 => (0..9usize).prop_map(Step::Again),
            1 => (1..50u32).prop_map(Step::Skip),
            1 => Just(Step::Bump),
            1 => (1..5u32).prop_map(Step::Old),
        ]
    }

    proptest! {
        /// The model keeps every batch of the epoch in one list and knows nothing of windows.
        #[test]
        fn every_batch_is_written_once_and_in_order(
            start in prop_oneof![Just(0), (i32::MAX - 60)..i32::MAX],
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut entry: Option<Entry> = None;
            let (mut epoch, mut next, mut end) = (0i16, at(start), 0u64);
            let mut all: Vec<(Offered, u64)> = Vec::new();
            for step in steps {
                let have = entry.as_ref();
                match step {
                    Step::Send(count) => {
                        let batch = offered(epoch, next, count);
                        prop_assert_eq!(Entry::check(have, batch), Ok(Verdict::Append));
                        entry.get_or_insert_default().wrote(batch, Offset(end));
                        all.push((batch, end));
                        (next, end) = (next.plus(count), end + u64::from(count));
                    }
                    Step::Again(back) => {
                        let Some(at) = all.len().checked_sub(back + 1) else { continue };
                        let (batch, base) = all[at];
                        let answer = Entry::check(have, batch);
                        if back < PRODUCER_BATCHES_MAX {
                            prop_assert_eq!(answer, Ok(Verdict::Duplicate(Offset(base))));
                        } else {
                            prop_assert!(answer.is_err());
                        }
                    }
                    Step::Skip(count) if entry.is_some() => {
                        let batch = offered(epoch, next.plus(count), 1);
                        let found = batch.first;
                        let gap = Err(Wrong::Sequence { found, expected: next });
                        prop_assert_eq!(Entry::check(have, batch), gap);
                    }
                    Step::Bump if entry.is_some() => {
                        epoch += 1;
                        entry.get_or_insert_default().ended(ProducerEpoch(epoch));
                        (next, all) = (at(0), Vec::new());
                    }
                    Step::Old(count) if epoch > 0 => {
                        let answer = Entry::check(have, offered(epoch - 1, next, count));
                        let fenced = matches!(answer, Err(Wrong::Epoch { .. }));
                        prop_assert!(fenced);
                    }
                    _ => {}
                }
            }
        }
    }
}

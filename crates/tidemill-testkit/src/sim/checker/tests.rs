//! The checker's own tests: each promise is broken by hand, and noticed.

use tidemill_core::Offset;
use tidemill_core::error::Unavailable;
use tidemill_log::{Batch, Bounds};

use super::reads::{EVENT_MAX_BYTES, Found};
use super::*;
use crate::sim::ledger::Operation;
use crate::sim::ledger::{EventRef, Kind, Limits, Sealed, batch_of, events_of};

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
    let state = Model::of([&publish(1)]).state;
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

/// A model whose partition has these operations' events, three of 40 bytes from each.
fn model(partition: u64, operations: std::ops::Range<u64>) -> Model {
    let publish = |number| Operation {
        number,
        parts: vec![Part::Publish {
            partition,
            count: 3,
            size: 40,
        }],
    };
    let operations: Vec<_> = operations.map(publish).collect();
    Model::of(&operations)
}

fn batch(operation: u64, base: u64) -> Batch {
    batch_of(operation, 0, 3, 40, Kind::Plain).with_base_offset(Offset(base))
}

fn takes(model: &Model, partition: u64, from: u64, batches: &[Batch]) -> bool {
    let around = Circumstances::default();
    let expected = Expected::of(model, partition, &around).unwrap();
    let mut found = Found::new(&expected, from);
    batches.iter().all(|batch| found.take(batch).is_ok())
}

#[test]
fn records_are_compared_byte_by_byte() {
    let model = model(0, 1..3);
    let takes = |from, batches: &[Batch]| takes(&model, 0, from, batches);
    assert!(takes(0, &[batch(1, 0), batch(2, 3)]));
    assert!(takes(2, &[batch(1, 0)]), "it may begin before");
    assert!(!takes(0, &[batch(2, 0)]), "another's");
    assert!(!takes(0, &[batch(2, 3)]), "a gap");
    assert!(!takes(0, &[batch(1, 0), batch(1, 0)]), "doubled");
    assert!(
        !takes(0, &[batch(1, 0), batch(2, 3), batch(3, 6)]),
        "invented"
    );
    let longer = batch_of(1, 0, 3, 41, Kind::Plain);
    assert!(!takes(0, &[longer]), "changed");
    let joined = batch_of(1, 0, 3, 40, Kind::Of(1));
    assert!(!takes(0, &[joined]), "of a transaction that it is not of");
}

#[test]
fn only_what_a_later_event_replaces_may_be_left_out_of_a_compacted_partition() {
    // Eleven keys, so that the twelfth operation's events replace the first one's.
    let (plain, compacted) = (model(0, 1..13), model(4, 1..13));
    let around = Circumstances::default();
    let missing = |model: &Model, partition, from: u64, to: u64| {
        let expected = Expected::of(model, partition, &around).unwrap();
        Found::new(&expected, from).left_out(from, to).is_ok()
    };
    assert!(missing(&compacted, 4, 0, 3), "replaced");
    assert!(!missing(&plain, 0, 0, 3), "not compacted");
    assert!(!missing(&compacted, 4, 30, 36), "the latest of their keys");
}

#[test]
fn only_what_is_old_or_too_much_may_be_gone() {
    let mut model = model(0, 100..104);
    let events: Vec<EventRef> = events_of(100, 0, 10, 40, Kind::Plain).collect();
    model.partitions.insert(0, events.clone());
    let around = Circumstances {
        age_max_ms: events[4].timestamp_ms() + 1_000,
        ..Circumstances::default()
    };
    let mut gone = |earliest: u64, limits: Limits| {
        model.state.limits.insert(0, limits);
        let bounds = Bounds {
            earliest: Offset(earliest),
            end: Offset(10),
            size_bytes: 0,
        };
        Expected::of(&model, 0, &around)
            .unwrap()
            .may_have(bounds)
            .is_ok()
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

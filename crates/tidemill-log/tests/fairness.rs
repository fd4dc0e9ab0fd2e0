//! What waits for room holds up nothing that needs none, and whoever hands in much is the one
//! who is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{ByHand, Operation, partition, read_all};
use tidemill_core::budget::{Budget, Class};
use tidemill_core::error::Unavailable;
use tidemill_core::limits::MEMORY_MIN_BYTES;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{CommitError, Disk, Io, Lane, Options, Step};

const KIB: usize = 1024;

fn open(tail_max_bytes: usize) -> (ByHand, Options) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut options = Options::default();
    options.memory = Budget::new(MEMORY_MIN_BYTES);
    options.tail_max_bytes = tail_max_bytes;
    (ByHand::open(&disk, &options).unwrap(), options)
}

/// Runs the journal's steps and answers the first one of the background, which is not run.
fn without_background(log: &mut ByHand) -> Option<Io> {
    let mut held = None;
    loop {
        match log.log.poll() {
            Step::Io(io) if io.lane == Lane::Background => {
                assert!(held.is_none(), "one at a time");
                held = Some(io);
            }
            Step::Io(io) => {
                let result = io.run(&log.files);
                log.log.finish(io.id, result);
            }
            Step::Done { token, outcome } => drop(log.ended.insert(token, outcome)),
            Step::Idle { .. } => return held,
            _ => {}
        }
    }
}

#[test]
fn what_appends_nothing_passes_a_publish_that_waits_for_the_tails() {
    let (mut log, options) = open(64 * KIB);
    let (id, other) = (partition(1, 0), partition(2, 0));
    log.run(Operation::Create(id)).unwrap();
    log.run(Operation::Create(other)).unwrap();
    let first = log.submit(Operation::Publish(id, vec![vec![1; 40 * KIB]]));
    let held = without_background(&mut log);
    assert!(log.ended.contains_key(&first));

    // Two publishers wait for the tails; of what follows, only what is in another lane and
    // appends nothing goes on.
    let waits = log.submit(Operation::Publish(id, vec![vec![2; 40 * KIB]]));
    let behind = log.submit(Operation::Create(partition(1, 1)));
    let small = log.submit(Operation::Publish(other, vec![vec![3; 10]]));
    let set = log.submit(Operation::Set(1, 2));
    let held = match held {
        Some(held) => {
            assert!(without_background(&mut log).is_none());
            held
        }
        None => without_background(&mut log).expect("the tails are to be written"),
    };
    assert!(log.ended[&set].is_ok());
    for token in [waits, behind, small] {
        assert!(!log.ended.contains_key(&token));
    }
    let set = log.submit(Operation::Set(1, 3));
    assert!(without_background(&mut log).is_none());
    assert!(log.ended[&set].is_ok(), "as often as it likes");

    let result = held.run(&log.files);
    log.log.finish(held.id, result);
    log.settle();
    for token in [waits, behind, small] {
        assert!(log.ended[&token].is_ok());
    }
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len(), 2);
    assert_eq!(options.memory.over(), 0);
}

#[test]
fn a_publisher_that_fills_what_may_wait_is_refused_and_nobody_else() {
    let (mut log, options) = open(64 << 20);
    let ids: Vec<_> = (1..=4).map(|topic| partition(topic, 0)).collect();
    for id in &ids {
        log.run(Operation::Create(*id)).unwrap();
    }
    log.ended.clear();
    let mut refused = Vec::new();
    let mut taken = Vec::new();
    for round in 0..1000 {
        taken.push(log.submit(Operation::Publish(ids[0], vec![vec![1; 4 * KIB]])));
        // Nobody looks, so all of them wait.
        if options.memory.used(Class::Writes) >= options.memory.max(Class::Writes) / 2 - 8 * KIB {
            refused.push(log.submit(Operation::Publish(ids[0], vec![vec![1; 8 * KIB]])));
        }
        if round >= 200 {
            break;
        }
    }
    assert!(!refused.is_empty());
    for id in &ids[1..] {
        taken.push(log.submit(Operation::Publish(*id, vec![vec![2; 4 * KIB]])));
    }
    let others = taken.split_off(taken.len() - 3);
    let settled: Vec<_> = (0..100).map(|n| log.submit(Operation::Set(n, n))).collect();
    assert!(options.memory.total() <= options.memory.limit());
    log.settle();
    for token in others.iter().chain(&settled) {
        assert!(log.ended[token].is_ok());
    }
    for token in &refused {
        assert_eq!(
            log.ended[token],
            Err(CommitError::Unavailable(Unavailable::Overloaded))
        );
    }
    let kept = taken
        .iter()
        .filter(|token| log.ended[*token].is_ok())
        .count();
    assert_eq!(read_all(&log.reader(), ids[0], 1 << 20).len(), kept);
    assert_eq!(options.memory.over(), 0);
}

#[test]
fn the_memory_of_what_waited_and_of_the_tails_is_given_back() {
    let (mut log, options) = open(64 << 20);
    let id = partition(1, 0);
    log.run(Operation::Create(id)).unwrap();
    for _ in 0..40 {
        log.publish(id, &[7; 16 * KIB]);
    }
    assert!(
        options.memory.used(Class::Tails) > 0,
        "some of it is in no segment yet"
    );
    assert_eq!(options.memory.used(Class::Writes), 0);
    assert!(options.memory.used(Class::Tails) <= 300 * KIB);
    log.log.close();
    log.settle();
    drop(log);
    assert_eq!(options.memory.total(), 0);
}

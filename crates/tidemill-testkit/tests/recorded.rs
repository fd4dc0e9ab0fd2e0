//! What the real driver does to a real folder, with its threads, is written down; then the power
//! goes at every point of that recording, in every way that un-synced changes can survive it.
//! And the same for the steps of small workloads, where every combination is tried.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::mpsc;

use tidemill_log::driver::{self, FileDisk, MemoryDisk};
use tidemill_log::options::Fault;
use tidemill_log::{Disk, Options};
use tidemill_testkit::sim::by_hand::ByHand;
use tidemill_testkit::sim::crash::{Effort, Tried, crash_everywhere};
use tidemill_testkit::sim::damage::options;
use tidemill_testkit::sim::ledger::{Ledger, Operation, Part, Shared};
use tidemill_testkit::sim::recording::{Event, Recorder};
use tidemill_testkit::sim::truth::Truth;

const BOUNDED: Effort = Effort {
    all_up_to: 64,
    drawn: 12,
};

/// Bytes of a value that fills some sectors.
const SIZE: u32 = 700;

fn operation(number: u64) -> Operation {
    let parts = match number {
        0..=2 => vec![Part::Create(number)],
        _ if number % 5 == 4 => vec![Part::Add { key: 1, by: number }],
        _ if number == 13 => vec![Part::Delete(2)],
        _ => vec![Part::Publish {
            partition: number % 2,
            count: 1,
            size: SIZE,
        }],
    };
    Operation { number, parts }
}

/// Two lives of the real driver on a real folder, operations handed in a few at a time.
fn recorded(options: &Options) -> (Vec<Event>, Truth) {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(Arc::new(FileDisk::new(folder.path())));
    let disk: Arc<dyn Disk> = Arc::new(recorder.clone());
    let mut done = Vec::new();
    for _ in 0..2 {
        let ledger = Ledger::new(Shared::default());
        let log = driver::open(disk.clone(), options.clone(), ledger, Arc::new(())).unwrap();
        for count in [1, 3, 2, 4] {
            let (sender, ended) = mpsc::channel();
            for _ in 0..count {
                let next = operation(done.len() as u64);
                done.push(next.clone());
                recorder.note(Event::Submitted(done.len()));
                let (recorder, sender, all) = (recorder.clone(), sender.clone(), done.len());
                log.submit(next, move |outcome| {
                    outcome.unwrap();
                    recorder.note(Event::Acknowledged(all));
                    sender.send(()).unwrap();
                });
            }
            drop(sender);
            assert_eq!(ended.iter().count(), count);
        }
        log.close();
    }
    (recorder.events(), Truth::of(&done))
}

#[test]
fn a_crash_at_any_point_of_the_real_drivers_writes_loses_nothing_acknowledged() {
    let options = options();
    let (events, truth) = recorded(&options);
    let tried = crash_everywhere(&events, &truth, &options, BOUNDED);
    let tried = tried.unwrap_or_else(|broken| panic!("{broken}"));
    println!("{tried:?}");
    assert!(tried.points > 60 && tried.images > 1000, "{tried:?}");
}

#[test]
fn a_sync_that_the_real_driver_skips_is_found() {
    let options = options().with_fault(Fault::SkipSync);
    let (events, truth) = recorded(&options);
    let broken = crash_everywhere(&events, &truth, &options, BOUNDED).unwrap_err();
    println!("{broken}");
    assert!(broken.contains("were acknowledged"), "{broken}");
}

/// The steps of some operations, each in a group of its own, as the log asks for them.
fn steps(options: &Options, operations: &[Operation]) -> Vec<Event> {
    let recorder = Recorder::new(Arc::new(MemoryDisk::new(1 << 30)));
    let disk: Arc<dyn Disk> = Arc::new(recorder.clone());
    let mut log = ByHand::open(&disk, options, 1).unwrap();
    for (before, operation) in operations.iter().enumerate() {
        recorder.note(Event::Submitted(before + 1));
        for (_, ended) in log.run(std::slice::from_ref(operation)) {
            ended.unwrap();
            recorder.note(Event::Acknowledged(before + 1));
        }
        // Half of the operations are done by a second life.
        if before + 1 == operations.len() / 2 {
            log = ByHand::open(&disk, options, 2).unwrap();
        }
    }
    recorder.events()
}

fn tried_whole(operations: &[Operation]) -> Tried {
    let mut options = options();
    // A checkpoint comes within a few operations.
    options.checkpoint_after_bytes = 8 * 1024;
    let events = steps(&options, operations);
    let all = Effort {
        all_up_to: 4096,
        drawn: 64,
    };
    let tried = crash_everywhere(&events, &Truth::of(operations), &options, all);
    let tried = tried.unwrap_or_else(|broken| panic!("{operations:?}: {broken}"));
    println!("{tried:?}");
    tried
}

fn numbered(parts: &[Part]) -> Vec<Operation> {
    let parts = parts.iter().cloned().map(|part| vec![part]);
    (0..)
        .zip(parts)
        .map(|(number, parts)| Operation { number, parts })
        .collect()
}

#[test]
fn small_workloads_survive_every_prefix_and_every_subset_of_what_was_unsynced() {
    let publish = |partition| Part::Publish {
        partition,
        count: 2,
        size: 60,
    };
    let settle = Part::Settle {
        partition: 0,
        from: 0,
        to: 1,
    };
    let workloads = [
        vec![Part::Create(0), publish(0), settle.clone(), publish(0)],
        vec![
            Part::Create(0),
            publish(0),
            Part::Delete(0),
            Part::Create(1),
        ],
        vec![Part::Create(0), Part::Create(1), publish(1), publish(0)],
        vec![
            Part::Add { key: 1, by: 1 },
            Part::Create(0),
            publish(0),
            settle,
        ],
    ];
    let mut sum = Tried::default();
    for parts in &workloads {
        let tried = tried_whole(&numbered(parts));
        sum.points += tried.points;
        sum.whole += tried.whole;
        sum.images += tried.images;
    }
    println!("{sum:?}");
    assert!(sum.images > 1000 && sum.whole + 8 > sum.points, "{sum:?}");
}

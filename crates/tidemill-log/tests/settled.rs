//! Partitions whose segments go once all of their offsets are settled, wherever they lie.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::faulty::{disk_of, every_image, image};
use common::{ByHand, Operation, Registers, SETTLED, partition, read_all};
use jiff::Timestamp;
use tidemill_core::Offset;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::inspect::verify;
use tidemill_log::limits::SETTLED_SEGMENT_BYTES_MIN;
use tidemill_log::{Cleanup, Disk, Now, Options, PartitionId, PartitionSettings, Read, ReadError};

const START_MS: i64 = 1_700_000_000_000;

fn after(millis: u64) -> Now {
    Now {
        wall: Timestamp::from_millisecond(START_MS + millis as i64).unwrap(),
        monotonic: Duration::from_millis(millis),
    }
}

/// Segments of one record, and a checkpoint after each few.
fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 16 * 1024;
    options.journal_file_max_bytes = 16 * 1024;
    options.checkpoint_after_bytes = 8 * 1024;
    options.segment_max_bytes = 1500;
    options.segment_write_after_bytes = 1;
    options.look_every = Duration::from_secs(1);
    options
}

fn id() -> PartitionId {
    partition(1, 0)
}

fn begin(disk: &Arc<dyn Disk>) -> ByHand {
    let mut log = ByHand::open_at(disk, &options(), Registers::default(), after(0)).unwrap();
    log.run(Operation::Create(id())).unwrap();
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::Settled;
    // These have no part in it.
    settings.retention_ms = Some(1);
    settings.retention_bytes = Some(1);
    log.run(Operation::Configure(id(), settings)).unwrap();
    log
}

fn again(disk: &Arc<dyn Disk>) -> ByHand {
    let mut log = ByHand::open_at(disk, &options(), Registers::default(), after(0)).unwrap();
    log.settle();
    log
}

impl ByHand {
    fn fill(&mut self, count: u64) {
        for _ in 0..count {
            self.publish(id(), &[7; 1000]);
        }
    }

    fn settled(&mut self, from: u64, to: u64) {
        self.run(Operation::Set(SETTLED + from, to)).unwrap();
    }

    fn pass(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            self.log.tick(after(second * 1000));
            self.settle();
        }
    }

    fn offsets(&self) -> Vec<u64> {
        let read = read_all(&self.reader(), id(), 1);
        read.into_iter().map(|(offset, _)| offset).collect()
    }
}

/// The first offsets of the segments on the disk.
fn bases(disk: &dyn Disk) -> Vec<u64> {
    let files = image(disk, "").into_keys();
    let files = files.filter(|path| path.starts_with("topics/") && path.ends_with(".log"));
    let base = |path: String| path[path.len() - 24..path.len() - 4].parse().unwrap();
    let mut bases: Vec<u64> = files.map(base).collect();
    bases.sort_unstable();
    bases
}

#[test]
fn the_disk_comes_back_although_the_oldest_record_is_not_settled() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut log = begin(&disk);
    log.fill(30);
    log.pass(1..4);
    assert_eq!(bases(disk.as_ref()).len(), 30, "age and size have no part");
    let Read::Disk(early) = log.reader().read(id(), Offset(7), 1) else {
        panic!("it is in a segment");
    };
    log.settled(1, 12);
    log.settled(13, 28);
    log.pass(4..8);
    assert_eq!(bases(disk.as_ref()), [0, 12, 28, 29]);
    assert!(matches!(early.run(), Err(ReadError::Gone(_))));
    let bounds = log.reader().bounds(id()).unwrap();
    assert_eq!((bounds.earliest, bounds.end), (Offset(0), Offset(30)));
    assert!(bounds.size_bytes < 5_000, "{bounds:?}");

    let left = image(disk.as_ref(), "");
    log.log.close();
    log.settle();
    let killed = disk_of(&left);
    for (disk, log) in [(&killed, again(&killed)), (&disk, again(&disk))] {
        assert_eq!(log.offsets(), [0, 12, 28, 29]);
        let found = log.reader().since(id(), 2).unwrap().run().unwrap();
        assert_eq!(found, Offset(30), "a search passes the holes");
        drop(log);
        let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
    // Once it is settled too, everything up to what is left goes from the front.
    let mut log = again(&disk);
    log.settled(0, 1);
    log.pass(1..5);
    let bounds = log.reader().bounds(id()).unwrap();
    assert_eq!(
        (bounds.earliest, log.offsets()),
        (Offset(12), vec![12, 28, 29])
    );
}

#[test]
fn what_is_written_to_goes_too_once_it_is_worth_it() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    drop(begin(&disk));
    let mut large = options();
    large.segment_max_bytes = 1 << 20;
    let mut log = ByHand::open_at(&disk, &large, Registers::default(), after(0)).unwrap();
    let count = SETTLED_SEGMENT_BYTES_MIN / 1000 - 8;
    log.fill(count);
    log.settled(0, count);
    log.pass(1..4);
    assert_eq!(log.reader().bounds(id()).unwrap().earliest, Offset(0));
    log.fill(8);
    let count = count + 8;
    log.settled(0, count);
    log.pass(4..8);
    let bounds = log.reader().bounds(id()).unwrap();
    assert_eq!(
        (bounds.earliest, bounds.end),
        (Offset(count), Offset(count))
    );
    assert_eq!(bounds.size_bytes, 0);
    log.fill(1);
    assert_eq!(log.offsets(), [count]);
}

#[test]
fn wherever_the_process_dies_what_is_not_settled_stays_and_the_disk_comes_back() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut log = begin(&disk);
    log.fill(20);
    log.pass(1..4);
    let mut images = Vec::new();
    for (from, to) in [(2, 5), (6, 9), (11, 19)] {
        log.submit(Operation::Set(SETTLED + from, to));
        images.extend(every_image(&mut log, &disk));
    }
    for second in 4..9 {
        log.submit(Operation::Publish(id(), vec![vec![7; 1000]]));
        log.log.tick(after(second * 1000));
        images.extend(every_image(&mut log, &disk));
    }
    log.log.close();
    images.extend(every_image(&mut log, &disk));
    let (mut before, mut behind) = (0, 0);
    for (step, image) in images.iter().enumerate() {
        let disk = disk_of(image);
        let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
        assert_eq!(report.damage, 0, "step {step}: {report:?}");
        let there = bases(disk.as_ref()).contains(&3);
        let mut log = again(&disk);
        let offsets = log.offsets();
        for kept in [0, 1, 5, 9, 10, 19] {
            assert!(offsets.contains(&kept), "step {step}: {offsets:?}");
        }
        before += usize::from(there);
        behind += usize::from(!there);
        // It goes on, and what was settled goes in the end.
        for (from, to) in [(2, 5), (6, 9), (11, 19)] {
            log.settled(from, to);
        }
        log.fill(4);
        log.pass(1..8);
        let left = bases(disk.as_ref());
        let gone = (2..5).chain(6..9).chain(11..19);
        for gone in gone {
            assert!(!left.contains(&gone), "step {step}: {left:?}");
        }
        let end = log.reader().bounds(id()).unwrap().end.0;
        let expected: Vec<u64> = [0, 1, 5, 9, 10].into_iter().chain(19..end).collect();
        assert_eq!(log.offsets(), expected, "step {step}");
    }
    assert!(before > 3 && behind > 3, "{before} and {behind}");
}

#[test]
fn a_segment_that_nothing_deleted_and_is_not_there_is_damage() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut log = begin(&disk);
    log.fill(12);
    log.settled(2, 5);
    log.pass(1..5);
    log.log.close();
    log.settle();
    assert!(!bases(disk.as_ref()).contains(&3));
    let mut files = image(disk.as_ref(), "");
    files.retain(|path, _| !path.ends_with(&format!("{:020}.log", 7)));
    let disk = disk_of(&files);
    let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
    let damaged: Vec<_> = report
        .findings
        .iter()
        .filter_map(|f| f.offsets.clone())
        .collect();
    assert_eq!(damaged, [Offset(7)..Offset(8)], "{:?}", report.findings);
    let log = again(&disk);
    let read = match log.reader().read(id(), Offset(7), 1) {
        Read::Disk(read) => read.run(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(read, Err(ReadError::Damaged { .. })), "{read:?}");
}

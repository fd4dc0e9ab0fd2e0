//! What a scrubbing reads, how fast, and what it says about damage.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::faulty::{disk_of, image};
use common::{ByHand, Operation, partition};
use tidemill_core::Offset;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::limits::SCRUB_PASS_EVERY;
use tidemill_log::scrub::{ScrubStep, Scrubber};
use tidemill_log::{Disk, Now, Options, Read, ReadError};

type Image = HashMap<String, Vec<u8>>;

const RATE: u64 = 10_000;

fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 64 * 1024;
    options.segment_max_bytes = 20_000;
    options
}

/// A log with 40 records of two partitions in several segments each.
fn written() -> Image {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut log = ByHand::open(&disk, &options()).unwrap();
    for id in [partition(1, 0), partition(2, 7)] {
        log.run(Operation::Create(id)).unwrap();
        for number in 0..20 {
            log.publish(id, &[number; 4200]);
        }
    }
    log.log.close();
    log.settle();
    image(disk.as_ref(), "")
}

/// Bytes of the closed segments of these partitions and their sidecars.
fn closed_bytes(image: &Image) -> u64 {
    let mut all: HashMap<&str, Vec<(&String, usize)>> = HashMap::new();
    for (path, bytes) in image.iter().filter(|(path, _)| path.starts_with("topics/")) {
        let dir = path.rsplit_once('/').unwrap().0;
        all.entry(dir).or_default().push((path, bytes.len()));
    }
    let closed = all.values_mut().flat_map(|files| {
        files.sort();
        // The log and the sidecar of the last one.
        files[..files.len() - 2].iter().map(|(_, len)| *len as u64)
    });
    closed.sum()
}

/// A log and its scrubber, whose time goes as the scrubber says.
struct Scrubbed {
    log: ByHand,
    disk: Arc<dyn Disk>,
    scrubber: Scrubber,
    clock: Duration,
}

impl Scrubbed {
    fn open(image: &Image) -> Self {
        let disk = disk_of(image);
        let log = ByHand::open(&disk, &options()).unwrap();
        let scrubber = Scrubber::new(&log.reader(), log.log.counters(), RATE);
        Self {
            log,
            disk,
            scrubber,
            clock: Duration::ZERO,
        }
    }

    fn now(&self) -> Now {
        let wall = jiff::Timestamp::UNIX_EPOCH + self.clock;
        Now {
            wall,
            monotonic: self.clock,
        }
    }

    /// One step; answers whether it was a read.
    fn step(&mut self) -> bool {
        match self.scrubber.poll(self.now()) {
            ScrubStep::Read(read) => {
                self.scrubber.finish(read.run(self.disk.as_ref()));
                true
            }
            ScrubStep::Wait(wait) => {
                self.clock += wait;
                false
            }
        }
    }

    /// Until one more pass has ended.
    fn pass(&mut self) {
        let before = self.scrubber.report().passes;
        while self.scrubber.report().passes == before {
            self.step();
        }
    }
}

#[test]
fn every_closed_segment_is_read_once_a_pass_and_no_faster_than_asked() {
    let image = written();
    let mut scrubbed = Scrubbed::open(&image);
    let mut read_at = Vec::new();
    while scrubbed.scrubber.report().passes == 0 {
        let (at, before) = (scrubbed.clock, scrubbed.scrubber.report().bytes);
        assert_eq!(scrubbed.scrubber.report().oldest_pass, None);
        if scrubbed.step() {
            read_at.push((at, before));
        }
    }
    for (at, before) in &read_at {
        let allowed = at.as_micros() as u64 * RATE / 1_000_000;
        assert!(before.abs_diff(allowed) <= 1, "{before} bytes at {at:?}");
    }
    let report = scrubbed.scrubber.report();
    assert_eq!(report.bytes, closed_bytes(&image));
    assert_eq!((report.damaged, report.damage.len()), (0, 0));
    let reader = scrubbed.log.reader();
    for id in [partition(1, 0), partition(2, 7)] {
        let verified = report.verified[&id];
        let end = reader.bounds(id).unwrap().end;
        assert!(Offset(0) < verified.through && verified.through < end);
        assert_eq!(verified.passed_at, Some(jiff::Timestamp::UNIX_EPOCH));
    }
    let stats = scrubbed.log.log.counters().read();
    assert_eq!(stats.scrubbed_bytes, report.bytes);
    assert_eq!((stats.scrub_passes, stats.scrub_damaged), (1, 0));

    // The next pass begins an hour after the first one did.
    scrubbed.pass();
    let report = scrubbed.scrubber.report();
    assert_eq!(report.bytes, 2 * closed_bytes(&image));
    let began = report.oldest_pass.unwrap() - jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(
        began.get_seconds().unsigned_abs(),
        SCRUB_PASS_EVERY.as_secs()
    );
}

#[test]
fn damage_is_named_while_reads_and_writes_go_on_and_forgotten_once_it_is_mended() {
    let image = written();
    let logs = image.keys().filter(|path| path.ends_with(".log"));
    let path = logs.min().unwrap().clone();
    let mut scrubbed = Scrubbed::open(&image);
    let file = scrubbed.disk.open(&path).unwrap();
    let second = 12 + u32::from_be_bytes(image[&path][8..12].try_into().unwrap());
    let at = u64::from(second) + 70;
    let byte = image[&path][at as usize];
    let put = |byte: u8| file.write_at(at, &[vec![byte].into()]).unwrap();
    put(byte ^ 1);
    scrubbed.pass();
    let report = scrubbed.scrubber.report();
    assert_eq!(report.damaged, 1, "{report:?}");
    let damage = &report.damage[0];
    assert_eq!((&damage.file, damage.byte), (&path, u64::from(second)));
    assert_eq!(damage.id, partition(1, 0));
    let from = damage.offsets.start;
    assert!(from > Offset(0) && damage.offsets.end > from);

    let id = damage.id;
    let Read::Disk(read) = scrubbed.log.reader().read(id, from, 1) else {
        panic!("it is on disk");
    };
    let refused = read.run().unwrap_err();
    let ReadError::Damaged { offset, resume, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(offset..resume, damage.offsets);
    assert_eq!(scrubbed.log.publish(id, b"more"), 20);
    assert!(!scrubbed.log.failed);

    scrubbed.pass();
    assert_eq!(scrubbed.scrubber.report().damaged, 1, "it is still one");
    put(byte);
    scrubbed.pass();
    let report = scrubbed.scrubber.report();
    assert_eq!((report.damaged, report.damage.len()), (0, 0));
    assert_eq!(scrubbed.log.log.counters().read().scrub_damaged, 0);
}

#[test]
fn a_flipped_byte_anywhere_in_closed_segments_is_found_in_its_file() {
    let image = written();
    let scrubbed = Scrubbed::open(&image);
    let last = |path: &str| {
        let dir = path.rsplit_once('/').unwrap().0;
        let beside = image.keys().filter(|other| other.starts_with(dir));
        let stem = |path: &String| path.rsplit_once('.').unwrap().0.to_owned();
        beside.map(stem).max().unwrap() == path.rsplit_once('.').unwrap().0
    };
    for (path, bytes) in image.iter().filter(|(path, _)| path.starts_with("topics/")) {
        let file = scrubbed.disk.open(path).unwrap();
        let step = (bytes.len() / 40) | 1;
        for at in (0..bytes.len()).step_by(step) {
            file.write_at(at as u64, &[vec![bytes[at] ^ 0x20].into()])
                .unwrap();
            let reader = scrubbed.log.reader();
            let mut scrubber = Scrubber::new(&reader, Arc::default(), u64::MAX);
            let now = scrubbed.now();
            while let ScrubStep::Read(read) = scrubber.poll(now) {
                scrubber.finish(read.run(scrubbed.disk.as_ref()));
            }
            let damage = scrubber.report().damage;
            let stem = path.rsplit_once('.').unwrap().0;
            let here = damage.iter().any(|damage| damage.file.starts_with(stem));
            assert_eq!(here, !last(path), "{path} at {at}: {damage:?}");
            assert!(damage.len() <= 1, "{path} at {at}: {damage:?}");
            file.write_at(at as u64, &[vec![bytes[at]].into()]).unwrap();
        }
    }
}

#[test]
fn a_missing_file_is_damage_unless_its_partition_was_deleted() {
    let image = written();
    let mut logs: Vec<_> = image.keys().filter(|path| path.ends_with(".log")).collect();
    logs.sort();
    let mut scrubbed = Scrubbed::open(&image);
    scrubbed.disk.remove(logs[0]).unwrap();
    let ScrubStep::Read(read) = scrubbed.scrubber.poll(scrubbed.now()) else {
        panic!("there is something to read");
    };
    scrubbed.scrubber.finish(read.run(scrubbed.disk.as_ref()));
    let report = scrubbed.scrubber.report();
    assert_eq!((report.damaged, &report.damage[0].file), (1, logs[0]));

    scrubbed.clock += Duration::from_secs(1);
    let deleted = Operation::Delete(partition(1, 0));
    scrubbed.log.run(deleted).unwrap();
    scrubbed.pass();
    assert_eq!(scrubbed.scrubber.report().damaged, 1, "nothing more");
    scrubbed.pass();
    let report = scrubbed.scrubber.report();
    assert_eq!(report.damaged, 0);
    assert_eq!(report.verified.len(), 1);
}

#[test]
fn the_driver_scrubs_by_itself_where_it_is_asked_to_and_ends_with_the_log() {
    let image = written();
    let mut options = options();
    let log = common::open(&disk_of(&image), &options).unwrap();
    assert_eq!(log.scrub(), None);
    log.close();
    options.scrub_bytes_per_second = u64::MAX;
    let log = common::open(&disk_of(&image), &options).unwrap();
    while log.scrub().unwrap().passes == 0 {
        std::thread::yield_now();
    }
    assert_eq!(log.scrub().unwrap().bytes, closed_bytes(&image));
    assert_eq!(log.stats().scrubbed_bytes, closed_bytes(&image));
    log.close();
    assert_eq!(log.scrub().unwrap().passes, 1);
}

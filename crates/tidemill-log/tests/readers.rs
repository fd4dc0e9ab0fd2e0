//! Readers beside a writer: whatever moves from memory to segments meanwhile, they see every
//! record once and in order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

use common::{Operation, Registers, ok, open, partition, submit};
use tidemill_core::Offset;
use tidemill_core::error::Unavailable;
use tidemill_log::driver::{self, MemoryDisk, Observer};
use tidemill_log::{Disk, Options, PartitionId, Read, ReadError, Reader};

const RECORDS: u64 = 20_000;

fn small() -> Options {
    let mut options = Options::default();
    options.tail_max_bytes = 64 * 1024;
    options.segment_write_after_bytes = 2 * 1024;
    options.segment_max_bytes = 50 * 1024;
    options.checkpoint_after_bytes = 256 * 1024;
    options
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

/// Reads from `from` on until all records were seen, and checks each.
fn follow(reader: &Reader, id: PartitionId, from: u64, max_bytes: usize) -> (u64, u64) {
    let (mut next, mut in_memory, mut on_disk) = (from, 0, 0);
    while next < RECORDS {
        let batches = match reader.read(id, Offset(next), max_bytes) {
            Read::Batches(batches) => {
                in_memory += 1;
                batches
            }
            Read::Disk(read) => {
                on_disk += 1;
                read.run().unwrap()
            }
            Read::AtEnd => {
                thread::yield_now();
                continue;
            }
            other => panic!("{other:?} at {next}"),
        };
        assert!(batches[0].base_offset().0 <= next);
        for record in batches.iter().flat_map(|batch| batch.records()) {
            let record = record.unwrap();
            if record.offset.0 >= next {
                assert_eq!(record.offset.0, next);
                assert_eq!(record.value.unwrap().as_ref(), next.to_le_bytes());
                next += 1;
            }
        }
    }
    (in_memory, on_disk)
}

#[test]
fn readers_see_every_record_once_while_the_tail_is_written_out() {
    let id = partition(1, 0);
    let log = open(&disk(), &small()).unwrap();
    ok(&log, Operation::Create(id));
    let seen = thread::scope(|scope| {
        let follow = |max_bytes: usize| {
            let reader = log.reader().clone();
            scope.spawn(move || follow(&reader, id, 0, max_bytes))
        };
        let readers = [follow(1), follow(700), follow(1 << 20)];
        let mut waiting = Vec::new();
        for number in 0..RECORDS {
            let value = number.to_le_bytes().to_vec();
            waiting.push(submit(&log, Operation::Publish(id, vec![value])));
            if waiting.len() == 100 {
                for end in waiting.drain(..) {
                    end.recv().unwrap().unwrap();
                }
            }
        }
        readers.map(|reader| reader.join().unwrap())
    });
    log.close();
    // From the beginning again: now everything is on disk.
    for max_bytes in [1000, 1 << 20] {
        let (in_memory, on_disk) = follow(log.reader(), id, RECORDS - 5_000, max_bytes);
        assert!(in_memory == 0 && on_disk > 0);
    }
    let from_disk: u64 = seen.iter().map(|(_, on_disk)| on_disk).sum();
    let from_memory: u64 = seen.iter().map(|(in_memory, _)| in_memory).sum();
    assert!(
        from_memory > 0 && from_disk > 0,
        "{from_memory} and {from_disk}"
    );
}

/// Keeps every high watermark that it is told.
#[derive(Default)]
struct Watching {
    ends: Mutex<BTreeMap<PartitionId, Vec<u64>>>,
}

impl Observer for Watching {
    fn advanced(&self, id: PartitionId, end: Offset) {
        self.ends.lock().unwrap().entry(id).or_default().push(end.0);
    }

    fn failed(&self, why: &Unavailable) {
        panic!("{why}");
    }
}

#[test]
fn an_observer_is_told_of_every_advance_before_the_receipts() {
    let watching = Arc::new(Watching::default());
    let log = driver::open(disk(), small(), Registers::default(), watching.clone()).unwrap();
    let ids = [partition(1, 0), partition(1, 1)];
    for id in ids {
        ok(&log, Operation::Create(id));
    }
    for number in 0..200 {
        let id = ids[number as usize % 2];
        let offset = ok(&log, Operation::Publish(id, vec![vec![1; 10], vec![2; 10]]));
        let told = watching
            .ends
            .lock()
            .unwrap()
            .get(&id)
            .and_then(|ends| ends.last().copied());
        assert_eq!(told, Some(offset + 2));
    }
    for ends in watching.ends.lock().unwrap().values() {
        assert!(ends.is_sorted(), "{ends:?}");
    }
}

#[test]
fn a_segment_without_its_file_is_damage_and_the_rest_is_read() {
    let (id, disk) = (partition(1, 0), disk());
    let log = open(&disk, &small()).unwrap();
    ok(&log, Operation::Create(id));
    for number in 0..200_u64 {
        ok(&log, Operation::Publish(id, vec![vec![number as u8; 1000]]));
    }
    log.close();
    let folder = format!("topics/{}/0", id.topic);
    let mut names = disk.list(&folder).unwrap();
    names.sort();
    for missing in [".log", ".sum"] {
        let name = names.iter().find(|name| name.ends_with(missing)).unwrap();
        disk.remove(&format!("{folder}/{name}")).unwrap();
        let log = open(&disk, &small()).unwrap();
        let Read::Disk(read) = log.reader().read(id, Offset(0), 1) else {
            panic!("it is in a segment");
        };
        let Err(ReadError::Damaged { offset, resume, .. }) = read.run() else {
            panic!("{missing} is not there, so it is damage");
        };
        assert!(offset == Offset(0) && resume > offset);
        let Read::Disk(read) = log.reader().read(id, resume, 1) else {
            panic!("the next one is in a segment too");
        };
        assert_eq!(read.run().unwrap()[0].base_offset(), resume);
        assert_eq!(log.reader().since(id, 0).unwrap().run().unwrap(), Offset(0));
        log.close();
    }
}

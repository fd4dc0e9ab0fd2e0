//! Searching for the first record of a time, in memory and in segments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Operation, Registers, ok, open, partition};
use tidemill_core::Offset;
use tidemill_log::driver::{Handle, MemoryDisk};
use tidemill_log::{Batch, BatchBuilder, Disk, Options, PartitionId};

fn small() -> Options {
    let mut options = Options::default();
    options.segment_write_after_bytes = 1024;
    options.segment_max_bytes = 8 * 1024;
    options.tail_max_bytes = 64 * 1024;
    options.checkpoint_after_bytes = 256 * 1024;
    options
}

/// A batch of records with these times.
fn batch(times: &[i64]) -> Batch {
    batch_of(times, 1500)
}

fn batch_of(times: &[i64], bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let value = vec![7; bytes];
    for time in times {
        builder
            .push(*time, None, Some(&value), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

/// What a look at every record says.
fn expected(times: &[i64], since_ms: i64) -> u64 {
    let found = times.iter().position(|time| *time >= since_ms);
    found.unwrap_or(times.len()) as u64
}

fn check_all(log: &Handle<Registers>, id: PartitionId, times: &[i64]) {
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    for since_ms in first - 2..=last + 2 {
        let search = log.reader().since(id, since_ms).unwrap();
        let found = search.run().unwrap();
        assert_eq!(found, Offset(expected(times, since_ms)), "since {since_ms}");
    }
}

#[test]
fn the_first_record_of_a_time_is_found_in_memory_and_on_disk() {
    let id = partition(1, 0);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let log = open(&disk, &small()).unwrap();
    ok(&log, Operation::Create(id));
    assert_eq!(log.reader().since(id, 0).unwrap().run().unwrap(), Offset(0));
    assert!(log.reader().since(partition(2, 0), 0).is_none());
    let mut times = Vec::new();
    // Ascending in all, not from record to record, with one far ahead in the middle.
    for number in 0..60 {
        let ahead = if number == 30 { 500 } else { 0 };
        let own = [number * 3 + 2, number * 3 + ahead, number * 3 + 1];
        times.extend(own);
        ok(&log, Operation::Append(id, batch(&own)));
        if number == 3 {
            check_all(&log, id, &times);
        }
    }
    check_all(&log, id, &times);
    log.close();
    let log = open(&disk, &small()).unwrap();
    check_all(&log, id, &times);
    // Some in segments, some in memory.
    for number in 60..64 {
        times.push(number * 3);
        ok(&log, Operation::Append(id, batch(&[number * 3])));
    }
    check_all(&log, id, &times);
}

#[test]
fn a_damaged_place_that_may_hold_it_is_the_answer() {
    let id = partition(1, 0);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut options = small();
    options.segment_max_bytes = 64 * 1024;
    let log = open(&disk, &options).unwrap();
    // Too large to be merged with its neighbours, however many wait together.
    let alone = |time| batch_of(&[time], 5000);
    ok(&log, Operation::Create(id));
    for number in 0..20 {
        ok(&log, Operation::Append(id, alone(number * 10)));
    }
    log.close();
    let folder = format!("topics/{}/0", id.topic);
    let segments = disk.list(&folder).unwrap();
    let first = segments
        .iter()
        .find(|name| name.ends_with("00.log"))
        .unwrap();
    let file = disk.open(&format!("{folder}/{first}")).unwrap();
    // In the value of the third record.
    let size = alone(0).size_bytes() as u64;
    file.write_at(2 * size + 200, &[bytes::Bytes::from_static(b"x")])
        .unwrap();
    let log = open(&disk, &options).unwrap();
    let since = |ms| log.reader().since(id, ms).unwrap().run().unwrap();
    assert_eq!(since(10), Offset(1));
    assert_eq!(since(15), Offset(2), "the damaged one may be it, and is");
    assert_eq!(since(25), Offset(3));
}

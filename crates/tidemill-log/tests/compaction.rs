//! Compaction: the latest record of each key stays, whatever happens meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::faulty::{FaultyDisk, disk_of, every_image, image};
use common::{ByHand, Operation, Registers, partition};
use jiff::Timestamp;
use tidemill_core::Offset;
use tidemill_log::backup::{Taking, take};
use tidemill_log::batch::{CompressionType, Producer};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::inspect::verify;
use tidemill_log::{
    BatchBuilder, Cleanup, Disk, Now, Options, PartitionId, PartitionSettings, Read, Reader, Step,
};
use uuid::Uuid;

const HOUR_MS: u64 = 60 * 60 * 1000;
const START_MS: u64 = 24_000 * HOUR_MS;

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

fn id() -> PartitionId {
    partition(1, 0)
}

fn after(millis: u64) -> Now {
    Now {
        wall: Timestamp::from_millisecond((START_MS + millis) as i64).unwrap(),
        monotonic: Duration::from_millis(millis),
    }
}

fn small() -> Options {
    let mut options = Options::default();
    options.segment_max_bytes = 2000;
    options.segment_write_after_bytes = 1;
    options.look_every = Duration::from_secs(1);
    options
}

fn compacted() -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::Compact;
    settings.delete_retention_ms = HOUR_MS;
    settings
}

fn begin(disk: &Arc<dyn Disk>, settings: PartitionSettings) -> ByHand {
    let mut log = ByHand::open_at(disk, &small(), Registers::default(), after(0)).unwrap();
    log.run(Operation::Create(id())).unwrap();
    log.run(Operation::Configure(id(), settings)).unwrap();
    log
}

/// A record: its offset, key and value.
type Found = (u64, Option<Vec<u8>>, Option<Vec<u8>>);

fn read_rows(reader: &Reader) -> Vec<Found> {
    let bounds = reader.bounds(id()).unwrap();
    let (mut next, mut found) = (bounds.earliest, Vec::new());
    while next < bounds.end {
        let batches = match reader.read(id(), next, 1) {
            Read::Batches(batches) => batches,
            Read::Disk(read) => read.run().unwrap(),
            other => panic!("{other:?} at {next}"),
        };
        for batch in &batches {
            assert!(batch.base_offset() <= next && next < batch.next_offset());
            for record in batch.checked_records().unwrap() {
                let record = record.unwrap();
                let owned = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
                if record.offset >= next {
                    found.push((record.offset.0, owned(record.key), owned(record.value)));
                }
            }
            next = batch.next_offset();
        }
    }
    found
}

/// What a reader of all records believes of each key.
fn believed(rows: &[Found]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    for (_, key, value) in rows {
        match (key.clone(), value.clone()) {
            (Some(key), Some(value)) => drop(state.insert(key, value)),
            (Some(key), None) => drop(state.remove(&key)),
            (None, _) => {}
        }
    }
    state
}

impl ByHand {
    /// Publishes `count` values of 100 bytes for each of a few keys, in turn.
    fn turns(&mut self, count: usize, keys: usize) {
        for turn in 0..count {
            for key in 0..keys {
                let mut value = vec![turn as u8; 100];
                value[0] = key as u8;
                self.put(format!("key-{key}").as_bytes(), Some(&value));
            }
        }
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let row = (
            START_MS as i64,
            Some(key.to_vec()),
            value.map(<[u8]>::to_vec),
        );
        self.run(Operation::Records(id(), vec![row])).unwrap();
    }

    /// Lets the time pass, with a checkpoint, and the log do what is due then.
    fn pass(&mut self, millis: u64) {
        for more in [0, 1_500, 3_000, 4_500] {
            self.log.tick(after(millis + more));
            self.settle();
        }
    }

    fn rows(&self) -> Vec<Found> {
        read_rows(&self.reader())
    }
}

/// Closes and opens again, so that every segment is synced.
fn reopen(mut log: ByHand, disk: &Arc<dyn Disk>, millis: u64) -> ByHand {
    log.log.close();
    log.settle();
    drop(log);
    ByHand::open_at(disk, &small(), Registers::default(), after(millis)).unwrap()
}

fn is_sound(disk: &dyn Disk) {
    let report = verify(disk, &mut (), &mut |_| {}).unwrap();
    assert_eq!(report.damage, 0, "{report:?}");
}

#[test]
fn the_latest_record_of_each_key_stays_at_its_offset() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    log.run(Operation::Publish(id(), vec![b"no key".to_vec()]))
        .unwrap();
    log.turns(30, 4);
    let before = log.rows();
    let bytes = log.reader().bounds(id()).unwrap().size_bytes;
    let mut log = reopen(log, &disk, 1_000);
    log.pass(10_000);
    let rows = log.rows();
    assert!(rows.len() < before.len() / 3, "{} rows", rows.len());
    assert!(rows.iter().all(|row| before.contains(row)));
    assert_eq!(rows[0].2.as_deref(), Some(&b"no key"[..]));
    assert_eq!(believed(&rows), believed(&before));
    let bounds = log.reader().bounds(id()).unwrap();
    assert_eq!(
        (bounds.earliest, bounds.end.0),
        (Offset(0), before.len() as u64)
    );
    assert!(bounds.size_bytes < bytes / 3, "{bounds:?}");
    // What is left of a segment without records is one empty batch.
    let names = disk.list(&format!("topics/{}/0", id().topic)).unwrap();
    let sums = names.iter().filter(|name| name.ends_with("-1.sum"));
    let lines = sums.map(|name| {
        let file = disk.open(&format!("topics/{}/0/{name}", id().topic));
        file.unwrap().len().unwrap() / 32
    });
    let lines: Vec<_> = lines.collect();
    assert!(
        lines.iter().filter(|lines| **lines == 1).count() > 5,
        "{lines:?}"
    );
    assert_eq!(log.log.counters().read().compactions, 1);
    // A read may begin at an offset that is gone.
    let Read::Disk(read) = log.reader().read(id(), Offset(7), 1) else {
        panic!("it is in a segment");
    };
    assert!(read.run().unwrap()[0].next_offset() > Offset(7));
    is_sound(disk.as_ref());
    let mut log = reopen(log, &disk, 20_000);
    assert_eq!(log.rows(), rows);
    is_sound(disk.as_ref());
    // The next ones go on from there.
    log.turns(60, 4);
    let before = log.rows();
    let mut log = reopen(log, &disk, 30_000);
    log.pass(40_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert!(log.rows().len() < before.len() / 3);
    assert_eq!(believed(&log.rows()), believed(&before));
    is_sound(disk.as_ref());
}

#[test]
fn what_must_be_compacted_by_a_time_is_so_without_waiting_for_anything_else() {
    let compactions = |lag_ms: Option<u64>| {
        let disk = memory();
        let mut settings = compacted();
        settings.compaction_lag_max_ms = lag_ms;
        let mut log = begin(&disk, settings);
        log.turns(30, 4);
        let before = log.rows();
        log.pass(10_000);
        let rows = log.rows();
        assert_eq!(believed(&rows), believed(&before));
        is_sound(disk.as_ref());
        let done = log.log.counters().read().compactions;
        (done, rows.len())
    };
    // Nothing else makes a checkpoint, or closes the segment that is written to.
    assert_eq!(compactions(None), (0, 120));
    let (done, rows) = compactions(Some(100));
    assert!((1..=3).contains(&done) && rows == 4, "{done}, {rows} rows");
    assert_eq!(compactions(Some(HOUR_MS)), (0, 120));
}

/// Each takes a snapshot of everything: one every few seconds was the price of a topic of which
/// everything is to be compacted at once.
#[test]
fn checkpoints_for_the_sake_of_compactions_alone_keep_their_distance() {
    let checkpoints = |lag_ms: u64, passed_ms: u64, rounds: u64| {
        let disk = memory();
        let mut settings = compacted();
        settings.compaction_lag_max_ms = Some(lag_ms);
        let mut log = begin(&disk, settings);
        for round in 1..=rounds {
            // There is always something to compact, and never enough for a checkpoint.
            log.turns(8, 4);
            log.pass(round * passed_ms);
        }
        let counters = log.log.counters().read();
        assert!(counters.compactions > 0 && log.rows().len() < 500);
        is_sound(disk.as_ref());
        counters.checkpoints
    };
    // Twenty minutes of everything at once.
    let made = checkpoints(1, 5_000, 12 * 20);
    assert!((60..=121).contains(&made), "{made} in twenty minutes");
    // What may wait for longer needs fewer.
    let made = checkpoints(HOUR_MS, 60_000, 4 * 60);
    assert!((3..=5).contains(&made), "{made} in four hours");
}

#[test]
fn the_time_of_appending_stays_through_a_compaction_and_is_found() {
    let disk = memory();
    let mut settings = compacted();
    settings.append_time = true;
    let mut log = begin(&disk, settings);
    log.put(b"once", Some(b"value"));
    log.turns(15, 4);
    log.log.tick(after(60_000));
    log.turns(15, 4);
    let since = |log: &ByHand, millis: u64| {
        let search = log.reader().since(id(), (START_MS + millis) as i64);
        search.unwrap().run().unwrap().0
    };
    let mut log = reopen(log, &disk, 61_000);
    // What the records say themselves is the beginning, for all of them.
    assert_eq!((since(&log, 0), since(&log, 1)), (0, 61));
    log.pass(70_000);
    let rows = log.rows();
    assert!(rows.len() < 40, "{} rows", rows.len());
    for (offset, ..) in rows {
        let Read::Disk(read) = log.reader().read(id(), Offset(offset), 1) else {
            panic!("it is in a segment");
        };
        let batch = read.run().unwrap().remove(0);
        let passed_ms = if offset == 0 { 0 } else { 60_000 };
        let time_ms = (START_MS + passed_ms) as i64;
        assert_eq!(batch.append_time_ms(), Some(time_ms), "{offset}");
    }
    assert_eq!(since(&log, 0), 0);
    is_sound(disk.as_ref());
}

#[test]
fn what_is_younger_than_it_must_be_is_not_compacted() {
    let disk = memory();
    let mut settings = compacted();
    settings.compaction_lag_min_ms = HOUR_MS;
    settings.compaction_lag_max_ms = Some(HOUR_MS);
    settings.segment_ms = Some(500);
    let mut log = begin(&disk, settings);
    log.turns(30, 4);
    log.pass(HOUR_MS / 2);
    assert_eq!(log.rows().len(), 120);
    log.pass(2 * HOUR_MS);
    assert_eq!(log.rows().len(), 4);
    is_sound(disk.as_ref());
}

#[test]
fn a_record_without_a_value_goes_once_everybody_had_the_time_to_see_it() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    log.put(b"gone", Some(b"value"));
    log.put(b"gone", None);
    log.turns(30, 3);
    let mut log = reopen(log, &disk, 1_000);
    log.pass(10_000);
    let of_gone = |log: &ByHand| {
        let rows = log.rows().into_iter();
        let own = rows.filter(|(_, key, _)| key.as_deref() == Some(b"gone"));
        own.map(|(_, _, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(
        of_gone(&log),
        [None],
        "the value is gone, what says so is not"
    );
    // Within the time, compacting again keeps it.
    log.turns(60, 3);
    let mut log = reopen(log, &disk, 20_000);
    log.pass(30_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert_eq!(of_gone(&log), [None]);
    log.turns(120, 3);
    let mut log = reopen(log, &disk, 40_000);
    log.pass(2 * HOUR_MS);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert_eq!(of_gone(&log), []);
    let mut log = reopen(log, &disk, 2 * HOUR_MS + 10_000);
    assert_eq!(of_gone(&log), []);
    log.put(b"gone", Some(b"again"));
    assert_eq!(of_gone(&log), [Some(b"again".to_vec())]);
    is_sound(disk.as_ref());
}

#[test]
fn transactions_and_packed_batches_are_left_as_they_are_or_packed() {
    for compression in [CompressionType::None, CompressionType::Lz4] {
        let disk = memory();
        let mut settings = compacted();
        settings.compression = compression;
        let mut log = begin(&disk, settings);
        let producer = Producer {
            id: 4,
            epoch: 0,
            base_sequence: 0,
        };
        let batch = |transactional: bool, packed: bool| {
            let mut builder = BatchBuilder::new().producer(producer);
            if transactional {
                builder = builder.transactional();
            }
            for value in 0..5u8 {
                let value = vec![value; 60];
                builder
                    .push(1, Some(b"key-1"), Some(&value), std::iter::empty())
                    .unwrap();
            }
            let batch = builder.finish().unwrap();
            if packed {
                batch.compressed(CompressionType::Lz4)
            } else {
                batch
            }
        };
        for (transactional, packed) in [(true, false), (false, false), (false, true)] {
            let batch = batch(transactional, packed);
            log.run(Operation::Append(id(), batch)).unwrap();
        }
        log.turns(30, 3);
        let before = log.rows();
        let mut log = reopen(log, &disk, 1_000);
        log.pass(10_000);
        let rows = log.rows();
        assert_eq!(rows[..5], before[..5], "those of the transaction");
        assert!(rows[5].0 >= 15, "the others have later ones: {:?}", rows[5]);
        assert_eq!(believed(&rows), believed(&before));
        is_sound(disk.as_ref());
    }
}

#[test]
fn wherever_the_process_dies_nothing_is_lost_and_it_is_done_in_the_end() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    log.put(b"gone", Some(b"value"));
    log.put(b"gone", None);
    log.turns(20, 3);
    let before = log.rows();
    let mut log = reopen(log, &disk, 1_000);
    let mut images = Vec::new();
    for millis in [1_000, 2_500] {
        log.log.tick(after(millis));
        images.extend(every_image(&mut log, &disk));
    }
    assert_eq!(log.log.counters().read().compactions, 1);
    // With something to be done for the journal's tail.
    log.turns(1, 3);
    let more = log.rows();
    log.log.close();
    let closing = every_image(&mut log, &disk);
    let mut lengths = BTreeMap::new();
    let images = images.into_iter().map(|image| (image, &before));
    for (image, before) in images.chain(closing.into_iter().map(|image| (image, &more))) {
        let disk = disk_of(&image);
        is_sound(disk.as_ref());
        let open = || ByHand::open_at(&disk, &small(), Registers::default(), after(20_000));
        let mut log = open().unwrap();
        let rows = log.rows();
        assert_eq!(believed(&rows), believed(before));
        assert_eq!(
            log.reader().bounds(id()).unwrap().end.0,
            if before.len() == more.len() { 65 } else { 62 }
        );
        *lengths.entry(rows.len()).or_insert(0) += 1;
        log.pass(30_000);
        let done = log.rows();
        assert!(done.len() < 20, "{} rows", done.len());
        assert_eq!(believed(&done), believed(before));
        let names = self::image(disk.as_ref(), "").into_keys();
        let aside: Vec<_> = names.filter(|name| name.starts_with("aside")).collect();
        assert!(aside.is_empty(), "{aside:?}");
        is_sound(disk.as_ref());
    }
    assert!(
        lengths.len() > 4,
        "it is done segment by segment: {lengths:?}"
    );
}

#[test]
fn an_unreadable_segment_ends_the_compaction_and_nothing_else() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    log.turns(30, 3);
    log.log.close();
    log.settle();
    drop(log);
    let folder = format!("topics/{}/0", id().topic);
    let mut names: Vec<_> = disk.list(&folder).unwrap();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    let file = disk.open(&format!("{folder}/{}", names[1])).unwrap();
    file.write_at(150, &[Bytes::from_static(b"damage")])
        .unwrap();
    let mut log = ByHand::open_at(&disk, &small(), Registers::default(), after(1_000)).unwrap();
    log.pass(10_000);
    assert_eq!(log.log.counters().read().compactions, 0);
    let mut now: Vec<_> = disk.list(&folder).unwrap();
    now.retain(|name| name.ends_with(".log"));
    now.sort();
    assert_eq!(now, names);
    log.put(b"key", Some(b"value"));
    assert_eq!(log.reader().bounds(id()).unwrap().end, Offset(91));
}

#[test]
fn a_full_disk_puts_it_off() {
    let faulty = FaultyDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let mut log = begin(&disk, compacted());
    log.turns(30, 3);
    let before = log.rows();
    let mut log = reopen(log, &disk, 1_000);
    faulty.control.fill("topics/");
    log.pass(10_000);
    assert_eq!(log.log.counters().read().compactions, 0);
    assert!(!log.failed);
    assert_eq!(log.rows(), before);
    faulty.control.make_space();
    log.pass(20_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert!(log.rows().len() < before.len());
    assert_eq!(believed(&log.rows()), believed(&before));
    is_sound(disk.as_ref());
}

#[test]
fn a_backup_has_what_was_compacted_since_the_snapshot() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    log.turns(30, 4);
    let mut log = reopen(log, &disk, 1_000);
    log.pass(10_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert_eq!(log.log.counters().read().checkpoints, 0);
    let rows = log.rows();
    let to = memory();
    let (pin, pinned) = log.log.pin().unwrap();
    let how = Taking {
        taken: Timestamp::UNIX_EPOCH,
        seed: Uuid::now_v7(),
        link: true,
        watch: &mut |_| {},
    };
    take(disk.as_ref(), &pinned, to.as_ref(), how, &mut || {}).unwrap();
    log.log.release(pin);
    is_sound(to.as_ref());
    let log = ByHand::open_at(&to, &small(), Registers::default(), after(20_000)).unwrap();
    assert_eq!(log.rows(), rows);
}

#[test]
fn only_what_the_named_snapshot_has_is_written_anew() {
    let disk = memory();
    let mut options = small();
    options.checkpoint_after_bytes = 4096;
    let mut log = ByHand::open_at(&disk, &options, Registers::default(), after(0)).unwrap();
    log.run(Operation::Create(id())).unwrap();
    log.run(Operation::Configure(id(), compacted())).unwrap();
    let (pin, _) = log.log.pin().unwrap();
    log.turns(30, 3);
    let before = log.rows();
    log.pass(10_000);
    assert_eq!(
        log.log.counters().read().compactions,
        0,
        "the snapshot is not named"
    );
    // A crash here finds the old segments and what is missing of them in the journal.
    let crashed = disk_of(&image(disk.as_ref(), ""));
    let mut again = ByHand::open_at(&crashed, &options, Registers::default(), after(0)).unwrap();
    again.pass(20_000);
    assert_eq!(believed(&again.rows()), believed(&before));
    is_sound(crashed.as_ref());
    log.log.release(pin);
    log.turns(1, 3);
    log.pass(20_000);
    log.pass(30_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    assert_eq!(believed(&log.rows()).len(), believed(&before).len());
    assert!(log.rows().len() < before.len() / 2);
    is_sound(disk.as_ref());
}

#[test]
fn what_deletes_the_value_of_a_transaction_stays() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    let producer = Producer {
        id: 4,
        epoch: 0,
        base_sequence: 0,
    };
    let mut builder = BatchBuilder::new().producer(producer).transactional();
    builder
        .push(1, Some(b"gone"), Some(b"value"), std::iter::empty())
        .unwrap();
    let batch = builder.finish().unwrap();
    log.run(Operation::Append(id(), batch)).unwrap();
    log.put(b"gone", None);
    for hours in [1, 4, 7] {
        log.turns(60, 3);
        log = reopen(log, &disk, hours * HOUR_MS);
        // Ages follow a clock that was not watched at a bounded pace.
        log.pass(hours * HOUR_MS + 10_000);
        log.pass(hours * HOUR_MS + HOUR_MS);
        assert!(log.log.counters().read().compactions > 0, "{hours}");
        assert_eq!(believed(&log.rows()).get(&b"gone"[..]), None);
    }
}

#[test]
fn what_a_compaction_did_not_end_goes_though_nothing_of_the_partition_was_to_be_recovered() {
    let disk = memory();
    let mut settings = compacted();
    settings.compaction_lag_min_ms = 1000 * HOUR_MS;
    let mut log = begin(&disk, settings);
    log.turns(30, 3);
    let before = log.rows();
    // Everything is in synced segments: the next opening does not look into the folder.
    log.log.close();
    log.settle();
    drop(log);
    let topic = disk.list("topics").unwrap().remove(0);
    let dir = format!("topics/{topic}/0");
    let names = disk.list(&dir).unwrap();
    let bases: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".log"))
        .collect();
    assert!(bases.len() > 3, "{names:?}");
    for base in &bases[..2] {
        for end in ["log", "sum"] {
            let path = format!("{dir}/{base}-1.{end}");
            let file = disk.create(&path).unwrap();
            file.write_at(0, &[Bytes::from_static(b"half")]).unwrap();
        }
    }
    let mut log = ByHand::open_at(&disk, &small(), Registers::default(), after(10)).unwrap();
    log.pass(20);
    let mut left = disk.list(&dir).unwrap();
    let mut names = names;
    names.sort_unstable();
    left.sort_unstable();
    assert_eq!(left, names);
    assert_eq!(log.rows(), before);
    is_sound(disk.as_ref());
}

/// It was noted by the wall clock when a segment was compacted, and what had waited for a moment
/// only was gone once the clock was put right.
#[test]
fn a_wall_clock_that_was_back_takes_no_time_from_a_record_without_a_value() {
    let disk = memory();
    let mut log = begin(&disk, compacted());
    // Their own time lies before anything that the clock shows.
    let put = |log: &mut ByHand, key: &str, value: Option<[u8; 100]>| {
        let row = (0, Some(key.into()), value.map(|value| value.to_vec()));
        log.run(Operation::Records(id(), vec![row])).unwrap();
    };
    put(&mut log, "gone", Some([1; 100]));
    put(&mut log, "gone", None);
    (0..90).for_each(|turn| put(&mut log, &format!("key-{}", turn % 3), Some([turn; 100])));
    let mut log = reopen(log, &disk, 1_000);
    for millis in [10_000, 11_500, 13_000, 14_500] {
        let wall_ms = START_MS - 10 * HOUR_MS + millis;
        log.log.tick(Now {
            wall: Timestamp::from_millisecond(wall_ms as i64).unwrap(),
            ..after(millis)
        });
        log.settle();
    }
    assert_eq!(log.log.counters().read().compactions, 1);
    (0..180).for_each(|turn| put(&mut log, &format!("key-{}", turn % 3), Some([turn; 100])));
    let mut log = reopen(log, &disk, 20_000);
    log.pass(30_000);
    assert_eq!(log.log.counters().read().compactions, 1);
    let told = log.rows().into_iter();
    let told: Vec<_> = told
        .filter(|(_, key, _)| key.as_deref() == Some(b"gone"))
        .map(|(_, _, value)| value)
        .collect();
    assert_eq!(told, [None], "half a minute is no hour");
}

/// Wherever it is: what the settings that are acknowledged keep stays, and no file is left.
#[test]
fn a_compaction_that_is_not_wanted_any_more_ends_with_that() {
    let mut seen = Vec::new();
    for steps in (0..).step_by(3) {
        let disk = memory();
        let mut log = begin(&disk, compacted());
        log.turns(30, 4);
        let before = log.rows();
        let mut log = reopen(log, &disk, 1_000);
        log.log.tick(after(10_000));
        let mut left = steps;
        while left > 0
            && let Step::Io(io) = log.log.poll()
        {
            let result = io.run(&log.files);
            log.log.finish(io.id, result);
            left -= 1;
        }
        log.run(Operation::Configure(id(), PartitionSettings::default()))
            .unwrap();
        let kept = log.rows();
        assert_eq!(believed(&kept), believed(&before));
        log.pass(20_000);
        let mut log = reopen(log, &disk, 30_000);
        log.pass(HOUR_MS);
        assert_eq!(log.rows(), kept, "after {steps} steps");
        let names = disk.list(&format!("topics/{}/0", id().topic)).unwrap();
        let both = |name: &&String| names.contains(&name.replace(".log", ".sum"));
        assert!(names.iter().all(|name| both(&name)), "{names:?}");
        let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
        assert!(report.findings.is_empty(), "{report:?}");
        seen.push(kept.len());
        if left > 0 {
            break;
        }
    }
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    assert!(last < first / 2, "{seen:?}");
    assert!(
        seen.iter().any(|count| (last + 1..first).contains(count)),
        "{seen:?}"
    );
}

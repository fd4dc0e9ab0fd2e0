//! What recovery makes of torn ends, damage, lost files and strange ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::faulty::{disk_of, image};
use common::{ByHand, Operation, at, partition, read_all};
use tidemill_core::Offset;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Disk, OpenError, Options, Read, ReadError};

type Image = HashMap<String, Vec<u8>>;

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

fn open(image: &Image) -> Result<ByHand, OpenError> {
    ByHand::open(&disk_of(image), &Options::default())
}

/// Ten published records, one commit each, then whatever `end` does.
fn ten_records(end: impl FnOnce(&mut ByHand)) -> Image {
    ten_records_of(20, end)
}

fn ten_records_of(size_bytes: usize, end: impl FnOnce(&mut ByHand)) -> Image {
    let disk = memory();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    log.run(Operation::Create(partition(1, 0))).unwrap();
    for number in 0..10 {
        log.publish(partition(1, 0), &vec![number; size_bytes]);
    }
    end(&mut log);
    image(disk.as_ref(), "")
}

fn count(log: &ByHand) -> usize {
    read_all(&log.reader(), partition(1, 0), 1 << 20).len()
}

/// The journal file that commits go to, and where its last commit begins.
fn last_commit(image: &Image) -> (String, usize) {
    let commits = image
        .iter()
        .filter(|(path, _)| path.starts_with("journal/"));
    let places = commits.flat_map(|(path, bytes)| {
        let blocks = bytes.chunks(4096).enumerate();
        let begun = blocks.filter(|(_, block)| block.starts_with(b"TMJC"));
        begun.map(move |(at, block)| {
            let lsn = u64::from_le_bytes(block[56..64].try_into().unwrap());
            (lsn, path.clone(), at * 4096)
        })
    });
    let (_, path, at) = places.max().unwrap();
    (path, at)
}

#[test]
fn a_torn_last_commit_is_dropped() {
    let image = ten_records(|_| {});
    let (path, last) = last_commit(&image);
    for cut in [0, 3, 50, 95, 96, 120] {
        let mut torn = image.clone();
        torn.get_mut(&path).unwrap()[last + cut..last + 4096].fill(0);
        let mut log = open(&torn).unwrap();
        assert_eq!(count(&log), 9, "cut at {cut}");
        assert_eq!(log.publish(partition(1, 0), b"again"), 9);
    }
}

#[test]
fn damage_with_durable_commits_behind_refuses_the_start() {
    let image = ten_records(|_| {});
    let (path, last) = last_commit(&image);
    for back in 1..10 {
        let mut damaged = image.clone();
        damaged.get_mut(&path).unwrap()[last - back * 4096 + 100] ^= 1;
        let error = open(&damaged).err().unwrap();
        let OpenError::JournalDamaged { offset, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(offset as usize, last - back * 4096);
        assert!(
            error.to_string().contains("restore it from a backup"),
            "{error}"
        );
    }
}

#[test]
fn a_marker_tells_damage_in_the_last_acknowledged_commit_from_a_torn_one() {
    let image = ten_records(|log| {
        assert_eq!(log.wake_at, Some(at(1000).monotonic));
        log.log.tick(at(1000));
        log.settle();
        assert_eq!(log.wake_at, None, "one marker is enough");
    });
    let (path, marker) = last_commit(&image);
    let mut damaged = image.clone();
    damaged.get_mut(&path).unwrap()[marker - 4096 + 100] ^= 1;
    let error = open(&damaged).err().unwrap();
    assert!(matches!(error, OpenError::JournalDamaged { .. }), "{error}");
    let mut torn = image;
    torn.get_mut(&path).unwrap()[marker + 10] ^= 1;
    assert_eq!(count(&open(&torn).unwrap()), 10);
}

#[test]
fn damage_in_what_an_opening_has_copied_refuses_the_next() {
    let first = ten_records(|_| {});
    let disk = disk_of(&first);
    drop(ByHand::open(&disk, &Options::default()).unwrap());
    let image = image(disk.as_ref(), "");
    assert_eq!(count(&open(&image).unwrap()), 10);
    let (path, epoch) = last_commit(&image);
    for back in 0..11 {
        let mut damaged = image.clone();
        damaged.get_mut(&path).unwrap()[epoch - back * 4096 + 8] ^= 1;
        let error = open(&damaged).err().unwrap();
        assert!(
            matches!(error, OpenError::JournalDamaged { .. }),
            "{back} back: {error}"
        );
    }
}

#[test]
fn one_damaged_superblock_is_never_a_loss() {
    for image in [ten_records(|_| {}), ten_records(|log| log.log.close())] {
        for path in ["superblock.0", "superblock.1"] {
            for damage in [0, 8, 12, 16, 100, 4095] {
                let mut damaged = image.clone();
                damaged.get_mut(path).unwrap()[damage] ^= 8;
                assert_eq!(count(&open(&damaged).unwrap()), 10, "{path} at {damage}");
            }
            let mut cut = image.clone();
            cut.get_mut(path).unwrap().truncate(1000);
            assert_eq!(count(&open(&cut).unwrap()), 10);
        }
    }
}

#[test]
fn two_damaged_superblocks_refuse_the_start() {
    let mut image = ten_records(|_| {});
    for path in ["superblock.0", "superblock.1"] {
        image.get_mut(path).unwrap()[20] ^= 8;
    }
    let error = open(&image).err().unwrap();
    assert!(matches!(error, OpenError::Superblock(_)), "{error}");
}

#[test]
fn data_without_superblocks_refuses_the_start() {
    let mut image = ten_records(|log| {
        log.log.close();
        log.settle();
    });
    image.retain(|path, _| !path.starts_with("superblock"));
    let error = open(&image).err().unwrap();
    assert!(matches!(error, OpenError::Superblock(_)), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_says_so() {
    let mut image = ten_records(|_| {});
    for path in ["superblock.0", "superblock.1"] {
        let bytes = image.get_mut(path).unwrap();
        bytes[8] = 7;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let error = open(&image).err().unwrap();
    assert!(
        error.to_string().contains("format version 7, newer than 1"),
        "{error}"
    );
}

#[test]
fn a_damaged_or_missing_snapshot_refuses_the_start() {
    let image = ten_records(|log| {
        log.log.close();
        log.settle();
    });
    let path = image
        .keys()
        .find(|path| path.starts_with("snapshots/"))
        .unwrap()
        .clone();
    let length = image[&path].len();
    for flip in [0, 5, 40, length - 1] {
        let mut damaged = image.clone();
        damaged.get_mut(&path).unwrap()[flip] ^= 2;
        let error = open(&damaged).err().unwrap();
        assert!(matches!(error, OpenError::Snapshot { .. }), "{error}");
    }
    for cut in [0, 1, length / 2, length - 1] {
        let mut damaged = image.clone();
        damaged.get_mut(&path).unwrap().truncate(cut);
        let error = open(&damaged).err().unwrap();
        assert!(matches!(error, OpenError::Snapshot { .. }), "{error}");
    }
    let mut missing = image;
    missing.remove(&path);
    let error = open(&missing).err().unwrap();
    assert!(error.to_string().contains("it is missing"), "{error}");
}

#[test]
fn a_missing_journal_refuses_the_start() {
    let mut image = ten_records(|log| {
        log.log.close();
        log.settle();
    });
    image.retain(|path, _| !path.starts_with("journal/"));
    let error = open(&image).err().unwrap();
    assert!(matches!(error, OpenError::JournalMissing(_)), "{error}");
}

/// Once a file that was cut between two commits, or a later one that was emptied, read as a torn
/// end, and what had been acknowledged behind the cut was gone without a word.
#[test]
fn a_journal_file_that_was_cut_refuses_the_start() {
    let image = ten_records(|_| {});
    let (path, end) = last_commit(&image);
    for cut in (0..=end + 4096).step_by(4096) {
        let mut cut_off = image.clone();
        cut_off.get_mut(&path).unwrap().truncate(cut);
        let error = open(&cut_off).err().unwrap();
        assert!(matches!(error, OpenError::JournalCut { .. }), "{error}");
    }
    // Enough for a second file of the journal.
    let image = ten_records(|log| {
        for _ in 0..100 {
            log.publish(partition(1, 0), &[7; 9000]);
        }
    });
    let (path, _) = last_commit(&image);
    assert!(!path.contains("0001"), "{path}");
    for keep in [0, 50, 4096] {
        let mut cut_off = image.clone();
        cut_off.get_mut(&path).unwrap().truncate(keep);
        assert!(open(&cut_off).is_err(), "{keep} bytes of {path}");
    }
}

#[test]
fn an_entry_of_an_unknown_kind_is_refused_by_its_name() {
    for (kind, name) in [(0x0031u16, "records by reference"), (0x7777, "unknown")] {
        let mut image = ten_records(|_| {});
        let (path, at) = last_commit(&image);
        let commit = &mut image.get_mut(&path).unwrap()[at..at + 4096];
        commit[96 + 8..96 + 10].copy_from_slice(&kind.to_le_bytes());
        let length = 96 + u32::from_le_bytes(commit[12..16].try_into().unwrap()) as usize;
        let crc = crc32c::crc32c(&commit[8..length]);
        commit[4..8].copy_from_slice(&crc.to_le_bytes());
        let error = open(&image).err().unwrap().to_string();
        assert!(
            error.contains(name) && error.contains("use a newer one"),
            "{error}"
        );
        // The same kind with the flag that says who does not know it may skip it.
        let commit = &mut image.get_mut(&path).unwrap()[at..at + 4096];
        commit[96 + 10] = 1;
        let crc = crc32c::crc32c(&commit[8..length]);
        commit[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(count(&open(&image).unwrap()), 9);
    }
}

#[test]
fn unknown_files_are_put_aside_and_never_deleted() {
    let mut image = ten_records(|log| {
        log.log.close();
        log.settle();
    });
    let topic = partition(1, 0).topic;
    let strangers = [
        "notes.txt".to_owned(),
        "journal/strange".to_owned(),
        "snapshots/strange".to_owned(),
        "topics/strange/file".to_owned(),
    ];
    for path in &strangers {
        image.insert(path.clone(), b"precious".to_vec());
    }
    let disk = disk_of(&image);
    let log = ByHand::open(&disk, &Options::default()).unwrap();
    assert_eq!(count(&log), 10);
    let after = common::faulty::image(disk.as_ref(), "");
    let kept = after.iter().filter(|(path, bytes)| {
        path.starts_with("aside/") && bytes.as_slice() == b"precious".as_slice()
    });
    assert_eq!(kept.count(), strangers.len());
    assert!(
        after
            .keys()
            .any(|path| path.starts_with(&format!("topics/{topic}/")))
    );
    assert!(strangers.iter().all(|path| !after.contains_key(path)));
}

#[test]
fn damaged_records_are_named_and_the_others_are_read() {
    // Too large to be merged.
    let image = ten_records_of(4096, |log| {
        log.log.close();
        log.settle();
    });
    let id = partition(1, 0);
    let base = format!("topics/{}/0/{:020}", id.topic, 0);
    let lines = &image[&format!("{base}.sum")];
    let position = u32::from_le_bytes(lines[3 * 32 + 8..3 * 32 + 12].try_into().unwrap());
    // A byte of the fourth batch: its offset, its length, its own checksum's part, a record.
    let in_log = [0, 7, 13, 30, 65].map(|byte| (".log", position as usize + byte));
    // A byte of its line.
    let in_sum = [0, 9, 17, 23, 31].map(|byte| (".sum", 3 * 32 + byte));
    for (suffix, at) in in_log.into_iter().chain(in_sum) {
        let mut damaged = image.clone();
        damaged.get_mut(&format!("{base}{suffix}")).unwrap()[at] ^= 0x10;
        let log = open(&damaged).unwrap();
        let mut good = Vec::new();
        let mut bad = Vec::new();
        let mut next = Offset(0);
        while next < Offset(10) {
            let Read::Disk(read) = log.reader().read(id, next, 5000) else {
                panic!("the records are on disk");
            };
            match read.run() {
                Ok(batches) => {
                    good.extend(batches.iter().map(|batch| batch.base_offset().0));
                    next = batches.last().unwrap().next_offset();
                }
                Err(ReadError::Damaged { offset, resume, .. }) => {
                    bad.push((offset.0, resume.0));
                    next = resume;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(bad, vec![(3, 4)], "{suffix} at {at}");
        assert_eq!(good, vec![0, 1, 2, 4, 5, 6, 7, 8, 9], "{suffix} at {at}");
    }
}

#[test]
fn a_lost_segment_is_named_and_the_partition_goes_on() {
    let disk = memory();
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    log.run(Operation::Create(id)).unwrap();
    for number in 0..10 {
        log.publish(id, &vec![number; 5000]);
    }
    log.log.close();
    log.settle();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    log.publish(id, &[10; 5000]);
    let mut lost = image(disk.as_ref(), "");
    lost.retain(|path, _| !path.starts_with("topics/"));
    let disk = disk_of(&lost);
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    assert_eq!(log.publish(id, &[11; 5000]), 11);
    log.log.close();
    log.settle();
    let Read::Disk(read) = log.reader().read(id, Offset(0), 100) else {
        panic!("the records are on disk");
    };
    let error = read.run().unwrap_err();
    let ReadError::Damaged { offset, resume, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((offset, resume), (Offset(0), Offset(10)));
    for offset in [10, 11] {
        let Read::Disk(read) = log.reader().read(id, Offset(offset), 1 << 20) else {
            panic!("the records are on disk");
        };
        assert_eq!(read.run().unwrap()[0].base_offset(), Offset(offset));
    }
}

#[test]
fn small_batches_are_merged_in_the_segment_and_read_as_they_were() {
    let image = ten_records(|log| {
        log.log.close();
        log.settle();
    });
    let sums = image
        .iter()
        .find(|(path, _)| path.ends_with(".sum"))
        .unwrap();
    assert_eq!(sums.1.len(), 32, "ten batches became one");
    let log = open(&image).unwrap();
    let expected: Vec<_> = (0..10).map(|n| (u64::from(n), vec![n; 20])).collect();
    assert_eq!(read_all(&log.reader(), partition(1, 0), 1), expected);
    let Read::Disk(read) = log.reader().read(partition(1, 0), Offset(7), 1) else {
        panic!("the records are on disk");
    };
    let batches = read.run().unwrap();
    assert!(batches[0].base_offset() <= Offset(7) && Offset(7) <= batches[0].last_offset());
}

//! What a verification finds, what it leaves alone, and what a dump shows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::faulty::{Image, disk_of, image};
use common::sample::{commits, written};
use common::{Registers, partition};
use tidemill_core::Offset;
use tidemill_log::driver::{self, FileDisk};
use tidemill_log::inspect::{Dump, Finding, InspectError, Line, Report, Severity, Value};
use tidemill_log::inspect::{dump, verify};
use tidemill_log::{Disk, Lsn, OpenError, Options};

fn look(image: &Image) -> Result<Report, InspectError> {
    verify(disk_of(image).as_ref(), &mut (), &mut |_| {})
}

fn damage(report: &Report) -> Vec<&Finding> {
    let all = report.findings.iter();
    all.filter(|finding| finding.severity == Severity::Damage)
        .collect()
}

#[test]
fn what_was_written_is_clean_and_counted_whether_closed_or_killed() {
    let mut image = written();
    // What a server keeps for itself is none of the log's business.
    image.insert("private/users.json".into(), b"{}".to_vec());
    let report = look(&image).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.notes, 0, "{:?}", report.findings);
    let counts = report.counts;
    assert_eq!((counts.superblocks, counts.partitions), (2, 2));
    assert_eq!(counts.records, 20);
    assert!(
        counts.segments > 1 && counts.snapshot_chunks >= 3,
        "{counts:?}"
    );
    // The opening, a partition, ten records.
    assert_eq!(counts.entries, 12);
    assert_eq!(report.entries.end.0 - report.entries.start.0, 12);
}

#[test]
fn looking_changes_nothing_and_is_kept_out_by_whoever_writes() {
    let folder = tempfile::tempdir().unwrap();
    let written = written();
    for (path, bytes) in &written {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let disk = FileDisk::read_only(folder.path());
    let lock = disk.lock().unwrap();
    let report = verify(&disk, &mut (), &mut |_| {}).unwrap();
    assert!(report.is_clean());
    drop(lock);
    assert_eq!(image(&disk, ""), written, "not even a lock's file");
    for refused in [
        disk.create("new").err(),
        disk.remove("superblock.0").err(),
        disk.rename("superblock.0", "gone").err(),
        disk.make_dir("new").err(),
    ] {
        assert_eq!(
            refused.unwrap().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
    }

    let writer = FileDisk::new(folder.path());
    let held = writer.lock().unwrap();
    let refused = disk.lock().unwrap_err().to_string();
    let pid = std::process::id().to_string();
    assert!(refused.contains(&pid), "{refused}");
    drop(held);
    let lock = folder.path().join("lock");
    assert_eq!(std::fs::read(&lock).unwrap(), b"", "it held it and is gone");
    // As a process leaves it that was killed.
    std::fs::write(&lock, "4000000\n").unwrap();
    let (_one, _other) = (disk.lock().unwrap(), disk.lock().unwrap());
    let refused = writer.lock().unwrap_err().to_string();
    assert!(refused.contains("being looked into"), "{refused}");
    assert!(!refused.contains("4000000"), "{refused}");
}

/// Else who looks at what a killed process left, or fails to open it, would have ended in its
/// place.
#[test]
fn a_bad_end_is_known_until_somebody_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Arc::new(FileDisk::new(folder.path()));
        let machine = Registers::default();
        driver::open(disk, Options::default(), machine, Arc::new(()))
    };
    let log = open().unwrap();
    assert!(!log.after_bad_end(), "there was none before");
    log.close();
    let lock = folder.path().join("lock");
    assert_eq!(std::fs::read(&lock).unwrap(), b"");
    std::fs::write(&lock, "4000000\n").unwrap();
    drop(FileDisk::new(folder.path()).lock().unwrap());
    let journal = folder.path().join("journal");
    let aside = folder.path().join("aside-journal");
    std::fs::rename(&journal, &aside).unwrap();
    assert!(open().is_err(), "its journal is gone");
    let _ = std::fs::remove_dir_all(&journal);
    std::fs::rename(&aside, &journal).unwrap();
    let log = open().unwrap();
    assert!(log.after_bad_end());
    log.close();
    let log = open().unwrap();
    assert!(log.after_bad_end(), "the one before did nothing");
    log.handling();
    log.close();
    let log = open().unwrap();
    assert!(!log.after_bad_end(), "the one before ended well");
    log.close();
}

#[test]
fn a_flipped_byte_anywhere_is_found_in_its_file() {
    let image = written();
    let (journal, places) = commits(&image);
    // The last commit has no witness yet: the one exception of the format.
    let end = places.last().unwrap().1;
    for (path, bytes) in &image {
        let covered = match path {
            path if *path == journal => bytes[..end].len(),
            path if path.starts_with("journal/") => 0,
            _ => bytes.len(),
        };
        for at in (0..covered).step_by(7.max(covered / 300) | 1) {
            if *path == journal && bytes[at] == 0 {
                // Padding, or so small a number that a block is taken for unused.
                continue;
            }
            let mut flipped = image.clone();
            flipped.get_mut(path).unwrap()[at] ^= 0x20;
            let report = look(&flipped).unwrap();
            let found = damage(&report);
            let pair = path.strip_suffix(".log").or(path.strip_suffix(".sum"));
            let here = |finding: &&&Finding| {
                pair.map_or(finding.file == *path, |pair| finding.file.starts_with(pair))
            };
            assert!(found.iter().any(|f| here(&f)), "{path} at {at}: {found:?}");
        }
    }
}

#[test]
fn a_bad_batch_is_named_by_its_offsets_and_the_others_are_read() {
    let mut image = written();
    let segments = image.iter().filter(|(path, _)| path.ends_with(".log"));
    let (path, bytes) = segments.min().unwrap();
    let path = path.clone();
    let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let first = u32::from_be_bytes(bytes[23..27].try_into().unwrap());
    assert!(size < bytes.len(), "there is a second batch");
    image.get_mut(&path).unwrap()[size - 1] ^= 1;
    let report = look(&image).unwrap();
    let found = damage(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].partition, Some(partition(1, 0)));
    let end = Offset(u64::from(first) + 1);
    assert_eq!(found[0].offsets, Some(Offset(0)..end));
    assert_eq!((found[0].byte, &found[0].file), (Some(0), &path));
    assert_eq!(report.counts.records, 20 - end.0);
}

#[test]
fn each_missing_file_is_named() {
    let image = written();
    let (journal, _) = commits(&image);
    for path in image.keys() {
        let mut less = image.clone();
        less.remove(path);
        let report = look(&less).unwrap();
        let found = report.findings.iter().find(|finding| finding.file == *path);
        let severity = match path {
            path if path.starts_with("superblock") => Some(Severity::Note),
            path if path.starts_with("journal/") && *path != journal => None,
            _ => Some(Severity::Damage),
        };
        assert_eq!(found.map(|found| found.severity), severity, "{path}");
    }
}

#[test]
fn a_hole_in_the_journal_says_which_entries_and_offsets_lie_behind_it() {
    let mut image = written();
    let (path, places) = commits(&image);
    // Entries are: the opening, the partition, then records of the two in turn.
    let (lsn, at) = places[places.len() - 6];
    image.get_mut(&path).unwrap()[at + 100] ^= 1;
    let report = look(&image).unwrap();
    let found = damage(&report);
    let last = places.last().unwrap().0;
    assert_eq!(found[0].entries, Some(Lsn(lsn)..Lsn(last + 1)));
    assert_eq!((found[0].byte, &found[0].file), (Some(at as u64), &path));
    let lost: HashMap<_, _> = found[1..]
        .iter()
        .map(|finding| (finding.partition.unwrap(), finding.offsets.clone().unwrap()))
        .collect();
    assert_eq!(lost[&partition(1, 0)], Offset(23)..Offset(25));
    assert_eq!(lost[&partition(2, 7)], Offset(2)..Offset(5));
}

#[test]
fn what_a_killed_process_leaves_is_no_damage() {
    let mut image = written();
    let (path, places) = commits(&image);
    let end = places.last().unwrap().1;
    image.get_mut(&path).unwrap()[end + 97..end + 4096].fill(0);
    let log = image.keys().find(|path| path.ends_with(".log")).unwrap();
    let dir = log.rsplit_once('/').unwrap().0.to_owned();
    for (path, note) in [
        ("notes.txt".to_owned(), "nothing names"),
        ("journal/mine".to_owned(), "nothing names"),
        (
            "snapshots/00000000000000000099.snapshot".to_owned(),
            "removes",
        ),
        (format!("{dir}/00000000000000000777.log"), "nothing names"),
        ("topics/other/0/file".to_owned(), "nothing names"),
    ] {
        let mut more = image.clone();
        more.insert(path.clone(), b"something".to_vec());
        let report = look(&more).unwrap();
        assert!(report.is_clean(), "{path}: {:?}", report.findings);
        assert_eq!(report.notes, 2, "{path}: {:?}", report.findings);
        assert!(report.findings[0].what.contains("not reach the disk"));
        let stray = &report.findings[1];
        assert!(path.starts_with(&stray.file), "{stray:?}");
        assert!(stray.what.contains(note), "{stray:?}");
    }
}

#[test]
fn without_a_log_or_of_another_version_nothing_is_verified() {
    let none = look(&Image::new()).unwrap_err();
    assert!(matches!(none, InspectError::NoLog), "{none}");
    let mut image = written();
    for path in ["superblock.0", "superblock.1"] {
        let block = image.get_mut(path).unwrap();
        block[8] += 1;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..]);
        block[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    let newer = look(&image).unwrap_err();
    let is_newer = matches!(newer, InspectError::Open(OpenError::NewerFormat { .. }));
    assert!(is_newer, "{newer}");
    assert!(newer.to_string().contains("newer version"), "{newer}");
}

fn lines(image: &Image, what: &Dump) -> Vec<Line> {
    let mut lines = Vec::new();
    let disk = disk_of(image);
    dump(disk.as_ref(), what, &mut |line| {
        lines.push(line);
        true
    })
    .unwrap();
    lines
}

fn count(lines: &[Line], what: &str) -> usize {
    lines.iter().filter(|line| line.what == what).count()
}

#[test]
fn a_dump_shows_every_thing_of_the_log_and_ends_when_told() {
    let image = written();
    let all = lines(&image, &Dump::default());
    assert_eq!(count(&all, "unreadable"), 0);
    assert_eq!(count(&all, "superblock"), 2);
    assert_eq!(count(&all, "entry"), 12);
    assert_eq!(
        count(&all, "record"),
        30,
        "20 in segments, 10 in the journal"
    );
    assert!(count(&all, "commit") >= 11 && count(&all, "chunk") >= 3);
    let mut few = 0;
    dump(disk_of(&image).as_ref(), &Dump::default(), &mut |_| {
        few += 1;
        few < 5
    })
    .unwrap();
    assert_eq!(few, 5);
}

#[test]
fn each_file_can_be_shown_alone_from_a_place_on() {
    let image = written();
    let one = |file: &str, from| {
        let file = Some(file.to_owned());
        lines(&image, &Dump { file, from })
    };
    for path in image.keys().filter(|path| *path != "lock") {
        assert_eq!(count(&one(path, 0), "unreadable"), 0, "{path}");
    }
    let (journal, places) = commits(&image);
    let last = places.last().unwrap().0;
    assert_eq!(count(&one(&journal, last - 1), "entry"), 2);
    let segment = image.keys().filter(|path| path.ends_with(".log")).min();
    let segment = segment.unwrap();
    let (all, some) = (one(segment, 0), one(segment, 3));
    let firsts = |lines: &[Line]| {
        let offsets = lines.iter().filter(|line| line.what == "record");
        offsets.map(|line| line.fields[0].1.clone()).next()
    };
    assert_eq!(firsts(&all), Some(Value::Number(0)));
    assert_eq!(firsts(&some), Some(Value::Number(3)));
    let file = Some("topics".to_owned());
    let refused = dump(
        disk_of(&image).as_ref(),
        &Dump { file, from: 0 },
        &mut |_| true,
    );
    assert!(matches!(refused, Err(InspectError::NoSuchFile(_))));
    let file = Some("topics/1/0/00000000000000000000.log".to_owned());
    let refused = dump(
        disk_of(&image).as_ref(),
        &Dump { file, from: 0 },
        &mut |_| true,
    );
    assert!(matches!(refused, Err(InspectError::Missing(_))));
}

#[test]
fn a_journal_file_without_a_commit_is_unreadable_unless_it_is_new() {
    for (bytes, unreadable) in [(vec![0; 8192], 0), (vec![7; 10_000], 1), (Vec::new(), 1)] {
        let mut image = written();
        let file = "journal/0000000099.journal".to_owned();
        image.insert(file.clone(), bytes);
        let file = Some(file);
        let shown = lines(&image, &Dump { file, from: 0 });
        assert_eq!(
            (shown.len(), count(&shown, "unreadable")),
            (unreadable, unreadable)
        );
    }
}

//! Backups of logs at rest and of open ones, what a broken-off one leaves, and the way back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use common::dying::Dying;
use common::faulty::{Image, disk_of, image};
use common::sample::{ids, options, written_and};
use common::{ByHand, Operation, partition, read_all};
use tidemill_log::backup::{BackedUp, BackupError, MANIFEST, Pinned, Taking, restore, take};
use tidemill_log::driver::{FileDisk, MemoryDisk};
use tidemill_log::inspect::verify;
use tidemill_log::limits::RESTORE_EPOCHS;
use tidemill_log::{Disk, OpenError, PartitionId};
use uuid::Uuid;

/// Every partition's records, and the registers.
type Content = (
    BTreeMap<PartitionId, Vec<(u64, Vec<u8>)>>,
    BTreeMap<u64, u64>,
);

/// The sample, with one register more.
fn written() -> Image {
    written_and(|log| {
        log.run(Operation::Set(5, 6)).unwrap();
    })
}

fn content(log: &ByHand) -> Content {
    let reader = log.reader();
    let known = ids().into_iter().filter(|id| reader.bounds(*id).is_some());
    let records = known.map(|id| (id, read_all(&reader, id, 10_000)));
    (records.collect(), log.log.machine().durable.clone())
}

fn opened(disk: &Arc<dyn Disk>) -> ByHand {
    ByHand::open(disk, &options()).unwrap()
}

fn taking<'a>(watch: &'a mut dyn FnMut(tidemill_log::inspect::Progress<'_>)) -> Taking<'a> {
    Taking {
        taken: jiff::Timestamp::UNIX_EPOCH,
        seed: Uuid::now_v7(),
        link: true,
        watch,
    }
}

fn at_rest(from: &dyn Disk, to: &dyn Disk) -> Result<BackedUp, BackupError> {
    let pinned = Pinned::at_rest(from)?;
    take(from, &pinned, to, taking(&mut |_| {}), &mut || {})
}

fn restored(from: &dyn Disk, to: &dyn Disk) -> Result<(), BackupError> {
    restore(from, to, &mut |_| {}).map(|_| ())
}

fn empty() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

fn is_clean(disk: &dyn Disk) {
    let report = verify(disk, &mut (), &mut |_| {}).unwrap();
    assert_eq!(
        (report.damage, report.notes),
        (0, 0),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_backup_of_a_log_at_rest_opens_as_that_log_and_so_does_what_is_restored_of_it() {
    let from = disk_of(&written());
    let to = empty();
    let done = at_rest(from.as_ref(), to.as_ref()).unwrap();
    let backup = image(to.as_ref(), "");
    assert_eq!(
        done.files as usize,
        backup.len() - 1,
        "all but the manifest"
    );
    assert_eq!(done.linked_files, 0, "disks in memory link nothing");
    is_clean(to.as_ref());

    let back = empty();
    restored(to.as_ref(), back.as_ref()).unwrap();
    is_clean(back.as_ref());
    let expected = content(&opened(&from));
    assert_eq!(expected.0[&partition(1, 0)].len(), 25);
    let (mut copy, mut again) = (opened(&disk_of(&backup)), opened(&back));
    assert_eq!(content(&copy), expected);
    assert_eq!(content(&again), expected);
    assert_eq!(again.log.epoch(), copy.log.epoch() + RESTORE_EPOCHS);
    for log in [&mut copy, &mut again] {
        assert_eq!(log.publish(partition(2, 7), b"more"), 5);
    }
}

#[test]
fn a_log_that_was_closed_and_one_without_records_have_backups_too() {
    let disk = empty();
    let mut log = opened(&disk);
    let fresh = disk_of(&image(disk.as_ref(), ""));
    log.run(Operation::Set(1, 2)).unwrap();
    log.log.close();
    log.settle();
    for from in [fresh, disk] {
        let (to, back) = (empty(), empty());
        at_rest(from.as_ref(), to.as_ref()).unwrap();
        is_clean(to.as_ref());
        restored(to.as_ref(), back.as_ref()).unwrap();
        assert_eq!(content(&opened(&back)), content(&opened(&from)));
    }
    let none = at_rest(empty().as_ref(), empty().as_ref()).unwrap_err();
    assert!(none.to_string().contains("no log"), "{none}");
}

#[test]
fn a_pinned_moment_stays_whole_while_the_log_goes_on_through_checkpoints_and_deletions() {
    let disk = disk_of(&written());
    let mut options = options();
    options.checkpoint_after_bytes = 100_000;
    let mut log = ByHand::open(&disk, &options).unwrap();
    log.publish(partition(2, 7), b"before");
    let expected = content(&log);
    let (pin, pinned) = log.log.pin().unwrap();
    for number in 0..60 {
        log.publish(partition(1, 0), &[number; 4200]);
        log.run(Operation::Set(9, u64::from(number))).unwrap();
    }
    let before = log.log.counters().read();
    assert_eq!(before.checkpoints, 0, "the head is held");
    let to = empty();
    let mut loosened = false;
    let done = take(
        disk.as_ref(),
        &pinned,
        to.as_ref(),
        taking(&mut |_| {}),
        &mut || {
            loosened = true;
            log.log.loosen(pin);
            // Everything that a checkpoint and a deletion would remove stays.
            log.run(Operation::Delete(partition(1, 0))).unwrap();
            log.publish(partition(2, 7), &[7; 4200]);
            log.settle();
            assert!(log.log.counters().read().checkpoints > 0, "the head moves");
        },
    );
    let done = done.unwrap();
    assert!(loosened);
    assert_eq!(done.through, pinned.through());
    is_clean(to.as_ref());
    assert_eq!(content(&opened(&to)), expected);

    let dir = format!("topics/{}", partition(1, 0).topic);
    let there = |disk: &Arc<dyn Disk>| {
        image(disk.as_ref(), "")
            .keys()
            .any(|path| path.starts_with(&dir))
    };
    assert!(there(&disk), "what was deleted waits for the backup");
    log.log.release(pin);
    log.settle();
    assert!(!there(&disk));
    log.log.close();
    log.settle();
    is_clean(disk.as_ref());
}

#[test]
fn publishers_go_on_while_an_open_log_is_backed_up_and_what_was_acknowledged_is_in_it() {
    const BEFORE: u64 = 300;
    let (data, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(data.path()));
    let mut options = options();
    options.checkpoint_after_bytes = 200_000;
    options.segment_write_after_bytes = 10_000;
    let log = common::open(&disk, &options).unwrap();
    let id = partition(1, 0);
    common::ok(&log, Operation::Create(id));
    for number in 0..BEFORE {
        common::publish(&log, id, &number.to_le_bytes().repeat(200));
    }
    let to = FileDisk::new(target.path().join("a/b"));
    let done = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for number in BEFORE..2 * BEFORE {
                common::publish(&log, id, &number.to_le_bytes().repeat(200));
            }
        });
        let done = log.backup(&to, true, &mut |_| {}).unwrap();
        publisher.join().unwrap();
        done
    });
    assert!(done.linked_files > 0, "{done:?}");
    log.close();
    let closed = log.backup(&FileDisk::new(target.path().join("c")), true, &mut |_| {});
    assert!(matches!(closed, Err(BackupError::Closed)), "{closed:?}");

    is_clean(&to);
    let shared = image(&to, "").into_keys().filter(|path| {
        let inode = |root: &std::path::Path| {
            let found = std::fs::metadata(root.join(path)).ok();
            found.map(|found| found.ino())
        };
        inode(data.path()) == inode(&target.path().join("a/b"))
    });
    assert!(shared.count() as u64 <= done.linked_files);
    let back = target.path().join("back");
    let back_disk: Arc<dyn Disk> = Arc::new(FileDisk::new(&back));
    restored(&to, back_disk.as_ref()).unwrap();
    for path in image(&to, "").keys().filter(|path| *path != MANIFEST) {
        let links = std::fs::metadata(back.join(path)).unwrap().nlink();
        assert_eq!(links, 1, "{path} is a copy");
    }
    let back = common::open(&back_disk, &options).unwrap();
    let records = read_all(back.reader(), id, 100_000);
    assert!((BEFORE..=2 * BEFORE).contains(&(records.len() as u64)));
    for (number, (offset, value)) in records.iter().enumerate() {
        assert_eq!(*offset, number as u64);
        assert_eq!(*value, (number as u64).to_le_bytes().repeat(200));
    }
    assert_eq!(common::publish(&back, id, b"on"), records.len() as u64);
    back.close();
    // What was done to the restored log has touched neither the backup nor the log itself.
    is_clean(&to);
    is_clean(disk.as_ref());
}

#[test]
fn a_backup_with_any_changed_or_missing_file_is_refused() {
    let to = empty();
    at_rest(disk_of(&written()).as_ref(), to.as_ref()).unwrap();
    let backup = image(to.as_ref(), "");
    for (path, bytes) in &backup {
        let mut less = backup.clone();
        less.remove(path);
        assert!(
            restored(disk_of(&less).as_ref(), empty().as_ref()).is_err(),
            "{path}"
        );
        for at in (0..bytes.len()).step_by(bytes.len() / 7 + 1) {
            let mut flipped = backup.clone();
            flipped.get_mut(path).unwrap()[at] ^= 1;
            let target = empty();
            let refused = restored(disk_of(&flipped).as_ref(), target.as_ref());
            assert!(refused.is_err(), "{path} at {at}");
            never_opens_as_another_log(&image(target.as_ref(), ""));
        }
    }
}

#[test]
fn a_target_with_anything_in_it_is_refused_and_left_alone() {
    let from = disk_of(&written());
    let to = empty();
    at_rest(from.as_ref(), to.as_ref()).unwrap();
    let mine = || {
        let disk = empty();
        disk.create("mine").unwrap();
        disk
    };
    for (refused, target) in [
        (at_rest(from.as_ref(), mine().as_ref()).map(|_| ()), "mine"),
        (restored(to.as_ref(), mine().as_ref()), "mine"),
        (restored(to.as_ref(), from.as_ref()), "journal"),
    ] {
        let refused = refused.unwrap_err();
        let named = matches!(&refused, BackupError::NotEmpty(name) if name == target);
        assert!(named, "{refused}");
    }
    assert_eq!(opened(&from).log.epoch(), 3, "as it was");
}

/// What is there is the whole log, or is refused, or nothing was begun.
fn never_opens_as_another_log(left: &Image) {
    if left.is_empty() {
        return;
    }
    match ByHand::open(&disk_of(left), &options()) {
        Ok(log) => {
            let expected = content(&opened(&disk_of(&written())));
            // A first superblock alone is what a folder has that was just begun.
            let nothing = left.keys().all(|path| path.starts_with("superblock"));
            assert!(nothing || content(&log) == expected, "{:?}", left.keys());
        }
        Err(OpenError::Superblock(_)) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_backup_or_a_restore_that_is_killed_at_any_step_leaves_nothing_that_is_taken_for_whole() {
    let from = disk_of(&written());
    let whole = empty();
    at_rest(from.as_ref(), whole.as_ref()).unwrap();
    for restoring in [false, true] {
        let mut killed = 0;
        for step in 0.. {
            let inner = empty();
            let dying = Dying::after(step, inner.clone());
            let ended = match restoring {
                false => at_rest(from.as_ref(), &dying).map(|_| ()),
                true => restored(whole.as_ref(), &dying),
            };
            let left = image(inner.as_ref(), "");
            never_opens_as_another_log(&left);
            if ended.is_ok() {
                break;
            }
            killed += 1;
            let manifest = left.get(MANIFEST);
            if !restoring && manifest.is_none_or(|manifest| manifest.len() < 300) {
                let again = restored(disk_of(&left).as_ref(), empty().as_ref());
                assert!(again.is_err(), "after {step} steps");
            }
        }
        assert!(killed > 20, "{killed}");
    }
}

#[test]
fn a_target_inside_of_the_data_folder_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(data.path()));
    drop(opened(&disk));
    let inside = data.path().join("backup");
    let refused = at_rest(disk.as_ref(), &FileDisk::new(&inside)).unwrap_err();
    assert!(matches!(refused, BackupError::Inside), "{refused}");
    assert!(!inside.exists());
    // Whatever the way to it: over folders that the backup would make, and over links.
    let beside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data.path(), beside.path().join("link")).unwrap();
    let name = data.path().file_name().unwrap().to_str().unwrap();
    for (from, way) in [
        (data.path(), "missing/../inside".to_owned()),
        (data.path(), format!("missing/../../{name}/a/../inside")),
        (beside.path(), "missing/../link/inside".to_owned()),
        (beside.path(), "link/missing/deep/../../inside".to_owned()),
    ] {
        let refused = at_rest(disk.as_ref(), &FileDisk::new(from.join(&way))).unwrap_err();
        assert!(matches!(refused, BackupError::Inside), "{way}: {refused}");
    }
    assert!(!data.path().join("missing").exists());
    let outside = beside.path().join("missing/../fine");
    at_rest(disk.as_ref(), &FileDisk::new(outside)).unwrap();
}

#[test]
fn a_journal_with_damage_is_not_backed_up() {
    let mut image = written();
    let journals = image
        .iter()
        .filter(|(path, _)| path.starts_with("journal/"));
    let newest = journals.max_by_key(|(_, bytes)| bytes[32..40].to_vec());
    let path = newest.unwrap().0.clone();
    image.get_mut(&path).unwrap()[4096 + 100] ^= 1;
    let to = empty();
    let refused = at_rest(disk_of(&image).as_ref(), to.as_ref()).unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(to.list("").unwrap().is_empty());
}

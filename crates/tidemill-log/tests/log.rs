//! The log through its driver, on a disk in memory and on a real one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{
    ByHand, Operation, Refused, end, ok, open, partition, publish, read_all, run, submit,
};
use tidemill_core::Offset;
use tidemill_core::error::Unavailable;
use tidemill_log::driver::{FileDisk, MemoryDisk};
use tidemill_log::{
    Action, CommitError, Disk, FlushPolicy, Health, Io, Lane, OpenError, Options, Read, Step,
};

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

/// Both disks, and what keeps the real one's folder.
fn disks() -> Vec<(Arc<dyn Disk>, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let real: Arc<dyn Disk> = Arc::new(FileDisk::new(folder.path()));
    vec![(memory(), None), (real, Some(folder))]
}

fn small() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 64 * 1024;
    options.journal_file_max_bytes = 256 * 1024;
    options.journal_max_bytes = 2 * 1024 * 1024;
    options.checkpoint_after_bytes = 256 * 1024;
    options.segment_max_bytes = 200 * 1024;
    options.segment_write_after_bytes = 16 * 1024;
    options
}

fn value(number: u64, size: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(size.max(8), number as u8);
    value
}

#[test]
fn what_was_published_is_read_before_and_after_a_reopening() {
    for (disk, _folder) in disks() {
        let id = partition(1, 0);
        let log = open(&disk, &Options::default()).unwrap();
        assert!(matches!(log.reader().read(id, Offset(0), 1), Read::Unknown));
        ok(&log, Operation::Create(id));
        assert!(matches!(log.reader().read(id, Offset(0), 1), Read::AtEnd));
        for number in 0..20 {
            assert_eq!(publish(&log, id, &value(number, 100)), number);
        }
        let read = read_all(log.reader(), id, 1000);
        assert_eq!(read.len(), 20);
        assert!(matches!(
            log.reader().read(id, Offset(21), 1),
            Read::OutOfRange(_)
        ));
        log.close();
        assert_eq!(read_all(log.reader(), id, 1000), read);
        drop(log);

        let log = open(&disk, &Options::default()).unwrap();
        assert_eq!(log.epoch(), 2);
        assert_eq!(read_all(log.reader(), id, 1000), read);
        assert_eq!(publish(&log, id, &value(20, 10)), 20);
        assert_eq!(read_all(log.reader(), id, 1).len(), 21);
    }
}

#[test]
fn effects_survive_with_and_without_a_snapshot() {
    for close in [false, true] {
        for (disk, _folder) in disks() {
            let log = open(&disk, &Options::default()).unwrap();
            for number in 0..100 {
                ok(&log, Operation::Set(number, number * 3));
            }
            if close {
                log.close();
            }
            drop(log);
            let log = open(&disk, &Options::default()).unwrap();
            for number in 0..100 {
                assert_eq!(ok(&log, Operation::Get(number)), number * 3);
            }
        }
    }
}

#[test]
fn a_refused_operation_leaves_nothing_behind() {
    let disk = memory();
    let id = partition(1, 0);
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Create(id));
    publish(&log, id, b"before");
    let refused = run(&log, Operation::Refuse(id));
    assert_eq!(refused, Err(CommitError::Refused("refused as asked")));
    assert_eq!(publish(&log, id, b"after"), 1);
    assert_eq!(end(&log, partition(999, 9)), None);
    assert_eq!(read_all(log.reader(), id, 1000).len(), 2);
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    for (disk, folder) in disks() {
        let log = open(&disk, &Options::default()).unwrap();
        let refused = open(&disk, &Options::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
        if folder.is_some() {
            let pid = std::process::id().to_string();
            assert!(refused.to_string().contains(&pid), "{refused}");
        }
        log.close();
        open(&disk, &Options::default()).unwrap();
    }
}

#[test]
fn a_folder_is_made_with_those_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("one/two/three");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(&deep));
    open(&disk, &Options::default()).unwrap();
    assert!(deep.join("superblock.1").exists());
}

#[test]
fn a_log_begins_beside_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(folder.path()));
    let letter = folder.path().join("letter.txt");
    std::fs::write(&letter, "dear").unwrap();
    let refused = open(&disk, &Options::default()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Occupied(name) if name == "letter.txt"),
        "{refused}"
    );
    let names = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 1, "not even a lock's file was made");
    std::fs::remove_file(&letter).unwrap();
    let of_the_file_system = folder.path().join("lost+found");
    std::fs::create_dir(&of_the_file_system).unwrap();
    let private = folder.path().join(tidemill_log::PRIVATE_DIR);
    std::fs::create_dir(&private).unwrap();
    std::fs::write(private.join("users.json"), "").unwrap();
    for _ in 0..2 {
        open(&disk, &Options::default()).unwrap().close();
        assert!(of_the_file_system.is_dir() && private.join("users.json").is_file());
    }
    assert!(!folder.path().join("aside").exists());
}

#[test]
fn no_log_is_opened_in_the_folder_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let outer = folder.path().join("data");
    let inner = outer.join("some/inner");
    let at = |path: &std::path::Path| -> Arc<dyn Disk> { Arc::new(FileDisk::new(path)) };
    open(&at(&outer), &Options::default()).unwrap().close();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, outer.join("link")).unwrap();
    std::os::unix::fs::symlink(&outer, folder.path().join("other-name")).unwrap();
    let others = [
        inner.clone(),
        outer.join("private"),
        outer.join("link"),
        folder.path().join("other-name/inner"),
        folder.path().join("elsewhere/../data/inner"),
    ];
    for path in &others {
        let refused = open(&at(path), &Options::default()).unwrap_err();
        assert!(
            matches!(refused, OpenError::Inside(_)),
            "{path:?}: {refused}"
        );
        assert!(
            refused.to_string().contains("/data, which puts aside"),
            "{refused}"
        );
    }
    assert!(!inner.exists() && !outer.join("private").exists());
    // Beside it is not in it, however it is named, and it is opened by any of its names.
    for path in [
        elsewhere,
        outer.join("../beside"),
        folder.path().join("other-name"),
    ] {
        open(&at(&path), &Options::default()).unwrap().close();
    }
}

#[test]
fn an_open_log_in_the_folder_of_another_stays_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let outer: Arc<dyn Disk> = Arc::new(FileDisk::new(folder.path().join("data")));
    open(&outer, &Options::default()).unwrap().close();
    // As one of before this was refused.
    let inner = folder.path().join("inner");
    let moved = folder.path().join("data/deep/inner");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(&inner));
    let log = open(&disk, &Options::default()).unwrap();
    std::fs::create_dir(folder.path().join("data/deep")).unwrap();
    std::fs::rename(&inner, &moved).unwrap();
    open(&outer, &Options::default()).unwrap().close();
    assert!(moved.join("superblock.1").exists());
    log.close();
    drop(log);
    open(&outer, &Options::default()).unwrap().close();
    assert!(!moved.exists());
    let aside = folder.path().join("data/aside/3-deep/inner/superblock.1");
    assert!(aside.exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, b"not a folder").unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(file.join("data")));
    let refused = open(&disk, &Options::default()).unwrap_err().to_string();
    assert!(refused.contains("a-file is a file; name"), "{refused}");
}

#[test]
fn the_journal_is_used_again_over_many_laps() {
    for (disk, _folder) in disks() {
        let id = partition(1, 0);
        let mut next = 0;
        for _ in 0..3 {
            let log = open(&disk, &small()).unwrap();
            if next == 0 {
                ok(&log, Operation::Create(id));
            }
            for _ in 0..150 {
                let ends = (next..next + 10).map(|number| {
                    let size = 50 + (number as usize * 37) % 5000;
                    (
                        number,
                        submit(&log, Operation::Publish(id, vec![value(number, size)])),
                    )
                });
                for (number, end) in ends.collect::<Vec<_>>() {
                    assert_eq!(end.recv().unwrap(), Ok(number));
                }
                next += 10;
            }
            let read = read_all(log.reader(), id, 100_000);
            assert_eq!(read.len() as u64, next);
            assert!(
                read.iter()
                    .all(|(at, bytes)| bytes.starts_with(&at.to_le_bytes()))
            );
            log.close();
        }
        let files = disk.list("journal").unwrap();
        let sizes = files
            .iter()
            .map(|name| disk.open(&format!("journal/{name}")).unwrap().len());
        let total: u64 = sizes.map(Result::unwrap).sum();
        assert!(
            total <= small().journal_max_bytes + 512 * 1024,
            "{total} bytes of journal"
        );
        let segments = disk.list(&format!("topics/{}/0", id.topic)).unwrap();
        assert!(segments.len() > 4, "segments were rolled: {segments:?}");
    }
}

#[test]
fn everything_survives_an_end_without_close_under_load() {
    for (disk, _folder) in disks() {
        let ids: Vec<_> = (0..7).map(|number| partition(5, number)).collect();
        let log = open(&disk, &small()).unwrap();
        for id in &ids {
            ok(&log, Operation::Create(*id));
        }
        let waiting: Vec<_> = (0..3000u64)
            .map(|number| {
                let id = ids[number as usize % ids.len()];
                submit(&log, Operation::Publish(id, vec![value(number, 700)]))
            })
            .collect();
        let offsets: Vec<_> = waiting
            .iter()
            .map(|end| end.recv().unwrap().unwrap())
            .collect();
        drop(log);
        let log = open(&disk, &small()).unwrap();
        for (number, offset) in offsets.iter().enumerate() {
            let id = ids[number % ids.len()];
            let all = read_all(log.reader(), id, 1 << 20);
            assert_eq!(all[*offset as usize].1, value(number as u64, 700));
            if number > 100 {
                break;
            }
        }
        for id in &ids {
            let all = read_all(log.reader(), *id, 1 << 20);
            let count = offsets.len() / ids.len();
            assert!(all.len() == count || all.len() == count + 1);
        }
    }
}

#[test]
fn a_deleted_partition_is_gone_with_its_files() {
    for (disk, _folder) in disks() {
        let (id, other) = (partition(1, 0), partition(2, 0));
        let log = open(&disk, &small()).unwrap();
        for id in [id, other] {
            ok(&log, Operation::Create(id));
            for number in 0..200 {
                publish(&log, id, &value(number, 1000));
            }
        }
        ok(&log, Operation::Delete(id));
        assert!(matches!(log.reader().read(id, Offset(0), 1), Read::Unknown));
        let refused: Refused = run(&log, Operation::Publish(id, vec![vec![1]])).unwrap_err();
        assert_eq!(refused, CommitError::Refused("unknown partition"));
        log.close();
        drop(log);
        let log = open(&disk, &small()).unwrap();
        assert_eq!(end(&log, id), None);
        assert_eq!(read_all(log.reader(), other, 1 << 20).len(), 200);
        let topics = disk.list("topics").unwrap();
        assert_eq!(topics, vec![other.topic.to_string()]);
    }
}

#[test]
fn both_relaxed_policies_keep_everything_when_the_log_is_closed() {
    for flush in [
        FlushPolicy::Interval(std::time::Duration::from_millis(2)),
        FlushPolicy::Os,
    ] {
        for (disk, _folder) in disks() {
            let mut options = small();
            options.flush = flush;
            let id = partition(1, 0);
            let log = open(&disk, &options).unwrap();
            ok(&log, Operation::Create(id));
            for number in 0..2000 {
                assert_eq!(publish(&log, id, &value(number, 900)), number);
            }
            log.close();
            drop(log);
            let log = open(&disk, &options).unwrap();
            assert_eq!(read_all(log.reader(), id, 1 << 20).len(), 2000);
        }
    }
}

#[test]
fn records_of_many_megabytes_find_room_and_come_back() {
    for (disk, _folder) in disks() {
        let id = partition(1, 0);
        let log = open(&disk, &Options::default()).unwrap();
        ok(&log, Operation::Create(id));
        let large = |number: u64| value(number, 3 * 1024 * 1024);
        for first in [0, 3] {
            let waiting = [first, first + 1, first + 2]
                .map(|n| submit(&log, Operation::Publish(id, vec![large(n)])));
            for (end, number) in waiting.iter().zip(first..) {
                assert_eq!(end.recv().unwrap(), Ok(number));
            }
        }
        drop(log);
        let log = open(&disk, &Options::default()).unwrap();
        let read = read_all(log.reader(), id, 1);
        assert_eq!(read.len(), 6);
        assert!(read.iter().all(|(at, bytes)| *bytes == large(*at)));
    }
}

#[test]
fn a_watcher_sees_what_the_log_does() {
    let id = partition(1, 0);
    let log = open(&memory(), &Options::default()).unwrap();
    ok(&log, Operation::Create(id));
    let before = log.stats();
    for number in 0..10 {
        publish(&log, id, &value(number, 100));
    }
    let after = log.stats();
    assert_eq!(after.commits - before.commits, 10);
    assert_eq!(after.entries - before.entries, 10);
    assert_eq!(after.syncs - before.syncs, 10);
    assert_eq!(after.journal_bytes - before.journal_bytes, 10 * 4096);
    assert!(after.tail_bytes > 10 * 100, "{after:?}");
    log.close();
    let closed = log.stats();
    assert!(
        closed.segment_bytes >= after.tail_bytes && closed.tail_bytes == 0,
        "{closed:?}"
    );
    assert!(
        closed.checkpoints > 0 && closed.replay_bytes < after.replay_bytes,
        "{closed:?}"
    );
}

#[test]
fn a_closed_log_refuses_and_still_reads() {
    let id = partition(1, 0);
    let log = open(&memory(), &Options::default()).unwrap();
    ok(&log, Operation::Create(id));
    publish(&log, id, b"kept");
    log.close();
    assert_eq!(log.health(), Health::ReadOnly(Unavailable::Closed));
    let refused = run(&log, Operation::Publish(id, vec![vec![1]]));
    assert_eq!(refused, Err(CommitError::Unavailable(Unavailable::Closed)));
    assert_eq!(read_all(log.reader(), id, 100), vec![(0, b"kept".to_vec())]);
    log.close();
}

#[test]
fn whoever_publishes_much_waits_behind_itself_alone() {
    const MIB: usize = 1024 * 1024;
    let disk = memory();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    let (much, little) = (partition(1, 0), partition(2, 0));
    log.run(Operation::Create(much)).unwrap();
    log.run(Operation::Create(little)).unwrap();
    let before = log.log.counters().read().commits;
    let flood: Vec<u64> = (0..30)
        .map(|_| log.submit(Operation::Publish(much, vec![vec![1; MIB]])))
        .collect();
    let small = log.submit(Operation::Publish(little, vec![vec![2; 100]]));
    let mut done = Vec::new();
    let mut commits_of_small = None;
    while done.len() < flood.len() + 1 {
        match log.log.poll() {
            Step::Io(io) => {
                let result = io.run(&log.files);
                log.log.finish(io.id, result);
            }
            Step::Done { token, outcome } => {
                outcome.unwrap();
                if token == small {
                    commits_of_small = Some(log.log.counters().read().commits - before);
                }
                done.push(token);
            }
            _ => {}
        }
    }
    assert_eq!(commits_of_small, Some(1), "it is in the first commit");
    done.retain(|token| *token != small);
    assert_eq!(done, flood, "those of one topic keep their order");
}

#[test]
fn checkpoints_go_on_while_there_is_always_a_segment_to_write() {
    let disk = memory();
    let mut options = small();
    options.journal_max_bytes = 256 * 1024 * 1024;
    options.segment_max_bytes = 64 * 1024 * 1024;
    let after = options.checkpoint_after_bytes;
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &options).unwrap();
    log.run(Operation::Create(id)).unwrap();
    let (mut background, mut ended) = (None, None::<Io>);
    let (mut commits, mut waiting) = (0, 0);
    while commits < 400 {
        // Whenever a step is handed out, enough for the next segment waits to be committed.
        while waiting < 3 {
            log.submit(Operation::Publish(id, vec![value(waiting, 32 * 1024)]));
            waiting += 1;
        }
        match log.log.poll() {
            // It ends after the next commit, or where nothing goes on without its end.
            Step::Io(io) if io.lane == Lane::Background => background = Some(io),
            Step::Io(io) => {
                log.log.finish(io.id, io.run(&log.files));
                commits += 1;
                ended = background.take();
            }
            Step::Idle { .. } => ended = background.take(),
            Step::Done { outcome, .. } => {
                outcome.unwrap();
                waiting -= 1;
            }
            _ => {}
        }
        if let Some(io) = ended.take() {
            log.log.finish(io.id, io.run(&log.files));
        }
    }
    let stats = log.log.counters().read();
    assert!(stats.checkpoints > 1, "{stats:?}");
    assert!(stats.replay_bytes < 32 * after, "{stats:?}");
}

/// One by one, the sync of each would wait for the file system's own journal.
#[test]
fn many_files_are_written_out_together_before_each_is_synced() {
    let disk = memory();
    let ids: Vec<_> = (0..5).map(|number| partition(1, number)).collect();
    let mut lengths: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for life in 0..2 {
        let mut log = ByHand::open(&disk, &small()).unwrap();
        for id in &ids {
            if life == 0 {
                log.run(Operation::Create(*id)).unwrap();
            }
            log.publish(*id, &value(life, 100));
        }
        log.log.close();
        let (mut begun, mut synced) = (BTreeMap::new(), BTreeSet::new());
        loop {
            match log.log.poll() {
                Step::Io(io) => {
                    for action in &io.actions {
                        match action {
                            Action::WriteOut { path, range } => {
                                assert!(synced.is_empty(), "{path} after a sync");
                                begun.insert(path.clone(), range.clone());
                            }
                            Action::Sync(path) if path.starts_with("topics/") => {
                                synced.insert(path.clone());
                            }
                            _ => {}
                        }
                    }
                    let result = io.run(&log.files);
                    log.log.finish(io.id, result);
                }
                Step::Closed => break,
                _ => {}
            }
        }
        // A log and a sidecar each: what is new in them.
        assert_eq!(synced.len(), 10);
        assert!(synced.iter().eq(begun.keys()));
        for (path, range) in begun {
            let length = disk.open(&path).unwrap().len().unwrap();
            let before = lengths.insert(path, length).unwrap_or(0);
            assert!(before < length);
            assert_eq!(range, before..length);
        }
    }
}

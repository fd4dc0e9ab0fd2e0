//! Counted syncs, failed syncs, full disks: the log with its steps run by hand.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::{FaultyDisk, disk_of, image};
use common::{ByHand, Operation, at, partition, read_all};
use tidemill_core::budget::{Budget, Class};
use tidemill_core::error::Unavailable;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{CommitError, Disk, FlushPolicy, Health, Lane, Options, PartitionId, Step};

fn faulty() -> (FaultyDisk, Arc<dyn Disk>) {
    let disk = FaultyDisk::new();
    (disk.clone(), Arc::new(disk))
}

fn small() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 64 * 1024;
    options.journal_file_max_bytes = 256 * 1024;
    options.journal_max_bytes = 2 * 1024 * 1024;
    options.checkpoint_after_bytes = 512 * 1024;
    options.tail_max_bytes = 512 * 1024;
    options.segment_write_after_bytes = 32 * 1024;
    options
}

#[test]
fn what_waits_together_is_one_write_and_one_sync() {
    let (faulty, disk) = faulty();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    let id = partition(1, 0);
    log.run(Operation::Create(id)).unwrap();
    let syncs = faulty.control.journal_syncs.load(Ordering::SeqCst);
    let writes = faulty.control.journal_writes.load(Ordering::SeqCst);
    let tokens: Vec<_> = (0..100)
        .map(|n| log.submit(Operation::Publish(id, vec![vec![n; 100]])))
        .collect();
    log.settle();
    for (offset, token) in tokens.iter().enumerate() {
        assert_eq!(log.ended.remove(token).unwrap(), Ok(offset as u64));
    }
    assert_eq!(
        faulty.control.journal_syncs.load(Ordering::SeqCst),
        syncs + 1
    );
    assert_eq!(
        faulty.control.journal_writes.load(Ordering::SeqCst),
        writes + 1
    );
    for n in 0..10 {
        log.publish(id, &[n]);
    }
    assert_eq!(
        faulty.control.journal_syncs.load(Ordering::SeqCst),
        syncs + 11
    );
}

#[test]
fn nothing_is_acknowledged_or_seen_before_its_sync_has_ended() {
    let (_, disk) = faulty();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    let id = partition(1, 0);
    log.run(Operation::Create(id)).unwrap();
    log.submit(Operation::Publish(id, vec![b"waits".to_vec()]));
    let Step::Io(io) = log.log.poll() else {
        panic!("there is something to write");
    };
    assert_eq!(io.lane, Lane::Journal);
    assert!(matches!(log.log.poll(), Step::Idle { .. }));
    assert_eq!(log.reader().bounds(id).unwrap().end.0, 0);
    log.log.finish(io.id, io.run(&log.files));
    assert_eq!(log.reader().bounds(id).unwrap().end.0, 1);
    assert!(matches!(log.log.poll(), Step::Advanced { .. }));
    assert!(matches!(log.log.poll(), Step::Done { .. }));
}

#[test]
fn a_failed_sync_is_final_and_reads_go_on() {
    let (faulty, disk) = faulty();
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    log.run(Operation::Create(id)).unwrap();
    log.publish(id, b"durable");
    faulty.control.fail_syncs("journal/");
    let uncertain = log.run(Operation::Publish(id, vec![b"uncertain".to_vec()]));
    assert!(
        matches!(uncertain, Err(CommitError::Indeterminate(_))),
        "{uncertain:?}"
    );
    assert!(log.failed);
    let later = log.run(Operation::Set(1, 1));
    let failed = |outcome: &_| {
        matches!(
            outcome,
            Err(CommitError::Unavailable(Unavailable::SyncFailed(_)))
        )
    };
    assert!(failed(&later), "{later:?}");
    assert!(matches!(log.log.health(), Health::ReadOnly(_)));
    let read = read_all(&log.reader(), id, 100);
    assert_eq!(read, vec![(0, b"durable".to_vec())]);
}

#[test]
fn a_failed_sync_of_a_segment_or_a_snapshot_is_final_too() {
    for prefix in ["topics/", "snapshots/", "superblock"] {
        let (faulty, disk) = faulty();
        let id = partition(1, 0);
        let mut log = ByHand::open(&disk, &small()).unwrap();
        log.run(Operation::Create(id)).unwrap();
        faulty.control.fail_syncs(prefix);
        let mut published = 0;
        while !log.failed {
            assert!(published < 1000, "{prefix} is never synced");
            let outcome = log.run(Operation::Publish(id, vec![vec![1; 5000]]));
            published += u64::from(outcome.is_ok());
        }
        // Whatever was acknowledged is in the journal.
        let image = image(disk.as_ref(), "");
        let log = ByHand::open(&disk_of(&image), &small()).unwrap();
        assert_eq!(read_all(&log.reader(), id, 1 << 20).len() as u64, published);
    }
}

#[test]
fn a_full_disk_refuses_records_but_not_settlements_and_ends_by_itself() {
    let (faulty, disk) = faulty();
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &small()).unwrap();
    log.run(Operation::Create(id)).unwrap();
    faulty.control.fill("topics/");
    let mut published = 0;
    let refused = loop {
        match log.run(Operation::Publish(id, vec![vec![1; 5000]])) {
            Ok(_) => published += 1,
            Err(error) => break error,
        }
        assert!(published < 1000);
    };
    assert!(
        matches!(refused, CommitError::Unavailable(Unavailable::Full(_))),
        "{refused:?}"
    );
    assert!(matches!(log.log.health(), Health::Full(_)));
    for number in 0..20 {
        log.run(Operation::Set(number, 1)).unwrap();
    }
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len(), published);

    faulty.control.make_space();
    log.log.tick(at(10_000));
    log.settle();
    assert_eq!(log.log.health(), Health::Ready);
    log.run(Operation::Publish(id, vec![vec![2; 5000]]))
        .unwrap();
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len(), published + 1);
}

#[test]
fn an_opening_without_space_says_so_and_loses_nothing() {
    let (faulty, disk) = faulty();
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &small()).unwrap();
    log.run(Operation::Create(id)).unwrap();
    log.publish(id, b"kept");
    faulty.control.fill("journal/");
    let refused = ByHand::open(&disk, &small()).err().unwrap().to_string();
    assert!(refused.contains("free some, then start again"), "{refused}");
    faulty.control.make_space();
    let log = ByHand::open(&disk, &small()).unwrap();
    assert_eq!(
        read_all(&log.reader(), id, 100),
        vec![(0, b"kept".to_vec())]
    );
}

#[test]
fn what_cannot_be_removed_stops_nothing() {
    let (_, disk) = faulty();
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &small()).unwrap();
    log.run(Operation::Create(id)).unwrap();
    for _ in 0..20 {
        log.publish(id, &[1; 5000]);
    }
    let strange = format!("topics/{}/0/strange", id.topic);
    disk.make_dir(&strange).unwrap();
    disk.create(&format!("{strange}/file")).unwrap();
    log.run(Operation::Delete(id)).unwrap();
    assert!(!log.failed);
    log.run(Operation::Create(partition(2, 0))).unwrap();
    log.publish(partition(2, 0), b"goes on");
    let log = ByHand::open(&disk, &small()).unwrap();
    assert!(log.reader().bounds(id).is_none());
    let kept = image(disk.as_ref(), "aside");
    assert!(
        kept.keys().any(|path| path.ends_with("strange/file")),
        "{:?}",
        kept.keys()
    );
}

#[test]
fn a_disk_that_is_full_for_journal_files_refuses_clearly() {
    let (faulty, disk) = faulty();
    let id = partition(1, 0);
    let mut options = small();
    options.journal_file_first_bytes = 512 * 1024;
    options.journal_max_bytes = 64 * 1024 * 1024;
    options.checkpoint_after_bytes = 64 * 1024 * 1024;
    let mut log = ByHand::open(&disk, &options).unwrap();
    log.run(Operation::Create(id)).unwrap();
    faulty.control.fill("journal/0000000002");
    let mut published = 0;
    let refused = loop {
        match log.run(Operation::Publish(id, vec![vec![1; 5000]])) {
            Ok(_) => published += 1,
            Err(error) => break error,
        }
        assert!(published < 1000);
    };
    assert!(
        matches!(refused, CommitError::Unavailable(Unavailable::Full(_))),
        "{refused:?}"
    );
    assert!(!log.failed, "a full disk is not final");
    faulty.control.make_space();
    log.log.tick(at(10_000));
    log.settle();
    for _ in 0..100 {
        log.run(Operation::Publish(id, vec![vec![2; 5000]]))
            .unwrap();
    }
}

#[test]
fn a_memory_disk_refuses_records_at_its_bound_and_goes_on_reading() {
    let bound = 16 * 1024 * 1024;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(bound));
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &Options::in_memory(bound)).unwrap();
    log.run(Operation::Create(id)).unwrap();
    let mut published = 0;
    let mut refusals = 0;
    let mut time = 0;
    while refusals < 50 {
        match log.run(Operation::Publish(id, vec![vec![1; 50_000]])) {
            Ok(_) => published += 1,
            Err(error) => {
                assert!(
                    matches!(error, CommitError::Unavailable(Unavailable::Full(_))),
                    "{error:?}"
                );
                refusals += 1;
                time += 600;
                log.log.tick(at(time));
            }
        }
        assert!(published < 10_000, "the bound holds");
    }
    assert!(published > 100, "{published}");
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len(), published);
    log.run(Operation::Set(1, 1)).unwrap();
    let image = image(disk.as_ref(), "");
    let log = ByHand::open(&disk_of(&image), &Options::in_memory(bound)).unwrap();
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len(), published);
}

/// Submits everything at once and answers how many were taken and how many refused as full.
fn publish_all(log: &mut ByHand, id: PartitionId, values: &[Vec<u8>], times: usize) -> (u64, u64) {
    let submit = |log: &mut ByHand| log.submit(Operation::Publish(id, values.to_vec()));
    let tokens: Vec<_> = (0..times).map(|_| submit(log)).collect();
    log.settle();
    let (mut taken, mut refused) = (0, 0);
    for token in tokens {
        match log.ended.remove(&token).expect("each has an answer") {
            Ok(_) => taken += 1,
            Err(CommitError::Unavailable(Unavailable::Full(_))) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    (taken, refused)
}

#[test]
fn calls_that_need_half_the_journal_get_an_answer_each() {
    let bound = 8 * 1024 * 1024;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(bound));
    let id = partition(1, 0);
    let mut log = ByHand::open(&disk, &Options::in_memory(bound)).unwrap();
    log.run(Operation::Create(id)).unwrap();
    let values = vec![vec![1; 100_000]; 8];
    let (mut all, mut full) = (0, 0);
    for round in 0..20 {
        log.log.tick(at(600 * (round + 1)));
        let (taken, refused) = publish_all(&mut log, id, &values, 4);
        all += taken;
        full += refused;
    }
    assert!(all > 0 && full > 0, "{all} {full}");
    assert!(!log.failed, "a full disk is not final");
    assert_eq!(read_all(&log.reader(), id, 1 << 20).len() as u64, 8 * all);
    log.run(Operation::Set(1, 1)).unwrap();
}

#[test]
fn operations_without_records_go_on_for_ever_on_a_full_disk() {
    let mib = 1024 * 1024;
    // As far apart as the defaults for real disks are, too.
    for (bound, checkpoint_after) in [(4 * mib, None), (16 * mib, None), (16 * mib, Some(8 * mib))]
    {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(bound));
        let mut options = Options::in_memory(bound);
        if let Some(bytes) = checkpoint_after {
            options.checkpoint_after_bytes = bytes;
            options.journal_max_bytes = bound;
        }
        let mut log = ByHand::open(&disk, &options).unwrap();
        let ids: Vec<_> = (0..20).map(|number| partition(number, 0)).collect();
        for id in &ids {
            log.run(Operation::Create(*id)).unwrap();
        }
        let mut published = 0;
        for id in ids.iter().cycle() {
            match log.run(Operation::Publish(*id, vec![vec![1; 20_000]])) {
                Ok(_) => published += 1,
                Err(CommitError::Unavailable(Unavailable::Full(_))) => break,
                Err(other) => panic!("{other:?}"),
            }
        }
        let used = published * 20_000;
        assert!(used > bound as usize / 4, "{used} of {bound} were of use");
        // Five times what the whole journal may have.
        for number in 0..5 * options.journal_max_bytes / 4096 {
            log.run(Operation::Set(number % 10, number)).unwrap();
        }
        let kept: usize = ids
            .iter()
            .map(|id| read_all(&log.reader(), *id, 1 << 20).len())
            .sum();
        assert_eq!(kept, published);
        log.log.close();
        log.settle();
        let log = ByHand::open(&disk, &options).unwrap();
        assert_eq!(log.log.machine().durable.len(), 10);
    }
}

#[test]
fn segments_of_many_partitions_never_take_the_journal_beyond_what_was_filled() {
    let (faulty, disk) = faulty();
    let mut options = small();
    options.journal_max_bytes = 1024 * 1024;
    let mut log = ByHand::open(&disk, &options).unwrap();
    // An opening copies the tail into a file that it makes.
    faulty.control.journal_grew.store(false, Ordering::SeqCst);
    let ids: Vec<_> = (0..3000).map(|number| partition(number, 0)).collect();
    for id in &ids {
        log.run(Operation::Create(*id)).unwrap();
    }
    for round in 0..4 {
        for id in &ids {
            log.submit(Operation::Publish(*id, vec![vec![round; 700]]));
        }
        log.settle();
    }
    assert!(!log.failed);
    assert!(log.ended.values().all(Result::is_ok));
    assert!(!faulty.control.journal_grew.load(Ordering::SeqCst));
    log.log.close();
    log.settle();
    let log = ByHand::open(&disk, &options).unwrap();
    for id in &ids {
        assert_eq!(read_all(&log.reader(), *id, 1 << 20).len(), 4);
    }
}

#[test]
fn too_much_waiting_is_refused_at_once() {
    let (_, disk) = faulty();
    let mut options = Options::default();
    options.memory = Budget::new(tidemill_core::limits::MEMORY_MIN_BYTES);
    let mut log = ByHand::open(&disk, &options).unwrap();
    // One lane gets half of what may wait.
    let half = options.memory.max(Class::Settlements) / 2;
    let max = (half / tidemill_log::limits::OPERATION_BYTES) as u64;
    for _ in 0..max {
        log.submit(Operation::Get(1));
    }
    let over = log.submit(Operation::Get(1));
    assert!(matches!(
        log.log.poll(),
        Step::Done { token, outcome: Err(CommitError::Unavailable(Unavailable::Overloaded)) }
            if token == over
    ));
    log.settle();
    assert_eq!(log.ended.len() as u64, max);
}

#[test]
fn the_interval_policy_syncs_when_its_time_has_come_and_only_then() {
    let (faulty, disk) = faulty();
    let mut options = Options::default();
    options.flush = FlushPolicy::Interval(Duration::from_millis(100));
    let mut log = ByHand::open(&disk, &options).unwrap();
    let id = partition(1, 0);
    let syncs = || faulty.control.journal_syncs.load(Ordering::SeqCst);
    let before = syncs();
    log.run(Operation::Create(id)).unwrap();
    for n in 0..10 {
        log.publish(id, &[n]);
    }
    assert_eq!(syncs(), before);
    assert_eq!(log.wake_at, Some(at(100).monotonic));
    log.log.tick(at(99));
    log.settle();
    assert_eq!(syncs(), before);
    log.log.tick(at(100));
    log.settle();
    assert_eq!(syncs(), before + 1);
    log.log.tick(at(300));
    log.settle();
    assert_eq!(syncs(), before + 1, "nothing was written since");
}

#[test]
fn a_close_syncs_a_bounded_number_of_segments_and_loses_nothing() {
    let (faulty, disk) = faulty();
    let mut log = ByHand::open(&disk, &Options::default()).unwrap();
    let ids: Vec<_> = (0..1000).map(|number| partition(number, 0)).collect();
    for id in &ids {
        log.submit(Operation::Create(*id));
    }
    // What is published takes turns with what is created.
    log.settle();
    for id in &ids {
        log.submit(Operation::Publish(*id, vec![vec![7; 10]]));
    }
    log.settle();
    log.log.close();
    log.settle();
    let syncs = faulty.control.segment_syncs.load(Ordering::SeqCst);
    let bound = tidemill_log::limits::CHECKPOINT_PARTITIONS_MAX as u64;
    assert_eq!(syncs, 2 * bound);
    let log = ByHand::open(&disk, &Options::default()).unwrap();
    for id in &ids {
        assert_eq!(read_all(&log.reader(), *id, 100), vec![(0, vec![7; 10])]);
    }
}

#[test]
fn a_checkpoint_moves_the_head_so_that_the_next_opening_replays_little() {
    let (_, disk) = faulty();
    let mut options = small();
    options.segment_max_bytes = 100 * 1024;
    let ids: Vec<_> = (0..40).map(|number| partition(3, number)).collect();
    let mut log = ByHand::open(&disk, &options).unwrap();
    for id in &ids {
        log.run(Operation::Create(*id)).unwrap();
    }
    for number in 0..4000u64 {
        let id = ids[(number * number % 40) as usize];
        log.run(Operation::Both(id, vec![1; 500], number % 50, number))
            .unwrap();
    }
    let expected: Vec<_> = ids
        .iter()
        .map(|id| read_all(&log.reader(), *id, 1 << 20))
        .collect();
    let image = image(disk.as_ref(), "");
    let log = ByHand::open(&disk_of(&image), &options).unwrap();
    for (id, expected) in ids.iter().zip(&expected) {
        assert_eq!(&read_all(&log.reader(), *id, 1 << 20), expected);
    }
    assert_eq!(log.log.machine().durable.len(), 50);
    let journals = image
        .iter()
        .filter(|(path, _)| path.starts_with("journal/"));
    let bytes: usize = journals.map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes as u64 <= options.journal_max_bytes, "{bytes}");
    assert!(image.keys().any(|path| path.starts_with("snapshots/")));
}

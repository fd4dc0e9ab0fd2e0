//! Settings of partitions, and what the log removes because of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::faulty::{disk_of, every_image, image};
use common::{ByHand, Operation, Registers, TRIMMED, ok, open, partition, publish, read_all, run};
use jiff::Timestamp;
use tidemill_core::Offset;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::inspect::verify;
use tidemill_log::{
    Bounds, Cleanup, Disk, FlushPolicy, Now, Options, PartitionId, PartitionSettings, Read,
    ReadError, Step,
};

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new(1 << 30))
}

#[test]
fn settings_survive_with_and_without_a_snapshot() {
    let disk = memory();
    let (one, other) = (partition(1, 0), partition(1, 1));
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::CompactAndDelete;
    settings.retention_ms = Some(60_000);
    settings.segment_bytes = Some(4096);
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Create(one));
    assert!(run(&log, Operation::Configure(other, settings)).is_err());
    ok(&log, Operation::Configure(one, settings));
    assert_eq!(log.reader().settings(one), Some(settings));
    assert_eq!(log.reader().settings(other), None);
    publish(&log, one, b"record");
    log.close();
    // From the snapshot that the closing made, then from that and the journal behind it.
    for ms in [1, 2] {
        let log = open(&disk, &Options::default()).unwrap();
        assert_eq!(log.reader().settings(one), Some(settings));
        settings.segment_ms = Some(ms);
        ok(&log, Operation::Configure(one, settings));
        log.close();
    }
    let log = open(&disk, &Options::default()).unwrap();
    ok(&log, Operation::Delete(one));
    ok(&log, Operation::Create(one));
    assert_eq!(
        log.reader().settings(one),
        Some(PartitionSettings::default())
    );
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Where the wall clock of these tests begins.
const START_MS: u64 = 1_000 * DAY_MS;

/// `millis` after the start, by both clocks.
fn after(millis: u64) -> Now {
    walls(millis, millis)
}

/// The clocks apart.
fn walls(wall: u64, monotonic: u64) -> Now {
    Now {
        wall: Timestamp::from_millisecond((START_MS + wall) as i64).unwrap(),
        monotonic: Duration::from_millis(monotonic),
    }
}

fn small() -> Options {
    let mut options = Options::default();
    options.segment_max_bytes = 1500;
    options.segment_write_after_bytes = 1;
    options
}

fn id() -> PartitionId {
    partition(1, 0)
}

fn begin(disk: &Arc<dyn Disk>, options: &Options, settings: PartitionSettings) -> ByHand {
    let mut log = ByHand::open_at(disk, options, Registers::default(), after(0)).unwrap();
    log.run(Operation::Create(id())).unwrap();
    log.run(Operation::Configure(id(), settings)).unwrap();
    log
}

fn again(disk: &Arc<dyn Disk>, now: Now) -> ByHand {
    let mut log = ByHand::open_at(disk, &small(), Registers::default(), now).unwrap();
    log.settle();
    log
}

impl ByHand {
    /// Lets the time pass, and the log do what is due then.
    fn pass(&mut self, now: Now) {
        self.log.tick(now);
        self.settle();
        // A look finds what the one before made possible.
        let soon = now.monotonic + Duration::from_secs(5);
        let wall = now.wall + Duration::from_secs(5);
        self.log.tick(Now {
            wall,
            monotonic: soon,
        });
        self.settle();
    }

    /// Publishes records of 1,000 bytes, each with this timestamp after the start.
    fn fill(&mut self, count: u64, millis: u64) {
        for _ in 0..count {
            let row = ((START_MS + millis) as i64, None, Some(vec![7; 1000]));
            self.run(Operation::Records(id(), vec![row])).unwrap();
        }
    }

    fn bounds(&self) -> Bounds {
        self.reader().bounds(id()).unwrap()
    }

    fn earliest(&self) -> u64 {
        self.bounds().earliest.0
    }
}

fn keep_for(millis: u64) -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.retention_ms = Some(millis);
    settings
}

fn segment_files(disk: &dyn Disk) -> Vec<String> {
    let files = image(disk, "").into_keys();
    let mut files: Vec<_> = files.filter(|path| path.ends_with(".log")).collect();
    files.sort();
    files
}

#[test]
fn what_is_kept_for_no_time_goes_as_soon_as_it_may() {
    let disk = memory();
    let mut log = begin(&disk, &small(), keep_for(0));
    for turn in 1..5_u64 {
        let now = turn * 100_000;
        log.pass(after(now));
        log.fill(3, now);
        // It is there at first, whatever it is kept for.
        assert_eq!(log.bounds().end, Offset(turn * 3));
        assert_eq!(log.earliest(), (turn - 1) * 3);
        for more in [2_000, 10_000, 20_000, 30_000] {
            log.pass(after(now + more));
        }
        assert_eq!(log.earliest(), turn * 3);
    }
}

#[test]
fn segments_go_with_age_and_the_earliest_offset_moves() {
    let disk = memory();
    let mut log = begin(&disk, &small(), keep_for(4 * DAY_MS));
    for day in 0..4 {
        log.pass(after(day * DAY_MS + 1));
        log.fill(1, day * DAY_MS + 1);
    }
    log.settle();
    assert_eq!((log.earliest(), segment_files(disk.as_ref()).len()), (0, 4));
    // A reader that has begun before is told, and never gets other records.
    let Read::Disk(early) = log.reader().read(id(), Offset(0), 1) else {
        panic!("the first record is in a segment");
    };
    log.pass(after(5 * DAY_MS + 10));
    assert_eq!(log.earliest(), 2);
    assert!(matches!(early.run(), Err(ReadError::Gone(_))));
    let read = log.reader().read(id(), Offset(1), 1);
    assert!(
        matches!(
            read,
            Read::OutOfRange(Bounds {
                earliest: Offset(2),
                ..
            })
        ),
        "{read:?}"
    );
    assert_eq!(read_all(&log.reader(), id(), 1).len(), 2);
    assert_eq!(segment_files(disk.as_ref()).len(), 2);
    // The last one, to which nothing more is written, expires too.
    log.pass(after(9 * DAY_MS));
    log.pass(after(9 * DAY_MS + 10_000));
    assert_eq!((log.earliest(), log.bounds().end), (4, Offset(4)));
    assert_eq!(log.bounds().size_bytes, 0);
    assert_eq!(segment_files(disk.as_ref()), Vec::<String>::new());
    log.fill(1, 9 * DAY_MS);
    let image = image(disk.as_ref(), "");
    for log in [again(&disk_of(&image), after(9 * DAY_MS)), log] {
        let read = read_all(&log.reader(), id(), 1);
        assert_eq!(read, [(4, vec![7; 1000])]);
        assert_eq!(log.earliest(), 4);
    }
}

#[test]
fn little_that_nothing_else_would_write_to_a_segment_goes_with_age_too() {
    let disk = memory();
    let mut log = begin(&disk, &Options::default(), keep_for(4 * DAY_MS));
    log.fill(3, 0);
    log.pass(after(DAY_MS / 2));
    assert_eq!(segment_files(disk.as_ref()), Vec::<String>::new());
    for day in 1..6 {
        log.pass(after(day * DAY_MS + 10_000));
        assert_eq!(log.earliest(), if day < 4 { 0 } else { 3 }, "day {day}");
    }
    assert_eq!(log.bounds().size_bytes, 0);
    log.fill(1, 6 * DAY_MS);
    assert_eq!(read_all(&log.reader(), id(), 1), [(3, vec![7; 1000])]);
}

#[test]
fn the_oldest_segments_go_as_long_as_the_others_have_the_bytes() {
    let disk = memory();
    let mut settings = PartitionSettings::default();
    settings.retention_bytes = Some(3_000);
    let mut log = begin(&disk, &small(), settings);
    log.fill(10, 0);
    log.pass(after(10_000));
    let bounds = log.bounds();
    assert!((3_000..4_500).contains(&bounds.size_bytes), "{bounds:?}");
    assert_eq!(bounds.earliest, Offset(7));
    assert_eq!(read_all(&log.reader(), id(), 1).len(), 3);
    let mut unbounded = settings;
    unbounded.retention_bytes = None;
    log.run(Operation::Configure(id(), unbounded)).unwrap();
    log.fill(10, 0);
    log.pass(after(20_000));
    assert_eq!(log.earliest(), 7, "and stay when the bound is taken away");
}

#[test]
fn a_leaping_clock_takes_a_little_and_gives_time_to_put_it_right() {
    let disk = memory();
    let mut log = begin(&disk, &small(), keep_for(4 * DAY_MS));
    for day in 0..3 {
        log.pass(after(day * DAY_MS));
        log.fill(1, day * DAY_MS);
    }
    let now = 3 * DAY_MS;
    let decade = 3_650 * DAY_MS;
    log.pass(walls(now + decade, now));
    assert_eq!(log.earliest(), 0, "nothing goes at once");
    let hour = DAY_MS / 24;
    let minute = hour / 60;
    for minutes in 1..40 {
        log.pass(walls(now + decade, now + minutes * minute));
        assert_eq!(log.earliest(), 0);
    }
    for minutes in 40..70 {
        log.pass(walls(now + decade, now + minutes * minute));
    }
    assert_eq!(log.earliest(), 1, "an hour took no more than a day's worth");
    // The clock is put right; then it goes back to the beginning of time.
    log.pass(walls(now + 3 * hour, now + 3 * hour));
    log.pass(walls(0, now + 10 * hour));
    assert_eq!((log.earliest(), log.bounds().end), (1, Offset(3)));
    log.log.close();
    log.settle();
    // A clock that leapt while the log was closed is no other.
    let mut log = again(&disk, walls(now + decade, 0));
    log.pass(walls(now + decade, 1_000));
    assert_eq!(log.earliest(), 1);
    // Time that really passed is caught up with.
    log.pass(walls(now + 20 * DAY_MS, 20 * DAY_MS));
    log.pass(walls(now + 20 * DAY_MS, 20 * DAY_MS + 10_000));
    assert_eq!(log.earliest(), 3);
}

#[test]
fn records_from_the_future_and_of_no_time_go_by_when_they_were_written() {
    for said in [50 * DAY_MS as i64, -1 - START_MS as i64] {
        let disk = memory();
        let mut log = begin(&disk, &small(), keep_for(DAY_MS));
        let row = (START_MS as i64 + said, None, Some(vec![7; 10]));
        log.run(Operation::Records(id(), vec![row])).unwrap();
        log.settle();
        log.pass(after(DAY_MS - 60_000));
        assert_eq!(log.earliest(), 0, "{said}");
        log.pass(after(DAY_MS + 1));
        log.pass(after(DAY_MS + 20_000));
        assert_eq!(log.earliest(), 1, "{said}");
    }
}

#[test]
fn files_go_only_when_the_entry_that_deletes_them_is_synced() {
    let disk = memory();
    let mut options = small();
    options.flush = FlushPolicy::Interval(Duration::from_secs(3600));
    let mut log = begin(&disk, &options, keep_for(4 * DAY_MS));
    for hour in 1..6 {
        log.fill(1, 0);
        log.pass(after(hour * 3_601_000));
    }
    let before = segment_files(disk.as_ref());
    assert!(before.len() > 2, "{before:?}");
    let gone = || {
        let files = segment_files(disk.as_ref());
        before.iter().filter(|path| !files.contains(path)).count()
    };
    let due = after(5 * DAY_MS);
    log.log.tick(due);
    let mut synced = false;
    loop {
        match log.log.poll() {
            Step::Io(io) => {
                let is_sync = io.lane == tidemill_log::Lane::Journal
                    && io.actions.iter().any(tidemill_log::Action::is_sync);
                let result = io.run(&log.files);
                log.log.finish(io.id, result);
                synced |= is_sync && log.earliest() > 0;
                if !synced {
                    assert_eq!(gone(), 0);
                }
            }
            Step::Idle { .. } => {
                if synced && gone() > 0 {
                    break;
                }
                assert_eq!(gone(), 0);
                log.log.tick(after(6 * DAY_MS));
            }
            _ => {}
        }
    }
    assert!(log.earliest() > 0);
}

#[test]
fn what_was_deleted_by_offset_stays_deleted() {
    // In the tail alone, in segments, and in the middle of a batch.
    for (write_after, before) in [(1 << 20, 3), (1 << 20, 4), (1, 3), (1, 4), (1, 6)] {
        let disk = memory();
        let mut options = small();
        options.segment_write_after_bytes = write_after;
        let mut log = begin(&disk, &options, PartitionSettings::default());
        for _ in 0..3 {
            let values = vec![vec![1; 600], vec![2; 600]];
            log.run(Operation::Publish(id(), values)).unwrap();
        }
        assert!(log.run(Operation::Trim(id(), 7)).is_err(), "beyond the end");
        assert_eq!(log.run(Operation::Trim(id(), before)), Ok(before));
        assert_eq!(log.run(Operation::Trim(id(), 1)), Ok(before), "never back");
        log.pass(after(10_000));
        let image = image(disk.as_ref(), "");
        assert_eq!(log.run(Operation::Get(TRIMMED)), Ok(before));
        let told = again(&disk_of(&image), after(0)).run(Operation::Get(TRIMMED));
        assert_eq!(told, Ok(before), "from the journal");
        log.log.close();
        log.settle();
        for log in [
            again(&disk_of(&image), after(0)),
            again(&disk, after(0)),
            log,
        ] {
            let bounds = log.bounds();
            assert_eq!((bounds.earliest.0, bounds.end.0), (before, 6));
            let read = read_all(&log.reader(), id(), 1);
            let offsets: Vec<_> = read.iter().map(|(offset, _)| *offset).collect();
            let left: Vec<_> = (before..6).collect();
            assert_eq!(offsets, left, "{write_after}");
        }
        let mut log = again(&disk, after(0));
        let told = log.run(Operation::Get(TRIMMED));
        assert_eq!(told, Ok(before), "the machine learns of it");
        log.publish(id(), b"more");
        log.pass(after(10_000));
        assert_eq!(read_all(&log.reader(), id(), 1).last().unwrap().0, 6);
        if before == 6 {
            log.pass(after(20_000));
            assert_eq!(
                segment_files(disk.as_ref()).len(),
                1,
                "the disk is given back"
            );
        }
    }
}

#[test]
fn deleted_topics_and_segments_give_their_disk_back_wherever_the_process_dies() {
    let disk = memory();
    let mut log = begin(&disk, &small(), keep_for(4 * DAY_MS));
    let gone = partition(2, 0);
    log.run(Operation::Create(gone)).unwrap();
    for _ in 0..5 {
        log.publish(gone, &[5; 1000]);
    }
    log.fill(5, 0);
    log.log.tick(after(3_600_000));
    log.settle();
    let token = log.submit(Operation::Delete(gone));
    log.log.tick(after(5 * DAY_MS));
    let mut images = every_image(&mut log, &disk);
    log.log.close();
    images.extend(every_image(&mut log, &disk));
    assert!(token > 0);
    let mut shrunk = 0;
    for (step, image) in images.iter().enumerate() {
        let disk = disk_of(image);
        let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
        assert_eq!(report.damage, 0, "step {step}: {report:?}");
        let mut log = again(&disk, after(5 * DAY_MS));
        let deleted = log.reader().bounds(gone).is_none();
        let segments = segment_files(disk.as_ref());
        let of = |id: PartitionId| {
            let dir = format!("topics/{}/", id.topic);
            segments
                .iter()
                .filter(|path| path.starts_with(&dir))
                .count()
        };
        assert_eq!(of(gone) == 0, deleted, "step {step}: {segments:?}");
        assert!(
            !segments.iter().any(|path| path.starts_with("aside")),
            "{segments:?}"
        );
        shrunk += usize::from(deleted);
        // What had expired goes in the end, too.
        log.log.tick(after(5 * DAY_MS + DAY_MS / 4));
        log.settle();
        for day in 6..15 {
            log.pass(after(day * DAY_MS));
        }
        let left = segment_files(disk.as_ref());
        let left = left
            .iter()
            .filter(|path| path.contains(&id().topic.to_string()));
        assert_eq!((left.count(), log.earliest()), (0, 5), "step {step}");
    }
    assert!(
        shrunk > 3 && shrunk < images.len(),
        "{shrunk} of {}",
        images.len()
    );
}

/// A commit is under way that lifts the retention, and a look by the settings that still hold
/// finds what is due: acknowledged is the commit, so nothing goes.
#[test]
fn what_is_due_stays_where_its_retention_is_lifted_before_it_goes() {
    const HOUR_MS: u64 = 3_600_000;
    let disk = memory();
    let mut log = begin(&disk, &small(), keep_for(1_000));
    log.fill(5, 0);
    log.settle();
    let lifting = log.submit(Operation::Configure(id(), PartitionSettings::default()));
    let Step::Io(commit) = log.log.poll() else {
        panic!("a commit was to come");
    };
    log.log.tick(after(HOUR_MS));
    // The look, and what it leads to while the commit is under way.
    let mut begun = vec![commit];
    while let Step::Io(io) = log.log.poll() {
        begun.push(io);
    }
    for io in begun {
        let result = io.run(&log.files);
        log.log.finish(io.id, result);
    }
    log.settle();
    assert!(log.ended.remove(&lifting).unwrap().is_ok());
    log.pass(after(2 * HOUR_MS));
    assert_eq!(log.earliest(), 0);
    // And goes where it is given back.
    log.run(Operation::Configure(id(), keep_for(1_000)))
        .unwrap();
    log.pass(after(3 * HOUR_MS));
    assert!(log.earliest() > 0);
}

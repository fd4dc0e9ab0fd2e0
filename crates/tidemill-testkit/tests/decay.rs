//! Flips bits of what is durable, in every file of a log: it is told, and never served.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Opened, World};
use jiff::Timestamp;
use tidemill_core::Offset;
use tidemill_log::{Batch, Now, OpenError, Read, ReadError, Reader};
use tidemill_testkit::sim::checker::Model;
use tidemill_testkit::sim::ledger::{EventRef, partition_id};

/// A log with segments, a snapshot and a journal's tail that a marker ends, as a loss of power
/// leaves it.
fn prepared() -> (World, Model) {
    let mut world = World::new(1);
    world.options.checkpoint_after_bytes = 96 * 1024;
    let mut opened = world.open().unwrap();
    world.work(&mut opened, 48);
    let (mut log, files) = opened;
    log.tick(Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: Duration::from_secs(5),
    });
    world.run(&mut log, &files);
    drop(log);
    world.disk = world.disk.lose_power();
    let model = world.checker.live().clone();
    (world, model)
}

/// Reads a partition around its damage; answers how many events cannot be read.
fn read_around(reader: &Reader, partition: u64, events: &[EventRef]) -> u64 {
    let id = partition_id(partition);
    assert_eq!(reader.bounds(id).unwrap().end.0, events.len() as u64);
    let (mut at, mut lost) = (0, 0);
    loop {
        let batches = match reader.read(id, Offset(at), 4096) {
            Read::AtEnd => return lost,
            Read::Batches(batches) => batches,
            Read::Disk(read) => match read.run() {
                Ok(batches) => batches,
                Err(ReadError::Damaged { resume, .. }) => {
                    assert!(resume.0 > at, "{resume} is not behind {at}");
                    assert!(
                        resume.0 <= events.len() as u64,
                        "{resume} is behind the end"
                    );
                    lost += resume.0 - at;
                    at = resume.0;
                    continue;
                }
                Err(error) => panic!("{error}"),
            },
            other => panic!("{other:?} at {at}"),
        };
        at = compare(&batches, events);
    }
}

fn compare(batches: &[Batch], events: &[EventRef]) -> u64 {
    for record in batches.iter().flat_map(Batch::records) {
        let record = record.unwrap();
        assert!(events[record.offset.0 as usize].is(&record), "{record:?}");
    }
    batches.last().unwrap().next_offset().0
}

/// What came of a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The start was refused, with a reason.
    Refused,
    /// Events are fenced off.
    Fenced,
    /// Nothing is missing.
    Harmless,
}

fn end_of(world: &mut World, model: &Model) -> End {
    let (log, files): Opened = match world.open() {
        Ok(opened) => opened,
        Err(OpenError::JournalDamaged { .. } | OpenError::Snapshot { .. }) => return End::Refused,
        Err(error) => panic!("{error}"),
    };
    let state = world.shared.enter().recovered.take().unwrap();
    assert_eq!(state, model.state, "the state came back changed");
    let reader = log.reader(files);
    let partitions = model.partitions.iter();
    let lost: u64 = partitions
        .map(|(n, events)| read_around(&reader, *n, events))
        .sum();
    if lost > 0 { End::Fenced } else { End::Harmless }
}

#[test]
fn a_flipped_bit_in_any_file_is_told_and_never_served() {
    let (mut world, model) = prepared();
    let whole = world.disk.clone();
    let mut ends: BTreeMap<&str, BTreeSet<End>> = BTreeMap::new();
    let files = whole.durable_files();
    for (path, _) in files.iter().filter(|(_, length)| *length > 0) {
        let flips = if path.starts_with("journal") { 240 } else { 8 };
        for seed in 0..flips {
            world.disk = whole.copy(seed);
            assert!(world.disk.decay(path).unwrap());
            let end = end_of(&mut world, &model);
            let kind = path.split(['/', '.']).next().unwrap();
            let kind = if path.ends_with(".sum") { "sum" } else { kind };
            ends.entry(kind).or_default().insert(end);
        }
    }
    println!("{ends:?}");
    let saw = |kind: &str, end| ends[kind].contains(&end);
    assert!(
        saw("topics", End::Fenced) && !saw("topics", End::Refused),
        "segments"
    );
    assert!(
        !saw("sum", End::Refused),
        "a sidecar is no reason not to start"
    );
    assert!(
        saw("snapshots", End::Refused) && !saw("snapshots", End::Fenced),
        "snapshots"
    );
    assert!(
        saw("journal", End::Refused) && !saw("journal", End::Fenced),
        "the journal"
    );
    assert_eq!(
        ends["superblock"],
        BTreeSet::from([End::Harmless]),
        "there are two"
    );
}

/// How many events cannot be read.
fn lost(world: &mut World, model: &Model) -> u64 {
    let (log, files) = world.open().unwrap();
    let reader = log.reader(files);
    let partitions = model.partitions.iter();
    partitions
        .map(|(n, events)| read_around(&reader, *n, events))
        .sum()
}

/// The first offset of a segment's file.
fn base_of(path: &str) -> u64 {
    let name = path.rsplit('/').next().unwrap();
    name[..20].parse().unwrap()
}

/// Once a line of another segment's said where to go on behind damage, so that readers passed
/// over sound events, up to behind the partition's end.
#[test]
fn a_sidecar_that_is_another_segments_leads_no_reader_out_of_its_segment() {
    let (mut world, model) = prepared();
    let whole = world.disk.clone();
    let files = whole.durable_files().into_iter();
    let sidecars: Vec<String> = files
        .map(|(path, _)| path)
        .filter(|path| path.ends_with(".sum"))
        .collect();
    let (mut tried, mut most) = (0, 0);
    for pair in sidecars.windows(2) {
        let dir = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
        if dir(&pair[0]) != dir(&pair[1]) {
            continue;
        }
        let span = base_of(&pair[1]) - base_of(&pair[0]);
        for other in sidecars.iter().filter(|other| **other != pair[0]) {
            world.disk = whole.copy(tried);
            world.disk.replace(&pair[0], other).unwrap();
            let lost = lost(&mut world, &model);
            assert!(
                lost <= span,
                "{lost} of {span} events of {}, with {other}",
                pair[0]
            );
            most = most.max(lost);
            tried += 1;
        }
    }
    assert!(tried > 20 && most > 0, "{tried} {most}");
}

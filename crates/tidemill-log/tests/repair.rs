//! What a repair saves, what it says is lost, and that it never takes anything away.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use common::dying::Dying;
use common::faulty::{Image, disk_of, image};
use common::sample::{commits, ids, options, written, written_and};
use common::{ByHand, Operation, partition, read_all};
use tidemill_core::Offset;
use tidemill_log::driver::MemoryDisk;
use tidemill_log::inspect::{Meaning, verify};
use tidemill_log::repair::{Mend, Plan, RepairError, apply, plan};
use tidemill_log::{Disk, Effect, Lsn, OpenError, PartitionId};
use uuid::Uuid;

type Records = BTreeMap<PartitionId, BTreeMap<u64, Vec<u8>>>;

fn planned(disk: &Arc<dyn Disk>) -> Result<Plan, RepairError> {
    plan(disk.as_ref(), &mut (), &mut |_| {})
}

fn repaired(disk: &Arc<dyn Disk>) -> Plan {
    let plan = planned(disk).unwrap();
    apply(disk, &plan, Uuid::now_v7()).unwrap();
    is_clean(disk);
    assert!(planned(disk).unwrap().is_empty(), "once is enough");
    plan
}

fn is_clean(disk: &Arc<dyn Disk>) {
    let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

fn records(log: &ByHand) -> Records {
    let reader = log.reader();
    let known = ids().into_iter().filter(|id| reader.bounds(*id).is_some());
    let all = known.map(|id| (id, read_all(&reader, id, 10_000).into_iter().collect()));
    all.collect()
}

fn opened(disk: &Arc<dyn Disk>) -> ByHand {
    ByHand::open(disk, &options()).unwrap()
}

fn lost(plan: &Plan) -> Vec<(PartitionId, Range<u64>)> {
    let lost = plan.lost.iter();
    lost.map(|lost| (lost.id, lost.offsets.start.0..lost.offsets.end.0))
        .collect()
}

/// Everything but what the plan says is lost is there as it was.
fn only_this_is_lost(log: &ByHand, all: &Records, plan: &Plan) {
    let mut expected = all.clone();
    for (id, offsets) in lost(plan) {
        let records = expected.get_mut(&id).unwrap();
        records.retain(|offset, _| !offsets.contains(offset));
    }
    let found = records(log);
    // A partition that was begun in what is lost is lost as well.
    expected.retain(|id, records| found.contains_key(id) || !records.is_empty());
    assert!(found == expected, "{plan:?}");
}

#[test]
fn a_log_without_damage_needs_nothing_torn_end_or_not() {
    let mut image = written();
    assert!(planned(&disk_of(&image)).unwrap().is_empty());
    let (path, places) = commits(&image);
    let end = places.last().unwrap().1;
    image.get_mut(&path).unwrap()[end + 97..end + 4096].fill(0);
    assert!(planned(&disk_of(&image)).unwrap().is_empty());
    let none = planned(&disk_of(&Image::new())).unwrap_err();
    assert!(matches!(none, RepairError::Inspect(_)), "{none}");
}

#[test]
fn a_hole_in_the_journal_ends_it_and_what_lies_behind_is_named_kept_aside_and_not_given_out_again()
{
    let all = records(&opened(&disk_of(&written())));
    let mut image_before = written();
    let (path, places) = commits(&image_before);
    let (lsn, at) = places[places.len() - 6];
    let last = places.last().unwrap().0;
    image_before.get_mut(&path).unwrap()[at + 100] ^= 1;
    let disk = disk_of(&image_before);
    let refused = ByHand::open(&disk, &options()).err().unwrap();
    assert!(
        matches!(refused, OpenError::JournalDamaged { .. }),
        "{refused}"
    );

    let plan = planned(&disk).unwrap();
    assert_eq!(
        image(disk.as_ref(), ""),
        image_before,
        "a plan changes nothing"
    );
    let journal = plan.journal.clone().unwrap();
    assert_eq!(journal.entries, Lsn(lsn)..Lsn(last + 1));
    assert_eq!((&journal.file, journal.byte), (&path, at as u64));
    let expected = vec![(partition(1, 0), 22..25), (partition(2, 7), 2..5)];
    assert_eq!(lost(&plan), expected);

    let aside = apply(&disk, &plan, Uuid::now_v7()).unwrap();
    is_clean(&disk);
    let after = image(disk.as_ref(), "");
    let kept = aside
        .iter()
        .any(|aside| after[aside] == image_before[&path]);
    assert!(kept, "{aside:?}");
    let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
    assert!(report.entries.end.0 > last + 1, "no number comes twice");

    let mut log = opened(&disk);
    only_this_is_lost(&log, &all, &plan);
    assert_eq!(log.log.machine().durable[&3], 4);
    assert_eq!(log.publish(partition(1, 0), b"new"), 25);
    assert_eq!(log.publish(partition(2, 7), b"new"), 5);
    log.log.close();
    log.settle();
    let log = opened(&disk);
    assert_eq!(records(&log)[&partition(1, 0)].len(), 23);
    is_clean(&disk);
}

#[test]
fn a_journal_that_is_gone_after_a_clean_end_is_begun_anew_and_nothing_is_lost() {
    let disk = disk_of(&written());
    let mut log = opened(&disk);
    log.log.close();
    log.settle();
    let all = records(&log);
    drop(log);
    let mut image = image(disk.as_ref(), "");
    image.retain(|path, _| !path.starts_with("journal/"));
    let disk = disk_of(&image);
    assert!(ByHand::open(&disk, &options()).is_err());
    let plan = repaired(&disk);
    assert!(
        plan.journal
            .is_some_and(|journal| journal.entries.is_empty())
    );
    assert!(plan.lost.is_empty());
    let mut log = opened(&disk);
    assert!(records(&log) == all);
    let id = ids()[0];
    let next = log.reader().bounds(id).unwrap().end;
    assert_eq!(log.publish(id, b"more"), next.0);
}

#[test]
fn with_a_journal_that_is_gone_segments_show_what_is_lost_and_was_given_out() {
    let image = written_and(|log| {
        for number in 0..100 {
            log.publish(partition(1, 0), &[number; 4200]);
            log.publish(partition(2, 7), &[number; 4200]);
        }
    });
    let mut without = image.clone();
    without.retain(|path, _| !path.starts_with("journal/"));
    let disk = disk_of(&without);
    let plan = repaired(&disk);
    let lost = lost(&plan);
    let [(first, a), (second, b)] = lost.as_slice() else {
        panic!("{lost:?}");
    };
    assert_eq!([*first, *second], ids());
    // What segments did not have yet, nobody knows of.
    assert!(a.start == 20 && (26..=125).contains(&a.end), "{a:?}");
    assert!(b.start == 0 && (6..=105).contains(&b.end), "{b:?}");
    let mut log = opened(&disk);
    assert_eq!(log.publish(partition(1, 0), b"new"), a.end);
    // A begun segment shows where it begins, whatever is in it.
    let mut image = without;
    let folder = format!("topics/{}/0/", first.topic);
    let ours = |path: &&String| path.starts_with(&folder) && path.ends_with(".log");
    let newest = image.keys().filter(ours).max().unwrap().clone();
    let base = newest[folder.len()..].trim_end_matches(".log");
    let base = Offset(base.parse().unwrap());
    image.get_mut(&newest).unwrap().fill(0);
    let plan = planned(&disk_of(&image)).unwrap();
    let shown = plan.lost.iter().find(|lost| lost.id == *first).unwrap();
    assert_eq!(shown.offsets.end, base);
}

#[test]
fn damaged_batches_lose_their_own_records_and_a_sidecar_alone_loses_none() {
    let before = written();
    let all = records(&opened(&disk_of(&before)));
    let mut logs: Vec<_> = before
        .keys()
        .filter(|path| path.ends_with(".log"))
        .collect();
    logs.sort();
    let (first, last) = (logs[0].clone(), logs.last().unwrap().to_string());
    let sum = |log: &String| log.replace(".log", ".sum");
    let end_of_first = Offset(logs[1].rsplit_once('/').unwrap().1[..20].parse().unwrap());
    let batch_end = |log: &String| {
        let (from, delta) = (&before[log][..8], &before[log][23..27]);
        let from = u64::from_be_bytes(from.try_into().unwrap());
        from..from + 1 + u64::from(u32::from_be_bytes(delta.try_into().unwrap()))
    };
    let flip = |image: &mut Image, path: &String, at: usize| {
        image.get_mut(path).unwrap()[at] ^= 1;
    };
    type Damage<'a> = Box<dyn Fn(&mut Image) + 'a>;
    let cases: Vec<(Damage<'_>, Option<Range<u64>>)> = vec![
        (
            Box::new(|image| flip(image, &first, 80)),
            Some(batch_end(&first)),
        ),
        (
            Box::new(|image| flip(image, &last, 80)),
            Some(batch_end(&last)),
        ),
        (Box::new(|image| flip(image, &sum(&first), 3)), None),
        (Box::new(|image| drop(image.remove(&sum(&first)))), None),
        (Box::new(|image| drop(image.remove(&sum(&last)))), None),
        (
            Box::new(|image| drop(image.remove(&first))),
            Some(0..end_of_first.0),
        ),
        (
            Box::new(|image| image.get_mut(&first).unwrap().truncate(90)),
            Some(0..end_of_first.0),
        ),
    ];
    for (number, (damage, expected)) in cases.into_iter().enumerate() {
        let mut image = before.clone();
        damage(&mut image);
        let disk = disk_of(&image);
        let plan = repaired(&disk);
        assert_eq!((plan.segments.len(), &plan.journal), (1, &None), "{number}");
        let expected: Vec<_> = expected
            .into_iter()
            .map(|of| (partition(1, 0), of))
            .collect();
        assert_eq!(lost(&plan), expected, "{number}");
        assert_eq!(plan.segments[0].loses, !expected.is_empty());
        let mut log = opened(&disk);
        only_this_is_lost(&log, &all, &plan);
        assert_eq!(log.publish(partition(1, 0), b"on"), 25);
        log.log.close();
        log.settle();
        is_clean(&disk);
        only_this_is_lost_but_the_last(&opened(&disk), &all, &plan);
    }
}

fn only_this_is_lost_but_the_last(log: &ByHand, all: &Records, plan: &Plan) {
    let mut all = all.clone();
    all.get_mut(&partition(1, 0))
        .unwrap()
        .insert(25, b"on".to_vec());
    only_this_is_lost(log, &all, plan);
}

#[test]
fn whatever_byte_is_flipped_the_repair_saves_all_but_what_it_names_or_says_why_not() {
    let before = written();
    let all = records(&opened(&disk_of(&before)));
    let (mut saved, mut hopeless) = (0, 0);
    for (path, bytes) in &before {
        for at in (0..bytes.len()).step_by(bytes.len() / 60 + 1) {
            let mut flipped = before.clone();
            flipped.get_mut(path).unwrap()[at] ^= 0x20;
            let disk = disk_of(&flipped);
            let clean = verify(disk.as_ref(), &mut (), &mut |_| {})
                .unwrap()
                .is_clean();
            match planned(&disk) {
                Ok(plan) if clean => assert!(plan.is_empty(), "{path} at {at}: {plan:?}"),
                Ok(plan) => {
                    assert!(!plan.is_empty(), "{path} at {at}");
                    apply(&disk, &plan, Uuid::now_v7()).unwrap();
                    is_clean(&disk);
                    only_this_is_lost(&opened(&disk), &all, &plan);
                    saved += 1;
                }
                Err(RepairError::Hopeless { file, .. }) => {
                    assert_eq!(file, *path);
                    assert!(path.starts_with("snapshots/"), "{path}");
                    hopeless += 1;
                }
                Err(other) => panic!("{path} at {at}: {other}"),
            }
        }
    }
    assert!(saved > 100 && hopeless > 20, "{saved}, {hopeless}");
}

#[test]
fn a_repair_that_is_killed_at_any_step_takes_nothing_away_and_is_carried_out_by_the_next() {
    let mut before = written();
    let all = records(&opened(&disk_of(&before)));
    let (path, places) = commits(&before);
    before.get_mut(&path).unwrap()[places[places.len() - 6].1 + 100] ^= 1;
    let log = before.keys().filter(|path| path.ends_with(".log")).min();
    let log = log.unwrap().clone();
    before.get_mut(&log).unwrap()[80] ^= 1;
    let expected = planned(&disk_of(&before)).unwrap();
    let mut killed = 0;
    for step in 0.. {
        let inner = disk_of(&before);
        let dying: Arc<dyn Disk> = Arc::new(Dying::after(step, inner.clone()));
        let plan = planned(&dying).unwrap();
        let ended = apply(&dying, &plan, Uuid::now_v7());
        let after = image(inner.as_ref(), "");
        for (path, bytes) in before
            .iter()
            .filter(|(path, _)| !path.starts_with("superblock"))
        {
            let kept = after.values().any(|kept| kept == bytes);
            assert!(kept, "{path} after {step} steps");
        }
        if ended.is_ok() {
            break;
        }
        killed += 1;
        let again = planned(&inner).unwrap();
        if !again.is_empty() {
            apply(&inner, &again, Uuid::now_v7()).unwrap();
        }
        is_clean(&inner);
        only_this_is_lost(&opened(&inner), &all, &expected);
    }
    assert!(killed > 20, "{killed}");
}

/// Says that the machine speaks of this partition up to here.
struct Speaks(PartitionId, Offset);

impl Meaning for Speaks {
    fn effect(&mut self, _: Effect<'_>) -> Result<(), String> {
        Ok(())
    }

    fn chunk(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

impl Mend for Speaks {
    fn reach(&self) -> Vec<(PartitionId, Offset)> {
        vec![(self.0, self.1)]
    }
}

#[test]
fn damage_before_the_snapshots_moment_gives_no_number_and_no_offset_out_again() {
    const PARTITIONS: u32 = 300;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut options = options();
    options.journal_file_first_bytes = 4 << 20;
    let mut log = ByHand::open(&disk, &options).unwrap();
    for number in 0..PARTITIONS {
        log.run(Operation::Create(partition(1, number))).unwrap();
    }
    for number in 0..PARTITIONS {
        log.publish(partition(1, number), b"first");
    }
    log.run(Operation::Set(7, 8)).unwrap();
    // One checkpoint syncs 256 of them; the others hold the head below what its snapshot holds.
    options.checkpoint_after_bytes = 1;
    drop(log);
    let mut log = ByHand::open(&disk, &options).unwrap();
    while log.log.counters().read().checkpoints == 0 {
        match log.log.poll() {
            tidemill_log::Step::Io(io) => {
                let result = io.run(&log.files);
                log.log.finish(io.id, result);
            }
            other => assert!(matches!(other, tidemill_log::Step::Advanced { .. })),
        }
    }
    let mut before = image(disk.as_ref(), "");
    let (path, places) = commits(&before);
    let snapshot = before.keys().find(|path| path.starts_with("snapshots/"));
    let snapshot = u64::from_le_bytes(before[snapshot.unwrap()][16..24].try_into().unwrap());
    let head = u64::from_le_bytes(before["superblock.0"][88..96].try_into().unwrap());
    let damaged = places.iter().find(|(lsn, _)| *lsn > head + 4).unwrap();
    assert!(damaged.0 < snapshot, "{damaged:?} is below {snapshot}");
    before.get_mut(&path).unwrap()[damaged.1 + 100] ^= 1;

    let disk = disk_of(&before);
    // The opening, the partitions, then a record of each.
    let number = damaged.0 - u64::from(PARTITIONS) - 2;
    let hit = partition(1, number as u32);
    let mut speaks = Speaks(hit, Offset(1));
    let plan = plan(disk.as_ref(), &mut speaks, &mut |_| {}).unwrap();
    assert!(lost(&plan).contains(&(hit, 0..1)), "{plan:?}");
    assert!(plan.lost.len() < 44, "what is in segments is not lost");
    apply(&disk, &plan, Uuid::now_v7()).unwrap();
    is_clean(&disk);
    let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
    assert!(report.entries.end.0 > snapshot);
    let mut log = ByHand::open(&disk, &options).unwrap();
    assert_eq!(log.log.machine().durable[&7], 8);
    for number in 0..PARTITIONS {
        let id = partition(1, number);
        let is_lost = plan.lost.iter().any(|lost| lost.id == id);
        let kept = read_all(&log.reader(), id, 10_000).len();
        assert_eq!(kept, usize::from(!is_lost), "{number}");
        assert_eq!(log.publish(id, b"second"), 1, "{number}");
    }
}

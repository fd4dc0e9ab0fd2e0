//! Attempt markers in a real log on a disk in memory: bounded, gone with the settlement, and there
//! again after a restart.

use std::sync::{Arc, mpsc};

use tidemill_core::{GroupName, Offset, Start, TopicId, TopicName};
use tidemill_log::driver::{self, Handle, MemoryDisk};
use tidemill_log::{CommitError, Options};
use uuid::Uuid;

use super::*;
use crate::limits::MARKS_MAX;

const TOPIC: Topic = Topic {
    id: TopicId(Uuid::from_u128(1)),
    partitions: 1,
};

fn partition() -> PartitionId {
    TOPIC.partition_ids().next().unwrap()
}

fn open(disk: &Arc<MemoryDisk>) -> (Handle<BrokerMachine>, Arc<Durable>) {
    let (machine, durable) = BrokerMachine::new();
    let disk: Arc<dyn tidemill_log::Disk> = disk.clone();
    let handle = driver::open(disk, Options::in_memory(16 << 20), machine, Arc::new(()));
    (handle.unwrap(), durable)
}

fn run(
    handle: &Handle<BrokerMachine>,
    operation: Operation,
) -> Result<Receipt, CommitError<Refusal>> {
    let (sender, answer) = mpsc::channel();
    handle.submit(operation, move |answer| sender.send(answer).unwrap());
    answer.recv().unwrap()
}

fn join(kind: GroupKind) -> Operation {
    let topic = JoinTopic {
        name: TopicName::new("t").unwrap(),
        partitions_max: 1,
        create: Some(TOPIC),
    };
    Operation::Join {
        group: GroupName::new("g").unwrap(),
        kind,
        topics: vec![topic],
        start: Start::Beginning,
    }
}

/// Marks offsets with these numbers of attempts.
fn mark(epoch: u64, marks: impl IntoIterator<Item = (u64, u32)>) -> Operation {
    let marks = marks.into_iter().map(|(offset, attempts)| Marked {
        partition: partition(),
        offset: Offset(offset),
        attempts,
    });
    Operation::Mark(Marks {
        group: GroupId(1),
        epoch,
        marks: marks.collect(),
    })
}

fn settle(offset: u64) -> Operation {
    Operation::Commit {
        group: GroupId(1),
        settled: vec![Settled {
            partition: partition(),
            epoch: 0,
            range: Offset(offset)..Offset(offset + 1),
        }],
        appends: Vec::new(),
    }
}

/// What is known: offsets, attempts, epochs.
fn known(durable: &Durable) -> Vec<(u64, u32, u64)> {
    let state = durable.state();
    let marks = &state.group(GroupId(1)).unwrap().marks;
    let marks = marks.values().flatten();
    marks
        .map(|(at, mark)| (at.0, mark.attempts, mark.epoch))
        .collect()
}

#[test]
fn markers_survive_and_go_with_their_settlement() {
    let disk = Arc::new(MemoryDisk::new(16 << 20));
    let (handle, durable) = open(&disk);
    run(&handle, join(GroupKind::Native)).unwrap();
    run(&handle, settle(1)).unwrap();
    // The second one is settled already.
    run(&handle, mark(7, [(0, 1), (1, 1), (2, 1), (4, 2), (5, 1)])).unwrap();
    run(&handle, settle(2)).unwrap();
    run(&handle, mark(7, [(5, 0), (9, 0)])).unwrap();
    assert_eq!(known(&durable), [(0, 1, 7), (4, 2, 7)]);
    let first = durable.state().group(GroupId(1)).unwrap().marks[&partition()][&Offset(0)];
    handle.close();

    let (handle, durable) = open(&disk);
    assert_eq!(known(&durable), [(0, 1, 7), (4, 2, 7)], "by the snapshot");
    run(&handle, mark(8, [(0, 2)])).unwrap();
    assert_eq!(known(&durable), [(0, 2, 8), (4, 2, 7)]);
    let again = durable.state().group(GroupId(1)).unwrap().marks[&partition()][&Offset(0)];
    assert_eq!(again.first_ms, first.first_ms);
    assert!(again.last_ms >= first.last_ms);

    let forgotten = durable.state().marked_groups();
    for (group, marks) in forgotten {
        let epoch = 9;
        let marks = Marks {
            group,
            epoch,
            marks,
        };
        run(&handle, Operation::Mark(marks)).unwrap();
    }
    assert_eq!(known(&durable), []);
    assert_eq!(durable.state().marked_groups(), []);
    handle.close();
}

#[test]
fn a_seek_and_another_kind_of_members_forget_markers() {
    let (handle, durable) = open(&Arc::new(MemoryDisk::new(16 << 20)));
    run(&handle, join(GroupKind::Native)).unwrap();
    run(&handle, mark(7, [(0, 1)])).unwrap();
    let seek = Operation::Seek {
        group: GroupId(1),
        partition: partition(),
        to: SeekTo::Beginning,
    };
    run(&handle, seek).unwrap();
    assert_eq!(known(&durable), []);
    run(&handle, mark(7, [(0, 1)])).unwrap();
    run(&handle, join(GroupKind::Share)).unwrap();
    assert_eq!(known(&durable), []);
    let refused = run(&handle, mark(7, [(0, 1)]));
    assert!(matches!(
        refused,
        Err(CommitError::Refused(Refusal::UnknownGroup))
    ));
    handle.close();
}

#[test]
fn a_group_has_so_many_markers_and_no_more() {
    let (handle, durable) = open(&Arc::new(MemoryDisk::new(16 << 20)));
    run(&handle, join(GroupKind::Native)).unwrap();
    let most = MARKS_MAX as u64;
    let refused = run(&handle, mark(7, (0..=most).map(|at| (at, 1))));
    assert!(matches!(
        refused,
        Err(CommitError::Refused(Refusal::TooMany { .. }))
    ));
    assert_eq!(known(&durable), []);
    run(&handle, mark(7, (0..most).map(|at| (at, 1)))).unwrap();
    // One that is there already takes no more room.
    run(&handle, mark(8, [(0, 2)])).unwrap();
    assert_eq!(known(&durable).len(), MARKS_MAX);
    handle.close();
}

//! Queues in a real log on a disk in memory: made and deleted with their group, and how far above
//! an unsettled message others may be settled.

use std::sync::{Arc, mpsc};

use tidemill_core::limits::CURSOR_WINDOW_MAX;
use tidemill_core::{GroupName, Offset, Start, TopicId, TopicName};
use tidemill_log::driver::{self, Handle, MemoryDisk};
use tidemill_log::{BatchBuilder, CommitError, Machine, Options, PartitionSettings};
use uuid::Uuid;

use super::*;
use crate::queue::QueueSettings;

type Answer = Result<Receipt, CommitError<Refusal>>;

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn topic(number: u128) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(number)),
        partitions: 1,
    }
}

fn partition(topic: Topic) -> PartitionId {
    topic.partition_ids().next().unwrap()
}

fn append(to: &str, route: Topic) -> Append {
    let mut builder = BatchBuilder::new();
    let pushed = builder.push(1, None, Some(b"x"), std::iter::empty());
    pushed.unwrap();
    Append {
        topic: name(to),
        client: Client::Any,
        route,
        create: false,
        batches: vec![(tidemill_core::Partition(0), builder.finish().unwrap())],
    }
}

fn create(of: &str, topic: Topic) -> Operation {
    Operation::CreateQueue {
        name: name(of),
        group: GroupName::new(of).unwrap(),
        topic,
        partitions: PartitionSettings::default(),
        settings: QueueSettings::default(),
    }
}

fn settle(group: u64, topic: Topic, from: u64, to: u64) -> Operation {
    Operation::Commit {
        group: GroupId(group),
        settled: vec![Settled {
            partition: partition(topic),
            epoch: 0,
            range: Offset(from)..Offset(to),
        }],
        appends: Vec::new(),
    }
}

fn open(disk: &Arc<MemoryDisk>) -> (Handle<BrokerMachine>, Arc<Durable>) {
    let (machine, durable) = BrokerMachine::new();
    let options = Options::in_memory(16 << 20);
    let disk: Arc<dyn tidemill_log::Disk> = disk.clone();
    let handle = driver::open(disk, options, machine, Arc::new(())).unwrap();
    (handle, durable)
}

fn run(handle: &Handle<BrokerMachine>, operation: Operation) -> Answer {
    let (sender, answer) = mpsc::channel();
    handle.submit(operation, move |answer| sender.send(answer).unwrap());
    answer.recv().unwrap()
}

fn refused(answer: Answer) -> Refusal {
    match answer {
        Err(CommitError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_far_above_an_unsettled_one_are_settled_in_a_queue_and_in_no_other_group() {
    let (handle, _) = open(&Arc::new(MemoryDisk::new(16 << 20)));
    let (queue, plain) = (topic(1), topic(2));
    run(&handle, create("jobs", queue)).unwrap();
    let made = Operation::CreateTopic {
        name: name("plain"),
        topic: plain,
        settings: PartitionSettings::default(),
    };
    run(&handle, made).unwrap();
    let join = Operation::Join {
        group: GroupName::new("g").unwrap(),
        kind: GroupKind::Native,
        topics: vec![JoinTopic {
            name: name("plain"),
            partitions_max: 1,
            create: None,
        }],
        start: Start::Beginning,
    };
    run(&handle, join).unwrap();
    let far = CURSOR_WINDOW_MAX + 1;
    run(&handle, settle(1, queue, 1, far + 1)).unwrap();
    let full = refused(run(&handle, settle(2, plain, 1, far + 1)));
    assert!(matches!(full, Refusal::Full(_)), "{full:?}");
    let bounds = GroupKind::Queue.bounds();
    assert_eq!(bounds.ranges_max, GroupKind::Native.bounds().ranges_max);
    handle.close();
}

#[test]
fn a_queue_comes_and_goes_with_its_group_also_after_a_restart() {
    let disk = Arc::new(MemoryDisk::new(16 << 20));
    let (handle, durable) = open(&disk);
    let (queue, gone) = (topic(1), topic(2));
    run(&handle, create("jobs", queue)).unwrap();
    run(&handle, create("gone", gone)).unwrap();
    for _ in 0..4 {
        run(&handle, Operation::Enqueue(append("jobs", queue))).unwrap();
    }
    run(&handle, settle(1, queue, 1, 3)).unwrap();
    let name_of = |of: &str| Operation::DeleteQueue { name: name(of) };
    run(&handle, name_of("gone")).unwrap();
    assert_eq!(
        refused(run(&handle, name_of("gone"))),
        Refusal::UnknownQueue(name("gone"))
    );
    let lost = refused(run(&handle, Operation::Enqueue(append("gone", gone))));
    assert_eq!(lost, Refusal::UnknownQueue(name("gone")));
    let wrong = refused(run(&handle, Operation::Publish(append("jobs", queue))));
    assert_eq!(wrong, Refusal::IsQueue(name("jobs")));
    let before = durable.state().clone();
    assert_eq!((before.queues.len(), before.group_count()), (1, 1));
    handle.close();
    let (handle, again) = open(&disk);
    for durable in [durable, again] {
        let (mut machine, _) = BrokerMachine::new();
        machine.durable = durable;
        let settled = |from, to| machine.is_settled(partition(queue), Offset(from)..Offset(to));
        assert!(settled(1, 3) && settled(2, 3));
        assert!(!settled(0, 1) && !settled(1, 4) && !settled(0, 3));
        assert!(!machine.is_settled(partition(gone), Offset(0)..Offset(1)));
    }
    handle.close();
}

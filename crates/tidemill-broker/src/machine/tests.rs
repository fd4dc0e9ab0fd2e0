//! The machine in a real log on a disk in memory: what is decided on sealed state, and what
//! comes back from journal and snapshot.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;

use tidemill_core::error::OutOfRange;
use tidemill_core::{GroupName, Offset, Partition, Start, TopicId, TopicName};
use tidemill_log::driver::{self, Handle, MemoryDisk};
use tidemill_log::{BatchBuilder, CommitError, Machine, Options, PartitionId, PartitionSettings};
use uuid::Uuid;

use super::*;

type Answer = Result<Receipt, CommitError<Refusal>>;

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn topic(number: u128, partitions: u32) -> Topic {
    Topic {
        id: TopicId(Uuid::from_u128(number)),
        partitions,
    }
}

fn partition(topic: Topic, number: u32) -> PartitionId {
    topic.partition_ids().nth(number as usize).unwrap()
}

fn append(to: &str, route: Topic, create: bool) -> Append {
    let mut builder = BatchBuilder::new();
    builder
        .push(1, None, Some(b"x"), std::iter::empty())
        .unwrap();
    Append {
        topic: name(to),
        client: Client::Any,
        route,
        create,
        batches: vec![(tidemill_core::Partition(0), builder.finish().unwrap())],
    }
}

fn join(topics: &[(&str, Option<Topic>)], start: Start) -> Operation {
    let topics = topics.iter().map(|(topic, create)| JoinTopic {
        name: name(topic),
        partitions_max: create.map_or(2, |create| create.partitions),
        create: *create,
    });
    Operation::Join {
        group: GroupName::new("g").unwrap(),
        kind: GroupKind::Native,
        topics: topics.collect(),
        start,
    }
}

fn settle(topic: Topic, range: Range<u64>, appends: Vec<Append>) -> Operation {
    settle_in(0, topic, range, appends)
}

fn settle_in(epoch: u64, topic: Topic, range: Range<u64>, appends: Vec<Append>) -> Operation {
    Operation::Commit {
        group: GroupId(1),
        settled: vec![Settled {
            partition: partition(topic, 0),
            epoch,
            range: Offset(range.start)..Offset(range.end),
        }],
        appends,
    }
}

struct Running {
    handle: Handle<BrokerMachine>,
    durable: Arc<Durable>,
}

impl Running {
    fn open(disk: &Arc<MemoryDisk>) -> Self {
        let (machine, durable) = BrokerMachine::new();
        let options = Options::in_memory(16 << 20);
        let disk: Arc<dyn tidemill_log::Disk> = disk.clone();
        let handle = driver::open(disk, options, machine, Arc::new(())).unwrap();
        Self { handle, durable }
    }

    /// Hands all of them in before it looks at the first answer.
    fn all(&self, operations: Vec<Operation>) -> Vec<Answer> {
        let (sender, answers) = mpsc::channel();
        let count = operations.len();
        for operation in operations {
            let sender = sender.clone();
            self.handle
                .submit(operation, move |answer| sender.send(answer).unwrap());
        }
        answers.iter().take(count).collect()
    }

    fn one(&self, operation: Operation) -> Answer {
        self.all(vec![operation]).remove(0)
    }

    fn position(&self, topic: Topic) -> (u64, u64) {
        let state = self.durable.state();
        let cursor = &state.group(GroupId(1)).unwrap().cursors[&partition(topic, 0)];
        (cursor.position().0, cursor.settled_above())
    }

    fn end(&self, topic: Topic) -> u64 {
        self.handle
            .reader()
            .bounds(partition(topic, 0))
            .unwrap()
            .end
            .0
    }
}

fn refused(answer: &Answer) -> Option<&Refusal> {
    match answer {
        Err(CommitError::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

fn disk() -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::new(16 << 20))
}

#[test]
fn a_second_settlement_is_refused_while_the_first_is_pending() {
    let running = Running::open(&disk());
    let a = topic(1, 1);
    let answers = running.all(vec![
        Operation::Publish(append("a", a, true)),
        join(&[("a", None)], Start::Beginning),
        settle(a, 0..1, vec![append("b", topic(2, 1), true)]),
        settle(a, 0..1, vec![append("b", topic(3, 1), true)]),
        Operation::Publish(append("b", topic(4, 1), true)),
    ]);
    assert_eq!(refused(&answers[3]), Some(&Refusal::Stale));
    assert!(answers[2].is_ok());
    let Ok(Receipt::Appended(bases)) = &answers[4] else {
        panic!("{:?}", answers[4]);
    };
    assert_eq!(
        bases,
        &[[Offset(1)]],
        "nothing of the refused commit was kept"
    );
    assert_eq!(running.position(a), (1, 0));
}

#[test]
fn a_commit_is_refused_whole() {
    let running = Running::open(&disk());
    let (a, wide) = (topic(1, 1), topic(2, 3));
    running
        .one(Operation::Publish(append("a", a, true)))
        .unwrap();
    running.one(join(&[("a", None)], Start::Beginning)).unwrap();
    let create = Operation::CreateTopic {
        name: name("wide"),
        topic: wide,
        settings: PartitionSettings::default(),
    };
    running.one(create).unwrap();
    let unknown = settle(a, 0..1, vec![append("a", a, false), append("no", a, false)]);
    let answer = running.one(unknown);
    assert_eq!(refused(&answer), Some(&Refusal::UnknownTopic(name("no"))));
    let narrow = settle(a, 0..1, vec![append("wide", topic(9, 1), false)]);
    let answer = running.one(narrow);
    let now = wide;
    let rerouted = Refusal::Rerouted {
        topic: name("wide"),
        now,
    };
    assert_eq!(refused(&answer), Some(&rerouted));
    assert_eq!((running.end(a), running.position(a)), (1, (0, 0)));
    running
        .one(settle(a, 0..1, vec![append("a", a, false)]))
        .unwrap();
    assert_eq!((running.end(a), running.position(a)), (2, (1, 0)));
}

#[test]
fn a_settlement_of_an_earlier_epoch_is_refused_whole_and_the_epoch_comes_back() {
    let disk = disk();
    let running = Running::open(&disk);
    let a = topic(1, 1);
    let seek = || Operation::Seek {
        group: GroupId(1),
        partition: partition(a, 0),
        to: SeekTo::Beginning,
    };
    // Operations of other lanes may pass each other.
    running
        .one(Operation::Publish(append("a", a, true)))
        .unwrap();
    running.one(join(&[("a", None)], Start::Beginning)).unwrap();
    let answers = running.all(vec![
        seek(),
        settle_in(0, a, 0..1, vec![append("a", a, false)]),
        settle_in(1, a, 0..1, Vec::new()),
        seek(),
        settle_in(1, a, 0..1, Vec::new()),
    ]);
    assert_eq!(refused(&answers[1]), Some(&Refusal::Sought));
    assert!(answers[2].is_ok(), "{:?}", answers[2]);
    assert_eq!(refused(&answers[4]), Some(&Refusal::Sought));
    assert_eq!((running.end(a), running.position(a)), (1, (0, 0)));
    for round in 0..2 {
        running.handle.close();
        let again = Running::open(&disk);
        let answer = again.one(settle_in(1, a, 0..1, Vec::new()));
        assert_eq!(refused(&answer), Some(&Refusal::Sought), "round {round}");
        again.handle.close();
    }
    let again = Running::open(&disk);
    again.one(settle_in(2, a, 0..1, Vec::new())).unwrap();
    assert_eq!(again.position(a), (1, 0));
}

#[test]
fn positions_begin_where_the_group_asks() {
    let running = Running::open(&disk());
    let a = topic(1, 1);
    let operations = vec![
        Operation::Publish(append("a", a, true)),
        Operation::Publish(append("a", a, false)),
        join(&[("a", None)], Start::End),
        Operation::Publish(append("a", a, false)),
        join(&[("a", None)], Start::Beginning),
        join(&[("b", Some(topic(2, 2)))], Start::At(Offset(7))),
        join(&[("c", None)], Start::End),
        join(&[("b", Some(topic(2, 2)))], Start::At(Offset(0))),
        // One partition of two has that offset: of the other nothing is passed over.
        Operation::CreateTopic {
            name: name("d"),
            topic: topic(3, 2),
            settings: PartitionSettings::default(),
        },
        Operation::Publish(append("d", topic(3, 2), false)),
        join(&[("d", None)], Start::At(Offset(1))),
    ];
    let answers: Vec<_> = operations
        .into_iter()
        .map(|operation| running.one(operation))
        .collect();
    let cursors = |answer: &Answer| match answer {
        Ok(Receipt::Joined { topics, .. }) => topics[0]
            .2
            .iter()
            .map(|cursor| cursor.position().0)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cursors(&answers[2]), [2], "the end as sealed");
    assert_eq!(cursors(&answers[4]), [2], "it goes on where it was");
    // Nothing is left of what is refused, neither the topic that it would have made.
    let outside = Refusal::OutOfRange(Box::new(OutOfRange {
        topic: name("b"),
        partition: Partition(0),
        offset: Offset(7),
        earliest: Offset(0),
        end: Offset(0),
    }));
    assert_eq!(refused(&answers[5]), Some(&outside));
    assert_eq!(cursors(&answers[7]), [0, 0]);
    assert_eq!(cursors(&answers[10]), [1, 0]);
    assert_eq!(
        refused(&answers[6]),
        Some(&Refusal::UnknownTopic(name("c")))
    );
}

#[test]
fn everything_comes_back_from_the_journal_and_from_a_snapshot() {
    let disk = disk();
    let a = topic(1, 2);
    let running = Running::open(&disk);
    running
        .one(Operation::Publish(append("a", a, true)))
        .unwrap();
    for _ in 0..5 {
        running
            .one(Operation::Publish(append("a", a, false)))
            .unwrap();
    }
    running.one(join(&[("a", None)], Start::Beginning)).unwrap();
    for offset in [0, 2, 3, 5] {
        running
            .one(settle(a, offset..offset + 1, Vec::new()))
            .unwrap();
    }
    running
        .one(Operation::CreateTopic {
            name: name("gone"),
            topic: topic(5, 1),
            settings: PartitionSettings::default(),
        })
        .unwrap();
    running
        .one(Operation::DeleteTopic { name: name("gone") })
        .unwrap();
    let before = running.durable.state().clone();
    assert_eq!(running.position(a), (1, 3));
    for round in 0..2 {
        // The first time from the journal as well as from the snapshot that closing makes.
        running.handle.close();
        let again = Running::open(&disk);
        assert_eq!(*again.durable.state(), before, "round {round}");
        let answer = again.one(settle(a, 2..3, Vec::new()));
        assert_eq!(refused(&answer), Some(&Refusal::Stale), "round {round}");
        again.handle.close();
    }
}

#[test]
fn a_large_state_is_dumped_in_chunks_and_loaded_again() {
    let (mut machine, durable) = BrokerMachine::new();
    for number in 0..12_000u32 {
        let created = effect::Change::TopicCreated {
            id: TopicId(Uuid::from_u128(number.into())),
            partitions: 1 + number % 7,
            name: name(&format!("{}-{number}", "long".repeat(10))),
        };
        machine.apply_durable(created);
    }
    machine.recovered();
    let chunks: Vec<_> = machine.dump().collect();
    assert!(chunks.len() > 1, "{} chunk", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.len() < 1 << 20));
    let (mut again, loaded) = BrokerMachine::new();
    for chunk in &chunks {
        again.load(chunk).unwrap();
        assert!(
            BrokerMachine::new()
                .0
                .load(&chunk[..chunk.len() - 1])
                .is_err(),
            "cut"
        );
    }
    assert_eq!(*loaded.state(), *durable.state());
}

/// Groups with this many positions each, in topics of 1,000 partitions.
fn with_positions(groups: u64, positions: u32) -> (BrokerMachine, Arc<Durable>) {
    let (machine, durable) = BrokerMachine::new();
    let topics: Vec<_> = (0..positions.div_ceil(1000))
        .map(|number| topic(number.into(), 1000))
        .collect();
    for (number, topic) in topics.iter().enumerate() {
        machine.apply_durable(effect::Change::TopicCreated {
            id: topic.id,
            partitions: topic.partitions,
            name: name(&format!("t{number}")),
        });
    }
    for group in 1..=groups {
        machine.apply_durable(effect::Change::GroupCreated {
            id: GroupId(group),
            kind: GroupKind::Native,
            name: GroupName::new(format!("g{group}")).unwrap(),
        });
        let partitions = topics.iter().flat_map(|topic| topic.partition_ids());
        for partition in partitions.take(positions as usize) {
            machine.apply_durable(effect::Change::CursorSet {
                group: GroupId(group),
                partition,
                cursor: tidemill_core::cursor::Cursor::at(Offset(group)),
            });
        }
    }
    (machine, durable)
}

#[test]
fn a_snapshot_of_many_positions_walks_each_once() {
    let (_, durable) = with_positions(10, 10_000);
    let mut walked = 0;
    let state = durable.state().clone();
    let chunks = Chunks {
        changes: state.into_changes().inspect(|_| walked += 1),
    };
    let sizes: Vec<_> = chunks.map(|chunk| chunk.len()).collect();
    assert!(sizes.len() > 4, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 2 * SNAPSHOT_CHUNK_BYTES));
    // The next group, the topics, the groups, their positions.
    assert_eq!(walked, 1 + 10 + 10 + 100_000);
}

#[test]
fn a_snapshot_holds_the_moment_at_which_it_was_begun() {
    let (mut machine, durable) = with_positions(3, 20_000);
    let before = durable.state().clone();
    let mut dump = machine.dump();
    let mut chunks = vec![dump.next().unwrap()];
    let settled = |group| effect::Change::Settled {
        group: GroupId(group),
        partition: partition(topic(19, 1000), 999),
        range: Offset(0)..Offset(90),
    };
    let changes = [
        settled(1),
        settled(3),
        effect::Change::GroupDeleted { id: GroupId(2) },
        effect::Change::TopicDeleted {
            id: topic(7, 1000).id,
        },
    ];
    for change in changes {
        machine.apply_durable(change);
    }
    chunks.extend(dump);
    assert!(chunks.len() > 2, "{} chunks", chunks.len());
    assert_ne!(*durable.state(), before);
    let (mut again, loaded) = BrokerMachine::new();
    for chunk in &chunks {
        again.load(chunk).unwrap();
    }
    assert_eq!(*loaded.state(), before);
    machine.recovered();
    assert_eq!(machine.sealed, *durable.state());
}

#[test]
fn a_join_asks_for_the_room_that_its_topics_need_and_is_refused_where_one_has_grown() {
    let running = Running::open(&disk());
    let create = |topic| Operation::CreateTopic {
        name: name("t"),
        topic,
        settings: PartitionSettings::default(),
    };
    let answers = running.all(vec![
        create(topic(1, 3)),
        join(&[("t", Some(topic(2, 2)))], Start::Beginning),
        join(&[("t", Some(topic(2, 3)))], Start::Beginning),
    ]);
    let rerouted = Refusal::Rerouted {
        topic: name("t"),
        now: topic(1, 3),
    };
    assert_eq!(refused(&answers[1]), Some(&rerouted));
    assert!(answers[2].is_ok(), "{:?}", answers[2]);
    let bytes = |partitions| {
        let topics = [("t", Some(topic(1, partitions)))];
        BrokerMachine::demand(&join(&topics, Start::End)).bytes
    };
    let one = bytes(2) - bytes(1);
    assert!((100..1000).contains(&one), "{one} bytes a partition");
    assert_eq!(bytes(1024), bytes(1) + 1023 * one);
}

#[test]
fn numbers_are_bounded() {
    let running = Running::open(&disk());
    let create = |partitions| Operation::CreateTopic {
        name: name("t"),
        topic: topic(1, partitions),
        settings: PartitionSettings::default(),
    };
    for partitions in [0, crate::limits::TOPIC_PARTITIONS_MAX + 1] {
        let answer = running.one(create(partitions));
        assert!(
            matches!(refused(&answer), Some(Refusal::Partitions { .. })),
            "{answer:?}"
        );
    }
    running.one(create(1)).unwrap();
    let answer = running.one(create(1));
    assert_eq!(refused(&answer), Some(&Refusal::TopicExists(name("t"))));
    running.one(join(&[("t", None)], Start::Beginning)).unwrap();
    let bound = tidemill_core::limits::CURSOR_RANGES_MAX as u64;
    let settles = (0..=bound).map(|n| settle(topic(1, 1), 2 * n + 1..2 * n + 2, Vec::new()));
    let answers = running.all(settles.collect());
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(Result::is_ok));
    assert!(matches!(refused(last), Some(Refusal::Full(_))), "{last:?}");
}

#[test]
fn a_group_gets_positions_in_what_its_topic_has_got_and_in_no_other_topic() {
    let running = Running::open(&disk());
    let (a, again) = (topic(1, 1), topic(2, 1));
    let widen = |id| Operation::Widen {
        group: GroupId(1),
        topic: (name("a"), id),
        partitions_max: 1,
    };
    running.one(join(&[("a", Some(a))], Start::End)).unwrap();
    let widened = running.one(widen(a.id));
    assert!(matches!(widened, Ok(Receipt::Joined { .. })), "{widened:?}");
    let gone = Operation::DeleteTopic { name: name("a") };
    running.one(gone).unwrap();
    running
        .one(Operation::Publish(append("a", again, true)))
        .unwrap();
    let answer = running.one(widen(a.id));
    assert_eq!(refused(&answer), Some(&Refusal::UnknownTopic(name("a"))));
    // Clients that set positions themselves have it by now, and stay what they are.
    let kept = Operation::Positions {
        group: GroupName::new("g").unwrap(),
        ask: Positions::Commit(GroupKind::Classic, Vec::new()),
    };
    running.one(kept).unwrap();
    let answer = running.one(widen(again.id));
    assert_eq!(refused(&answer), Some(&Refusal::UnknownGroup));
}

//! The bounds on transactions, in a real log on a disk in memory.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tidemill_core::{Offset, TopicId, TopicName};
use tidemill_log::batch::Producer as Header;
use tidemill_log::driver::{self, Handle, MemoryDisk};
use tidemill_log::{BatchBuilder, CommitError, Options};
use uuid::Uuid;

use super::*;
use crate::limits::{ABORTED_MAX, TRANSACTIONAL_IDS_MAX, TRANSACTIONS_OPEN_MAX};
use crate::producer::{ProducerEpoch, ProducerError, ProducerId, ProducerIdentity};
use crate::transaction::{AbortedRange, Ask, Caller, Given, TransactionOperation, TransactionalId};

type Answer = Result<Receipt, CommitError<Refusal>>;

const TOPIC: Topic = Topic {
    id: TopicId(Uuid::nil()),
    partitions: 1,
};

const PARTITION: PartitionId = PartitionId {
    topic: TopicId(Uuid::nil()),
    partition: tidemill_core::Partition(0),
};

fn open(disk: &Arc<MemoryDisk>, machine: BrokerMachine) -> Handle<BrokerMachine> {
    let disk: Arc<dyn tidemill_log::Disk> = disk.clone();
    driver::open(disk, Options::in_memory(64 << 20), machine, Arc::new(())).unwrap()
}

/// As many at once as may wait.
fn all(log: &Handle<BrokerMachine>, operations: Vec<Operation>) -> Vec<Answer> {
    let mut operations = operations.into_iter().peekable();
    let mut all = Vec::new();
    while operations.peek().is_some() {
        let (sender, answers) = mpsc::channel();
        for operation in operations.by_ref().take(2048) {
            let sender = sender.clone();
            log.submit(operation, move |answer| sender.send(answer).unwrap());
        }
        drop(sender);
        all.extend(answers);
    }
    all
}

fn name() -> TopicName {
    TopicName::new("t").unwrap()
}

fn ask(ask: Ask, fresh: Option<i64>) -> Operation {
    Operation::Transaction(Box::new(TransactionOperation {
        ask,
        bytes_max: 0,
        fresh: fresh.map(ProducerId),
    }))
}

fn id(n: i64) -> TransactionalId {
    TransactionalId::new(format!("t{n}")).unwrap()
}

fn init(n: i64) -> Operation {
    let init = Ask::Init {
        id: id(n),
        timeout: Duration::from_secs(60),
        expected: None,
    };
    ask(init, Some(n))
}

fn identity(n: i64) -> ProducerIdentity {
    ProducerIdentity {
        id: ProducerId(n),
        epoch: ProducerEpoch(0),
    }
}

fn add(n: i64) -> Operation {
    let caller = Caller {
        id: id(n),
        identity: identity(n),
    };
    let partitions = vec![PARTITION];
    ask(Ask::Add { caller, partitions }, None)
}

fn publish(n: i64, sequence: i32) -> Operation {
    let header = Header {
        id: n,
        epoch: 0,
        base_sequence: sequence,
    };
    let mut builder = BatchBuilder::new().producer(header).transactional();
    builder.push(0, None, None, std::iter::empty()).unwrap();
    Operation::Publish(Append {
        topic: name(),
        client: Client::Any,
        route: TOPIC,
        create: false,
        batches: vec![(PARTITION.partition, builder.finish().unwrap())],
    })
}

fn create() -> Operation {
    Operation::CreateTopic {
        name: name(),
        topic: TOPIC,
        settings: tidemill_log::PartitionSettings::default(),
    }
}

fn bound(answer: &Answer) -> Option<usize> {
    match answer {
        Err(CommitError::Refused(Refusal::Producer(error))) => match **error {
            ProducerError::TooMany { max, .. } => Some(max),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn ids_and_open_transactions_are_bounded() {
    let log = open(&Arc::new(MemoryDisk::new(64 << 20)), BrokerMachine::new().0);
    assert!(all(&log, vec![create()])[0].is_ok());
    let ids = TRANSACTIONAL_IDS_MAX as i64;
    let answers = all(&log, (1..=ids + 1).map(init).collect());
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(bound(last), Some(TRANSACTIONAL_IDS_MAX));
    let open = TRANSACTIONS_OPEN_MAX as i64;
    let answers = all(&log, (1..=open + 1).map(add).collect());
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(bound(last), Some(TRANSACTIONS_OPEN_MAX));
    assert!(all(&log, vec![add(1)])[0].is_ok(), "it is open already");
    log.close();
}

#[test]
fn what_was_aborted_is_forgotten_when_its_records_are_deleted() {
    let (mut machine, durable) = BrokerMachine::new();
    let aborted = |first, last| {
        let range = AbortedRange {
            producer: ProducerId(9),
            first: Offset(first),
            last: Offset(last),
            stable: Offset(last + 1),
        };
        let partition = PARTITION;
        Change::Producer(ProducerChange::Aborted { partition, range })
    };
    for n in 0..3 {
        machine.apply_durable(aborted(n * 10, n * 10 + 5));
    }
    // Replayed, and then as it comes.
    machine.trimmed(Lsn(1), PARTITION, Offset(6));
    machine.recovered();
    let bounds = tidemill_log::Bounds {
        earliest: Offset(6),
        end: Offset(100),
        size_bytes: 0,
    };
    let found = |from| {
        let stable = durable.stability.stable(PARTITION, bounds);
        let aborted = stable.aborted(Offset(from), Offset(100));
        let firsts: Vec<_> = aborted.iter().map(|range| range.first.0).collect();
        (stable.earliest.0, firsts)
    };
    assert_eq!(found(0), (6, vec![10, 20]));
    machine.trimmed(Lsn(2), PARTITION, Offset(15));
    assert_eq!(found(0), (6, vec![10, 20]), "its control record is there");
    machine.trimmed(Lsn(3), PARTITION, Offset(16));
    assert_eq!(found(0), (16, vec![20]), "nothing below is read any longer");
    assert_eq!(machine.sealed, *durable.state());
    let mut again = BrokerMachine::new();
    machine
        .dump()
        .for_each(|chunk| again.0.load(&chunk).unwrap());
    assert_eq!(again.1.state().producers.aborted_count(PARTITION), 1);
}

#[test]
fn aborted_transactions_of_a_partition_are_bounded_with_those_that_may_become_one() {
    let disk = Arc::new(MemoryDisk::new(64 << 20));
    let log = open(&disk, BrokerMachine::new().0);
    let answers = all(&log, vec![create(), init(1), init(2)]);
    assert!(answers.iter().all(Result::is_ok));
    log.close();
    // What a snapshot could hold.
    let (machine, _) = BrokerMachine::new();
    for n in 0..ABORTED_MAX as u64 - 1 {
        let range = AbortedRange {
            producer: ProducerId(9),
            first: Offset(n),
            last: Offset(n),
            stable: Offset(n + 1),
        };
        let partition = PARTITION;
        let aborted = ProducerChange::Aborted { partition, range };
        machine.apply_durable(Change::Producer(aborted));
    }
    let log = open(&disk, machine);
    let answers = all(&log, vec![publish(1, 0), publish(2, 0), publish(1, 1)]);
    assert!(answers[0].is_ok(), "{:?}", answers[0]);
    assert_eq!(bound(&answers[1]), Some(ABORTED_MAX));
    assert!(answers[2].is_ok(), "it is open already: {:?}", answers[2]);
    log.close();
}

#[test]
fn what_is_kept_beside_positions_in_transactions_is_bounded_with_its_group() {
    let log = open(&Arc::new(MemoryDisk::new(64 << 20)), BrokerMachine::new().0);
    // As many as need most of what a group may have, with what is kept beside them.
    let count = 1024;
    let note_bytes = crate::limits::COMMIT_METADATA_MAX_BYTES;
    let wide = Topic {
        partitions: count,
        ..TOPIC
    };
    let create = Operation::CreateTopic {
        name: name(),
        topic: wide,
        settings: tidemill_log::PartitionSettings::default(),
    };
    assert!(
        all(&log, vec![create, init(1), init(2)])
            .iter()
            .all(Result::is_ok)
    );
    let offsets = |n: i64, bytes: usize, from: u32, to: u32| {
        let given = || Given {
            offset: Offset(0),
            note: Some(CommitNote {
                leader_epoch: None,
                metadata: "x".repeat(bytes).into(),
            }),
        };
        let partition = |number| PartitionId {
            partition: tidemill_core::Partition(number),
            ..PARTITION
        };
        let offsets = Ask::Offsets {
            caller: Caller {
                id: id(n),
                identity: identity(n),
            },
            begins: true,
            group: tidemill_core::GroupName::new("g").unwrap(),
            offsets: (from..to)
                .map(|number| (partition(number), given()))
                .collect(),
            kind: GroupKind::Classic,
        };
        all(&log, vec![ask(offsets, None)]).remove(0)
    };
    let full = |answer: &Answer| {
        matches!(
            answer,
            Err(CommitError::Refused(Refusal::GroupState { .. }))
        )
    };
    for from in (0..count).step_by(256) {
        let given = offsets(1, note_bytes, from, from + 256);
        assert!(given.is_ok(), "{given:?}");
    }
    // Those of another transaction come on top.
    for from in (0..768).step_by(256) {
        let given = offsets(2, note_bytes, from, from + 256);
        assert!(given.is_ok(), "{given:?}");
    }
    let more = offsets(2, note_bytes, 768, count);
    assert!(full(&more), "{more:?}");
    // Given again it takes the place of what was there.
    let again = offsets(2, note_bytes, 0, 256);
    assert!(again.is_ok(), "{again:?}");
    let short = offsets(2, 0, 0, 256);
    assert!(short.is_ok(), "{short:?}");
    let more = offsets(2, note_bytes, 768, count);
    assert!(more.is_ok(), "{more:?}");
    let grown = offsets(2, note_bytes, 0, 256);
    assert!(full(&grown), "{grown:?}");
}

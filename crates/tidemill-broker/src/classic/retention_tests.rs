//! The end of positions that nobody uses, against those who come back at that moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_core::{GroupName, Offset, Partition, TopicName};

use super::retention::expire;
use super::{ClassicCaller, ClassicCommit};
use crate::admin::CreateTopic;
use crate::broker::Broker;
use crate::consumer::ConsumerCaller;
use crate::machine::{CommitNote, GroupKind, GroupState, Operation, Positions};
use crate::producer::ProducerIdentity;
use crate::transaction::{InitTransactional, TransactionEnd, TransactionalId};

/// Commits a position, as nobody's member.
async fn commit(broker: &Broker, of_consumers: bool, offset: u64) {
    let (name, at) = (group(), at(offset));
    let said = match of_consumers {
        false => {
            let groups = broker.classic_groups();
            groups.commit(&name, &classic(), at).await.unwrap()
        }
        true => {
            let groups = broker.consumer_groups();
            groups.commit(&name, &nobody(), at).await.unwrap()
        }
    };
    assert_eq!(said, [Ok(())]);
}

/// Gives a position to the open transaction, as nobody's member.
async fn give(broker: &Broker, of_consumers: bool, producer: Producer, offset: u64) {
    let (name, at) = (group(), at(offset));
    let producer = (&producer.0, producer.1);
    let said = match of_consumers {
        false => {
            let groups = broker.classic_groups();
            let caller = classic();
            let given = groups.commit_in_transaction(producer, &name, &caller, at);
            given.await.unwrap()
        }
        true => {
            let groups = broker.consumer_groups();
            let caller = nobody();
            let given = groups.commit_in_transaction(producer, &name, &caller, at);
            given.await.unwrap()
        }
    };
    assert_eq!(said, [Ok(())]);
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn nobody() -> ConsumerCaller {
    ConsumerCaller {
        member: "".into(),
        epoch: -1,
    }
}

fn classic() -> ClassicCaller {
    ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    }
}

fn at(offset: u64) -> Vec<ClassicCommit> {
    vec![ClassicCommit {
        topic: TopicName::new("t").unwrap(),
        partition: Partition(0),
        offset: Offset(offset),
        note: CommitNote::default(),
    }]
}

async fn open() -> Broker {
    let broker = Broker::in_memory();
    let topic = TopicName::new("t").unwrap();
    let created = broker.create_topic(topic, CreateTopic::default());
    created.await.unwrap();
    broker
}

/// What a look finds to be forgotten, long after everything.
fn found(broker: &Broker) -> Vec<Arc<GroupState>> {
    let inner = &broker.inner;
    let later = inner.now() + inner.settings.commits_retention + Duration::from_secs(1);
    let mut taken = Vec::new();
    inner.classics.take_unused(inner, later, |seen| {
        // Who joins or commits now waits until it is handed in.
        assert!(inner.classics.groups.try_lock().is_err());
        assert!(inner.consumers.is_locked());
        taken.push(seen);
    });
    taken
}

/// Resolves when the log has answered.
async fn forget(broker: &Broker, seen: Arc<GroupState>) -> bool {
    let group = seen.name.clone();
    let ask = Positions::Expire(seen);
    let operation = Operation::Positions { group, ask };
    broker.inner.submit(operation).await.is_ok()
}

fn position(broker: &Broker) -> Option<Offset> {
    let all = broker.classic_groups().offsets(&group());
    all.first().and_then(|one| one.offset)
}

#[tokio::test]
async fn nobody_comes_back_between_the_look_and_the_expiry() {
    for of_consumers in [false, true] {
        let broker = open().await;
        commit(&broker, of_consumers, 1).await;
        let taken = found(&broker);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].name, group());
        assert!(!broker.inner.consumers.is_locked());
        assert!(forget(&broker, Arc::clone(&taken[0])).await);
        assert_eq!(position(&broker), None);
    }
}

#[tokio::test]
async fn what_was_committed_before_the_expiry_is_sealed_stays() {
    for of_consumers in [false, true] {
        let broker = open().await;
        commit(&broker, of_consumers, 1).await;
        let seen = found(&broker).remove(0);
        commit(&broker, of_consumers, 2).await;
        assert!(!forget(&broker, seen).await);
        assert_eq!(position(&broker), Some(Offset(2)));
        // What is in the log only after it begins anew.
        let seen = found(&broker).remove(0);
        assert!(forget(&broker, seen).await);
        commit(&broker, of_consumers, 3).await;
        assert_eq!(position(&broker), Some(Offset(3)));
    }
}

type Producer = (TransactionalId, ProducerIdentity);

async fn begin(broker: &Broker) -> Producer {
    let id = TransactionalId::new("tx").unwrap();
    let init = InitTransactional {
        id: id.clone(),
        timeout: Duration::from_secs(60),
        expected: None,
    };
    let identity = broker.init_transactional(init).await.unwrap();
    broker.add_to_transaction(&id, identity, &[]).await.unwrap();
    (id, identity)
}

async fn end(broker: &Broker, producer: Producer) {
    let end = TransactionEnd {
        commit: true,
        renew: false,
    };
    let ended = broker.end_transaction(&producer.0, producer.1, end);
    ended.await.unwrap();
}

#[tokio::test]
async fn what_an_open_transaction_holds_for_a_group_and_what_its_end_sets_stays() {
    for of_consumers in [false, true] {
        let broker = open().await;
        let producer = begin(&broker).await;
        commit(&broker, of_consumers, 1).await;
        let before = found(&broker).remove(0);
        give(&broker, of_consumers, producer.clone(), 2).await;
        // It is as it was seen, but for what the transaction holds.
        assert!(!forget(&broker, Arc::clone(&before)).await);
        assert_eq!(position(&broker), Some(Offset(1)));
        end(&broker, producer).await;
        assert!(!forget(&broker, before).await);
        assert_eq!(position(&broker), Some(Offset(2)));
    }
}

#[tokio::test]
async fn the_end_of_a_transaction_uses_a_group_of_which_nobody_is_there() {
    let broker = open().await;
    let producer = begin(&broker).await;
    // Of this kind from then on, and forgotten in memory: as after an opening.
    commit(&broker, true, 1).await;
    let inner = &broker.inner;
    inner.consumers.group_gone(&group());
    inner.classics.retained.store(false, Ordering::Relaxed);
    give(&broker, true, producer.clone(), 2).await;
    let looked_after = || inner.classics.retained.load(Ordering::Relaxed);
    assert!(looked_after());
    end(&broker, producer).await;
    let keep = inner.settings.commits_retention;
    let looks = |now| {
        let mut taken = 0;
        inner.classics.take_unused(inner, now, |_| taken += 1);
        taken
    };
    // Long after the opening, and not long after the transaction.
    let mut ended = inner.classics.ended();
    assert_eq!(ended.len(), 1);
    ended.values_mut().for_each(|at| *at = keep);
    drop(ended);
    assert_eq!(looks(keep + keep / 2), 0);
    assert_eq!(looks(keep * 2), 1);
    assert!(inner.classics.ended().is_empty());
}

#[tokio::test]
async fn who_joined_meanwhile_is_in_a_group_that_the_log_has() {
    let broker = open().await;
    let groups = broker.consumer_groups();
    groups.commit(&group(), &nobody(), at(1)).await.unwrap();
    let seen = found(&broker).remove(0);
    let inner = &broker.inner;
    let hold = inner.classics.kinds.hold(&group(), GroupKind::Consumer);
    expire(inner, seen);
    // What is submitted later to the same lane comes later: the group is there again by then.
    let barrier = || Operation::Positions {
        group: group(),
        ask: Positions::Remove(Vec::new()),
    };
    let _ = inner.submit(barrier()).await;
    inner.submit(barrier()).await.unwrap();
    assert_eq!(position(&broker), None);
    assert_eq!(inner.group_kind(&group()), Some(GroupKind::Consumer));
    drop(hold);
}

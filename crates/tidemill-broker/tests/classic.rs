//! Classic groups in a broker: members, positions that clients commit, and how a group passes
//! from one kind of members to another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{Folder, events, group, join, settle, take, topic};
use tidemill_broker::{
    Broker, ClassicCaller, ClassicCommit, ClassicError, ClassicGroups, ClassicJoin, ClassicJoined,
    ClassicProtocol, ClassicState, ClassicSync, CommitNote, CommitRefused, CommittedOffset,
    GroupError, GroupKind, SeekTo, TransactionEnd, TransactionalId,
};
use tidemill_core::{Commit, Offset, Order, Partition, Start, SubscribeError, Subscription};

fn asks(member: &str) -> ClassicJoin {
    ClassicJoin {
        member: member.into(),
        instance: None,
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(30),
        protocol_type: "consumer".into(),
        protocols: vec![ClassicProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"topics"),
        }],
        asks_twice: false,
        may_skip: false,
    }
}

fn nobody() -> ClassicCaller {
    ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    }
}

fn caller(joined: &ClassicJoined) -> ClassicCaller {
    ClassicCaller {
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
    }
}

fn commit_at(offset: u64, metadata: &str) -> ClassicCommit {
    ClassicCommit {
        topic: topic("t"),
        partition: Partition(0),
        offset: Offset(offset),
        note: CommitNote {
            leader_epoch: Some(3),
            metadata: metadata.to_owned().into(),
        },
    }
}

/// What a group has in the one partition.
fn position(groups: &ClassicGroups, name: &str) -> Option<(u64, String)> {
    let mut all: Vec<CommittedOffset> = groups.offsets(&group(name));
    assert!(all.len() <= 1, "{all:?}");
    let one = all.pop()?;
    Some((one.offset?.0, one.note.metadata.to_string()))
}

async fn set(groups: &ClassicGroups, name: &str, offset: u64, metadata: &str) {
    let commits = vec![commit_at(offset, metadata)];
    let said = groups.commit(&group(name), &nobody(), commits).await;
    assert_eq!(said, Ok(vec![Ok(())]));
}

/// A lone member of a stable group.
async fn alone(groups: &ClassicGroups, name: &str) -> ClassicCaller {
    let joined = groups.join(&group(name), asks("")).await.unwrap();
    let caller = caller(&joined);
    let sync = ClassicSync {
        caller: caller.clone(),
        assignments: vec![(joined.member, Bytes::from_static(b"all"))],
        ..ClassicSync::default()
    };
    let synced = groups.sync(&group(name), sync).await.unwrap();
    assert_eq!(synced.assignment, "all");
    caller
}

fn at_once() -> tidemill_broker::Builder {
    Broker::builder().classic_initial_delay(Duration::ZERO)
}

async fn with_events(broker: &Broker, count: usize) {
    let published = broker.bus().publish(topic("t"), events(0, count)).await;
    published.unwrap();
}

#[tokio::test]
async fn positions_and_what_is_kept_beside_them_survive_restarts() {
    let folder = Folder::new();
    let broker = folder.open().await;
    with_events(&broker, 10).await;
    let groups = broker.classic_groups();
    set(&groups, "g", 7, "as far as here").await;
    set(&groups, "g", 5, "back again, für später").await;
    let unknown = ClassicCommit {
        partition: Partition(9),
        ..commit_at(1, "")
    };
    let long = commit_at(1, &"x".repeat(4097));
    let said = groups
        .commit(&group("g"), &nobody(), vec![unknown, long])
        .await
        .unwrap();
    let too_long = CommitRefused::Metadata { max: 4096 };
    assert_eq!(said, [Err(CommitRefused::UnknownPartition), Err(too_long)]);
    let before = groups.offsets(&group("g"));
    assert_eq!(before[0].note.leader_epoch, Some(3));
    drop(groups);
    for _ in 0..2 {
        // From the journal, and then from a snapshot.
        broker.close().await;
        let again = folder.open().await;
        let groups = again.classic_groups();
        assert_eq!(groups.offsets(&group("g")), before);
        assert_eq!(position(&groups, "g").unwrap().0, 5);
        assert_eq!(again.group(&group("g")).unwrap().kind, GroupKind::Classic);
        assert_eq!(again.group(&group("g")).unwrap().lag(), 5);
        again.close().await;
    }
}

#[tokio::test]
async fn an_empty_group_passes_from_kind_to_kind_with_its_position() {
    let broker = at_once().open().await.unwrap();
    with_events(&broker, 10).await;
    let groups = broker.classic_groups();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    settle(&mut *member, 5).await;
    // The sixth stays unsettled, the seventh is settled.
    let mut held = take(&mut *member, 2).await;
    held.pop().unwrap().1.settle(Commit::ack()).await.unwrap();
    let refused = groups.join(&group("g"), asks("")).await.unwrap_err();
    let ClassicError::Protocol(why) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("native") && why.contains("Kafka classic"),
        "{why}"
    );
    let commits = vec![commit_at(1, "")];
    let refused = groups.commit(&group("g"), &nobody(), commits).await;
    assert!(
        matches!(refused, Err(ClassicError::Protocol(_))),
        "{refused:?}"
    );
    drop((held, member));
    assert_eq!(
        position(&groups, "g"),
        Some((5, String::new())),
        "it is read on from there"
    );

    let caller = alone(&groups, "g").await;
    let subscription = Subscription {
        topics: vec![topic("t")],
        group: group("g"),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let refused = broker.bus().subscribe(subscription).await.err().unwrap();
    let SubscribeError::GroupConflict { why, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("native") && why.contains("Kafka classic"),
        "{why}"
    );
    let info = broker.group(&group("g")).unwrap();
    assert_eq!((info.kind, info.members.len()), (GroupKind::Classic, 0));
    let said = groups
        .commit(&group("g"), &caller, vec![commit_at(3, "back")])
        .await;
    assert_eq!(said, Ok(vec![Ok(())]));
    groups.leave(&group("g"), &caller.member, None).unwrap();

    // The native members go on there; what was settled above is forgotten.
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let seen = settle(&mut *member, 7).await;
    assert_eq!(seen, ["3", "4", "5", "6", "7", "8", "9"]);
    drop(member);
    assert_eq!(
        position(&groups, "g"),
        Some((10, String::new())),
        "the note was for offset 3"
    );
    assert_eq!(broker.group(&group("g")).unwrap().kind, GroupKind::Native);
    broker.close().await;
}

#[tokio::test]
async fn members_share_a_group_and_go() {
    let broker = at_once().open().await.unwrap();
    with_events(&broker, 1).await;
    let groups = broker.classic_groups();
    let first = alone(&groups, "g").await;
    let (of, other) = (groups.clone(), group("g"));
    let second = tokio::spawn(async move { of.join(&other, asks("")).await });
    // The new one is known as soon as heartbeats tell of it.
    while groups.heartbeat(&group("g"), &first).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        groups.heartbeat(&group("g"), &first),
        Err(ClassicError::Rebalancing)
    );
    let again = groups.join(&group("g"), asks(&first.member)).await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!((again.generation, second.generation), (2, 2));
    assert_eq!((again.members.len(), second.members.len()), (2, 0));
    let described = groups.describe(&group("g")).unwrap();
    assert_eq!(described.state, ClassicState::CompletingRebalance);
    assert_eq!(described.members.len(), 2);
    let stale = groups
        .commit(&group("g"), &first, vec![commit_at(1, "")])
        .await;
    assert_eq!(stale, Err(ClassicError::Generation));
    assert_eq!(
        groups.delete(&group("g")).await,
        Err(ClassicError::NotEmpty)
    );
    let used = broker.delete_group_without_members(&group("g")).await;
    assert!(
        matches!(used, Err(GroupError::InUse { members: 2, .. })),
        "{used:?}"
    );
    let sought = broker
        .seek(&group("g"), &topic("t"), Partition(0), SeekTo::End)
        .await;
    assert!(
        matches!(sought, Err(GroupError::InUse { .. })),
        "{sought:?}"
    );
    for member in [again.member, second.member] {
        groups.leave(&group("g"), &member, None).unwrap();
    }
    assert_eq!(
        groups.describe(&group("g")).unwrap().state,
        ClassicState::Empty
    );
    // A member of ours is there then, and is shown.
    let member = join(&broker, "g", "t", Order::PerKey).await;
    let described = groups.describe(&group("g")).unwrap();
    assert_eq!(described.state, ClassicState::Stable);
    assert_eq!(described.protocol_type, "tidemill");
    assert_eq!(described.members.len(), 1);
    drop(member);
    groups.delete(&group("g")).await.unwrap();
    assert_eq!(groups.describe(&group("g")), None);
    assert_eq!(
        groups.delete(&group("g")).await,
        Err(ClassicError::UnknownGroup)
    );
    broker.close().await;
}

#[tokio::test]
async fn a_restart_ends_the_members_and_keeps_the_positions() {
    let folder = Folder::new();
    let open = || folder.builder().classic_initial_delay(Duration::ZERO);
    let broker = open().open().await.unwrap();
    with_events(&broker, 4).await;
    let member = alone(&broker.classic_groups(), "g").await;
    let commits = vec![commit_at(2, "half")];
    let said = broker
        .classic_groups()
        .commit(&group("g"), &member, commits)
        .await;
    assert_eq!(said, Ok(vec![Ok(())]));
    broker.close().await;
    drop(broker);
    let broker = open().open().await.unwrap();
    let groups = broker.classic_groups();
    assert_eq!(
        groups.heartbeat(&group("g"), &member),
        Err(ClassicError::UnknownMember)
    );
    let late = groups
        .commit(&group("g"), &member, vec![commit_at(4, "")])
        .await;
    assert_eq!(late, Err(ClassicError::Generation));
    assert_eq!(position(&groups, "g"), Some((2, "half".into())));
    alone(&groups, "g").await;
    broker.close().await;
}

#[tokio::test]
async fn whoever_waits_is_told_when_the_broker_closes_and_when_the_group_goes() {
    let broker = Broker::builder()
        .classic_initial_delay(Duration::from_secs(600))
        .open()
        .await
        .unwrap();
    let groups = broker.classic_groups();
    let wait = |name: &'static str| {
        let groups = groups.clone();
        tokio::spawn(async move { groups.join(&group(name), asks("")).await })
    };
    let (gone, closed) = (wait("gone"), wait("closed"));
    for name in ["gone", "closed"] {
        let there = || {
            groups
                .describe(&group(name))
                .is_some_and(|of| !of.members.is_empty())
        };
        while !there() {
            tokio::task::yield_now().await;
        }
    }
    broker.delete_group(&group("gone")).await.unwrap();
    assert_eq!(gone.await.unwrap(), Err(ClassicError::UnknownMember));
    broker.close().await;
    assert_eq!(closed.await.unwrap(), Err(ClassicError::Unavailable));
    let late = groups.join(&group("closed"), asks("")).await;
    assert_eq!(late, Err(ClassicError::Unavailable));
}

/// Paused, time goes by itself where nothing else does.
#[tokio::test]
async fn who_is_silent_is_taken_out_and_the_other_goes_on() {
    let broker = at_once().open().await.unwrap();
    let groups = broker.classic_groups();
    let silent = alone(&groups, "g").await;
    tokio::time::pause();
    let joined = groups.join(&group("g"), asks("")).await.unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    let gone = groups.heartbeat(&group("g"), &silent);
    assert_eq!(gone, Err(ClassicError::UnknownMember));
    broker.close().await;
}

#[tokio::test]
async fn positions_that_nobody_uses_are_kept_for_their_time_and_no_longer() {
    let hour = Duration::from_secs(3600);
    let broker = at_once().commits_retention(hour).open().await.unwrap();
    with_events(&broker, 4).await;
    let groups = broker.classic_groups();
    set(&groups, "unused", 1, "").await;
    drop(join(&broker, "native", "t", Order::PerKey).await);
    let member = alone(&groups, "used").await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    while groups.describe(&group("unused")).is_some() {
        assert_eq!(groups.heartbeat(&group("used"), &member), Ok(()));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(
        begun.elapsed() + Duration::from_secs(60) > hour,
        "{:?}",
        begun.elapsed()
    );
    assert!(groups.describe(&group("used")).is_some());
    assert!(broker.group(&group("native")).is_some());
    broker.close().await;
}

#[tokio::test]
async fn positions_of_a_transaction_are_pending_until_it_ends() {
    let broker = at_once().open().await.unwrap();
    with_events(&broker, 9).await;
    let groups = broker.classic_groups();
    set(&groups, "g", 1, "before").await;
    let id = TransactionalId::new("tx").unwrap();
    let init = tidemill_broker::InitTransactional {
        id: id.clone(),
        timeout: Duration::from_secs(60),
        expected: None,
    };
    let producer = broker.init_transactional(init).await.unwrap();
    let give = |offset, metadata: &'static str, caller: ClassicCaller| {
        let (groups, id) = (groups.clone(), id.clone());
        async move {
            let commits = vec![commit_at(offset, metadata)];
            let producer = (&id, producer);
            groups
                .commit_in_transaction(producer, &group("g"), &caller, commits)
                .await
        }
    };
    assert!(
        give(2, "", nobody()).await.is_err(),
        "no transaction is open"
    );
    for (offset, commit) in [(5, false), (6, true)] {
        broker.add_to_transaction(&id, producer, &[]).await.unwrap();
        assert_eq!(give(offset, "in it", nobody()).await, Ok(vec![Ok(())]));
        assert!(groups.offsets(&group("g"))[0].is_pending);
        assert_eq!(position(&groups, "g"), Some((1, "before".into())));
        let end = TransactionEnd {
            commit,
            renew: false,
        };
        broker.end_transaction(&id, producer, end).await.unwrap();
        assert!(!groups.offsets(&group("g"))[0].is_pending);
    }
    assert_eq!(position(&groups, "g"), Some((6, "in it".into())));
    broker.add_to_transaction(&id, producer, &[]).await.unwrap();
    let stranger = ClassicCaller {
        member: "stranger".into(),
        generation: 1,
        instance: None,
    };
    let refused = give(7, "", stranger).await.unwrap_err();
    assert_eq!(refused, ClassicError::UnknownMember.into());
    broker.close().await;
}

#[tokio::test]
async fn removed_positions_are_gone_and_the_others_stay() {
    let folder = Folder::new();
    let broker = folder.open().await;
    with_events(&broker, 4).await;
    broker
        .bus()
        .publish(topic("u"), events(0, 1))
        .await
        .unwrap();
    let groups = broker.classic_groups();
    set(&groups, "g", 2, "kept").await;
    let other = ClassicCommit {
        topic: topic("u"),
        ..commit_at(1, "gone")
    };
    groups
        .commit(&group("g"), &nobody(), vec![other])
        .await
        .unwrap();
    assert_eq!(groups.offsets(&group("g")).len(), 2);
    let removed = [(topic("u"), Partition(0)), (topic("never"), Partition(3))];
    groups.remove_offsets(&group("g"), &removed).await.unwrap();
    broker.close().await;
    let again = folder.open().await;
    assert_eq!(
        position(&again.classic_groups(), "g"),
        Some((2, "kept".into()))
    );
    again.close().await;
}

#[tokio::test]
async fn what_all_groups_are_given_is_bounded() {
    let broker = at_once().open().await.unwrap();
    let groups = broker.classic_groups();
    // One copy in memory for all of them; each counts for itself.
    let part = Bytes::from(vec![0; 7 * 1024 * 1024]);
    let mut given = 0;
    let mut refused = Vec::new();
    for n in 0..12 {
        let name = group(&format!("g{n}"));
        let joined = groups.join(&name, asks("")).await.unwrap();
        let sync = ClassicSync {
            caller: caller(&joined),
            assignments: vec![(joined.member.clone(), part.clone())],
            ..ClassicSync::default()
        };
        match groups.sync(&name, sync.clone()).await {
            Ok(synced) => given += synced.assignment.len(),
            Err(ClassicError::Full(_)) => refused.push((name, sync)),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((given / part.len(), refused.len()), (9, 3));
    let member = groups.describe(&group("g0")).unwrap().members.remove(0);
    groups.leave(&group("g0"), &member.member, None).unwrap();
    // What was given back is free for another one, once.
    let (name, sync) = refused.remove(0);
    groups.sync(&name, sync).await.unwrap();
    let (name, sync) = refused.remove(0);
    let again = groups.sync(&name, sync).await;
    assert!(matches!(again, Err(ClassicError::Full(_))), "{again:?}");
}

//! Consumer groups on a real broker: their kind, their time, and what is kept of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill_broker::{
    Broker, ClassicCaller, ClassicCommit, ClassicError, CommitNote, ConsumerCaller, ConsumerError,
    ConsumerHeartbeat, ConsumerParts, ConsumerState, CreateTopic, EPOCH_JOIN, EPOCH_LEAVE,
    GroupError, GroupKind,
};
use tidemill_core::{GroupName, Offset, Order, Partition, Start, Subscription, TopicName};

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn join(member: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch: EPOCH_JOIN,
        rebalance_timeout: Some(Duration::from_secs(60)),
        topics: Some(BTreeSet::from([topic()])),
        owned: Some(ConsumerParts::new()),
        ..ConsumerHeartbeat::default()
    }
}

fn beat(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch,
        ..ConsumerHeartbeat::default()
    }
}

fn caller(member: &str, epoch: i32) -> ConsumerCaller {
    ConsumerCaller {
        member: member.into(),
        epoch,
    }
}

fn commit(offset: u64) -> Vec<ClassicCommit> {
    vec![ClassicCommit {
        topic: topic(),
        partition: Partition(1),
        offset: Offset(offset),
        note: CommitNote::default(),
    }]
}

fn position(broker: &Broker) -> Option<Offset> {
    let offsets = broker.classic_groups().offsets(&group());
    offsets.iter().find_map(|one| one.offset)
}

async fn with_topic(broker: &Broker) {
    let how = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    broker.create_topic(topic(), how).await.unwrap();
}

#[tokio::test]
async fn a_group_has_one_kind_and_passes_to_the_next_when_it_is_empty() {
    let broker = Broker::in_memory();
    with_topic(&broker).await;
    let consumers = broker.consumer_groups();
    let place = consumers.heartbeat(&group(), join("a")).await.unwrap();
    assert_eq!((place.epoch, place.assignment.unwrap().len()), (1, 2));
    assert_eq!(broker.group(&group()).unwrap().kind, GroupKind::Consumer);
    assert_eq!(broker.classic_groups().describe(&group()), None);
    // Others are refused, and told of both kinds.
    let simple = ClassicCaller {
        generation: -1,
        ..ClassicCaller::default()
    };
    let other = broker
        .classic_groups()
        .commit(&group(), &simple, commit(1))
        .await;
    let ClassicError::Protocol(why) = other.unwrap_err() else {
        panic!("it was refused for another reason");
    };
    let both = why.contains("Kafka consumer") && why.contains("Kafka classic");
    assert!(both, "{why}");
    let native = Subscription {
        topics: vec![topic()],
        group: group(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    assert!(broker.bus().subscribe(native.clone()).await.is_err());
    let in_use = broker.delete_group_without_members(&group()).await;
    assert!(matches!(in_use, Err(GroupError::InUse { members: 1, .. })));
    let said = consumers.commit(&group(), &caller("a", 1), commit(1)).await;
    assert_eq!(said, Ok(vec![Ok(())]));
    let stale = consumers.commit(&group(), &caller("a", 2), commit(2)).await;
    assert_eq!(stale, Err(ConsumerError::StaleEpoch));
    let nobody = caller("", -1);
    let stranger = consumers.commit(&group(), &nobody, commit(2)).await;
    assert_eq!(stranger, Err(ConsumerError::UnknownMember));
    assert_eq!(consumers.may_fetch(&group(), &caller("a", 1)), Ok(()));
    assert_eq!(position(&broker), Some(Offset(1)));
    consumers
        .heartbeat(&group(), beat("a", EPOCH_LEAVE))
        .await
        .unwrap();
    // Without members anybody sets its position, and it stays of its kind.
    let said = consumers.commit(&group(), &nobody, commit(0)).await;
    assert_eq!(said, Ok(vec![Ok(())]));
    let told = consumers.describe(&group()).unwrap();
    assert_eq!((told.state, told.members.len()), (ConsumerState::Empty, 0));
    let member = broker.bus().subscribe(native).await.unwrap();
    assert_eq!(broker.group(&group()).unwrap().kind, GroupKind::Native);
    let refused = consumers.heartbeat(&group(), join("a")).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ConsumerError::OtherKind(_)), "{refused}");
    let gone = consumers.heartbeat(&group(), beat("a", 1)).await;
    assert_eq!(gone, Err(ConsumerError::UnknownMember));
    drop(member);
}

#[tokio::test]
async fn kind_and_positions_are_kept_and_members_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(10);
    let open = || {
        let builder = Broker::builder().path(folder.path());
        builder.consumer_heartbeat_interval(interval).open()
    };
    let broker = open().await.unwrap();
    with_topic(&broker).await;
    let consumers = broker.consumer_groups();
    consumers.heartbeat(&group(), join("a")).await.unwrap();
    let said = consumers.commit(&group(), &caller("a", 1), commit(1)).await;
    assert_eq!(said, Ok(vec![Ok(())]));
    broker.close().await;
    let closed = consumers.heartbeat(&group(), beat("a", 1)).await;
    assert_eq!(closed, Err(ConsumerError::Unavailable));
    drop((broker, consumers));
    let broker = open().await.unwrap();
    assert_eq!(broker.group(&group()).unwrap().kind, GroupKind::Consumer);
    assert_eq!(position(&broker), Some(Offset(1)));
    let consumers = broker.consumer_groups();
    let gone = consumers.heartbeat(&group(), beat("a", 1)).await;
    assert_eq!(gone, Err(ConsumerError::UnknownMember));
    let late = consumers.commit(&group(), &caller("a", 1), commit(2)).await;
    assert_eq!(late, Err(ConsumerError::UnknownMember));
    // Nothing is given out before all who were members must have found out.
    let place = consumers.heartbeat(&group(), join("b")).await.unwrap();
    assert_eq!(place.assignment, Some(ConsumerParts::new()));
    // A new group has nobody to wait for.
    let new = GroupName::new("new").unwrap();
    let place = consumers.heartbeat(&new, join("c")).await.unwrap();
    assert_eq!(place.assignment.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_taken_out_and_a_deleted_group_has_none() {
    let broker = Broker::in_memory();
    with_topic(&broker).await;
    let consumers = broker.consumer_groups();
    consumers.heartbeat(&group(), join("a")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    consumers.heartbeat(&group(), beat("a", 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(44)).await;
    assert_eq!(consumers.describe(&group()).unwrap().members.len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(consumers.describe(&group()).unwrap().members.len(), 0);
    let gone = consumers.heartbeat(&group(), beat("a", 1)).await;
    assert_eq!(gone, Err(ConsumerError::UnknownMember));
    let place = consumers.heartbeat(&group(), join("a")).await.unwrap();
    assert_eq!(place.epoch, 3, "epochs only rise");
    broker.delete_group(&group()).await.unwrap();
    assert_eq!(consumers.describe(&group()), None);
    let gone = consumers.heartbeat(&group(), beat("a", 3)).await;
    assert_eq!(gone, Err(ConsumerError::UnknownMember));
}

#[tokio::test]
async fn who_is_refused_leaves_no_group_behind() {
    let broker = Broker::in_memory();
    with_topic(&broker).await;
    let consumers = broker.consumer_groups();
    let pattern = |text: &str| ConsumerHeartbeat {
        pattern: Some(text.into()),
        ..join("a")
    };
    let unknown = ConsumerHeartbeat {
        assignor: Some("best".into()),
        ..join("a")
    };
    let empty = ConsumerHeartbeat {
        owned: None,
        ..join("a")
    };
    for wrong in [pattern("("), pattern("(?:.?){1300}"), unknown, empty] {
        consumers.heartbeat(&group(), wrong).await.unwrap_err();
        assert!(broker.group(&group()).is_none(), "a group is there");
        assert_eq!(consumers.describe(&group()), None);
    }
    let place = consumers.heartbeat(&group(), pattern("t")).await.unwrap();
    assert_eq!(place.assignment.unwrap().len(), 2);
    // Topics that come are compared with what is known already.
    broker
        .create_topic(TopicName::new("t2").unwrap(), CreateTopic::default())
        .await
        .unwrap();
    let wider = ConsumerHeartbeat {
        epoch: place.epoch,
        ..pattern("t.?")
    };
    let place = consumers.heartbeat(&group(), wider).await.unwrap();
    assert!(place.assignment.unwrap().len() > 2);
}

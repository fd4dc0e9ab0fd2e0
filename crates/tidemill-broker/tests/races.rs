//! What happens when things that are done at the same time meet, and that nobody is left
//! waiting for what is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use support::gate::Gate;
use support::{Folder, ack_with, event, events, group, ids, join, settle, take, topic};
use tidemill_broker::{Broker, CreateTopic, SeekTo};
use tidemill_core::partition::partition_of;
use tidemill_core::{
    Commit, Delivery, GroupMember, Offset, Order, Partition, PullError, SettleError, Settlement,
    Start, Subscription,
};

/// What a member is given, where it is given something.
async fn pull(member: &mut dyn GroupMember, credit: usize) -> Vec<(Delivery, Settlement)> {
    let pulled = tokio::time::timeout(Duration::from_secs(20), member.pull(credit));
    pulled.await.expect("it waits for what is there").unwrap()
}

/// Begins something without waiting for its end.
async fn begin<T>(mut what: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| match what.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn subscription() -> Subscription {
    Subscription {
        topics: vec![topic("t")],
        group: group("g"),
        order: Order::PerKey,
        start: Start::Beginning,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_given_up_by_its_caller_moves_the_members_too() {
    let broker = Broker::in_memory();
    broker
        .bus()
        .publish(topic("t"), events(0, 5))
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    settle(&mut *member, 5).await;
    {
        let (g, t) = (group("g"), topic("t"));
        let seek = pin!(broker.seek(&g, &t, Partition(0), SeekTo::Beginning));
        let _ = begin(seek).await;
    }
    // What comes later is durable later.
    let how = CreateTopic::default();
    broker.create_topic(topic("other"), how).await.unwrap();
    assert_eq!(ids(&pull(&mut *member, 2).await), ["0", "1"]);
    broker.close().await;
}

/// A settlement is made in two goes where the topic of a staged event turns out to be another
/// than was thought: the seek comes between them.
#[tokio::test]
async fn a_settlement_begun_before_a_seek_settles_nothing_after_it() {
    let (gate, disk) = Gate::new(64 << 20);
    let broker = Broker::builder().disk(disk).open().await.unwrap();
    let bus = broker.bus();
    bus.publish(topic("t"), events(0, 3)).await.unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let (_, settlement) = take(&mut *member, 1).await.remove(0);

    gate.close();
    let how = CreateTopic {
        partitions: 3,
        ..CreateTopic::default()
    };
    let mut making = pin!(broker.create_topic(topic("out"), how));
    assert!(begin(making.as_mut()).await.is_none());
    let staged = vec![(topic("out"), event(9, None))];
    let mut settling = pin!(settlement.settle(ack_with(staged)));
    assert!(begin(settling.as_mut()).await.is_none());
    gate.open();
    making.await.unwrap();
    let (g, t) = (group("g"), topic("t"));
    let sought = broker.seek(&g, &t, Partition(0), SeekTo::Beginning);
    assert_eq!(sought.await.unwrap(), Offset(0));

    let refused = settling.await.unwrap_err();
    assert!(matches!(refused, SettleError::Stale), "{refused}");
    let out = broker.topic(&topic("out")).unwrap();
    let made: u64 = out.partitions.iter().map(|part| part.end.0).sum();
    assert_eq!(made, 0, "nothing of the commit was kept");
    assert_eq!(settle(&mut *member, 3).await, ["0", "1", "2"]);
    broker.close().await;
}

#[tokio::test]
async fn a_topic_that_grew_while_a_member_joined_is_read_in_whole() {
    let (gate, disk) = Gate::new(64 << 20);
    let broker = Broker::builder().disk(disk).open().await.unwrap();
    let bus = broker.bus();
    gate.close();
    let how = CreateTopic {
        partitions: 3,
        ..CreateTopic::default()
    };
    let mut making = pin!(broker.create_topic(topic("t"), how));
    assert!(begin(making.as_mut()).await.is_none());
    let mut joining = pin!(bus.subscribe(subscription()));
    assert!(begin(joining.as_mut()).await.is_none());
    gate.open();
    making.await.unwrap();
    let mut member = joining.await.unwrap();
    bus.publish(topic("t"), events(0, 3)).await.unwrap();
    let mut seen = settle(&mut *member, 3).await;
    seen.sort_unstable();
    assert_eq!(seen, ["0", "1", "2"]);
    assert_eq!(broker.group(&group("g")).unwrap().partitions.len(), 3);
    broker.close().await;
}

#[tokio::test]
async fn a_member_that_joined_during_a_seek_begins_where_it_led() {
    let (gate, disk) = Gate::new(64 << 20);
    let broker = Broker::builder().disk(Arc::clone(&disk)).open().await;
    let broker = broker.unwrap();
    let bus = broker.bus();
    bus.publish(topic("t"), events(0, 3)).await.unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 3).await, ["0", "1", "2"]);
    drop(member);
    broker.close().await;

    let broker = Broker::builder().disk(disk).open().await.unwrap();
    let bus = broker.bus();
    // A join that changes nothing still waits for what was sealed before it.
    gate.close();
    let how = CreateTopic::default();
    let mut making = pin!(broker.create_topic(topic("other"), how));
    assert!(begin(making.as_mut()).await.is_none());
    let mut joining = pin!(bus.subscribe(subscription()));
    assert!(begin(joining.as_mut()).await.is_none());
    let (g, t) = (group("g"), topic("t"));
    let mut seeking = pin!(broker.seek(&g, &t, Partition(0), SeekTo::Beginning));
    assert!(begin(seeking.as_mut()).await.is_none());
    gate.open();
    assert_eq!(seeking.await.unwrap(), Offset(0));
    let mut member = joining.await.unwrap();
    assert_eq!(ids(&pull(&mut *member, 3).await), ["0", "1", "2"]);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_learns_that_its_group_went_while_it_joined() {
    let broker = Broker::in_memory();
    let bus = broker.bus();
    let mut joining = pin!(bus.subscribe(subscription()));
    let begun = begin(joining.as_mut()).await;
    while broker.group(&group("g")).is_none() {
        tokio::task::yield_now().await;
    }
    broker.delete_group(&group("g")).await.unwrap();
    let mut member = match begun {
        Some(member) => member.unwrap(),
        None => joining.await.unwrap(),
    };
    let pulled = tokio::time::timeout(Duration::from_secs(20), member.pull(1)).await;
    assert_eq!(pulled.unwrap().unwrap_err(), PullError::Gone);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_learns_that_its_topic_went_while_it_joined() {
    let broker = Broker::in_memory();
    let bus = broker.bus();
    let mut joining = pin!(bus.subscribe(subscription()));
    let begun = begin(joining.as_mut()).await;
    while broker.topic(&topic("t")).is_none() {
        tokio::task::yield_now().await;
    }
    broker.delete_topic(&topic("t")).await.unwrap();
    let mut member = match begun {
        Some(member) => member.unwrap(),
        None => joining.await.unwrap(),
    };
    let pulled = tokio::time::timeout(Duration::from_secs(20), member.pull(1)).await;
    assert_eq!(pulled.unwrap().unwrap_err(), PullError::Gone);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_the_disk_that_holds_nothing_new_is_followed_by_the_next() {
    let folder = Folder::new();
    let broker = folder.open().await;
    let large = |n: usize| {
        let data = format!("\"{}\"", "x".repeat(200_000));
        let event = event(n, None).to_builder().data("application/json", data);
        event.build().unwrap()
    };
    for n in 0..30 {
        let event = vec![large(n)];
        broker.bus().publish(topic("t"), event).await.unwrap();
    }
    let mut member = join(&broker, "g", "t", Order::None).await;
    for (delivery, settlement) in take(&mut *member, 30).await {
        if !matches!(delivery.position.offset.0, 0 | 29) {
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
    drop(member);
    broker.close().await;

    let broker = folder.open().await;
    let mut member = join(&broker, "g", "t", Order::None).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(pull(&mut *member, 1).await);
    }
    assert_eq!(ids(&seen), ["0", "29"]);
    drop(seen);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_finds_its_own_behind_many_partitions_of_another() {
    const PARTITIONS: u32 = 600;
    let broker = Broker::in_memory();
    let how = CreateTopic {
        partitions: PARTITIONS,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("t"), how).await.unwrap();
    let of_partition = |wanted: u32| {
        let keys = (0..).map(|n: u64| format!("k{n}"));
        let here = |key: &String| partition_of(key.as_bytes(), PARTITIONS) == Partition(wanted);
        event(wanted, keys.into_iter().find(here).as_deref())
    };
    let mut first = join(&broker, "g", "t", Order::PerPartition).await;
    let second = join(&broker, "g", "t", Order::PerPartition).await;
    broker
        .bus()
        .publish(topic("t"), vec![of_partition(0)])
        .await
        .unwrap();
    // Partitions are looked at in turn; after this one those that follow.
    assert_eq!(settle(&mut *first, 1).await, ["0"]);
    let others = (PARTITIONS / 2..PARTITIONS).chain([0]).map(of_partition);
    broker
        .bus()
        .publish(topic("t"), others.collect())
        .await
        .unwrap();
    assert_eq!(ids(&pull(&mut *first, 1).await), ["0"]);
    drop(second);
    broker.close().await;
}

//! Consumer groups: who gets what, in which order, and what a restart leaves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::{Folder, both, event, events, group, id, ids, join, settle, take, topic};
use tidemill_broker::{GroupError, SeekTo};
use tidemill_core::error::OutOfRange;
use tidemill_core::{
    Commit, Effects, Offset, Order, Outcome, Partition, PullError, SettleError, Start,
    SubscribeError, Subscription,
};

fn strings(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_both_get_everything() {
    for (broker, _folder) in both(|builder| builder).await {
        broker
            .bus()
            .publish(topic("t"), events(0, 50))
            .await
            .unwrap();
        for name in ["a", "b"] {
            let mut member = join(&broker, name, "t", Order::PerKey).await;
            assert_eq!(
                settle(&mut *member, 50).await,
                strings(0..50),
                "group {name}"
            );
        }
        let lags: Vec<_> = broker.groups().iter().map(|group| group.lag()).collect();
        assert_eq!(lags, [0, 0]);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_one_partition_by_key_and_keep_order() {
    const KEYS: usize = 16;
    const ROUNDS: usize = 10;
    for (broker, _folder) in both(|builder| builder).await {
        let mut members = Vec::new();
        for _ in 0..2 {
            members.push(join(&broker, "g", "t", Order::PerKey).await);
        }
        let turns = (0..ROUNDS).flat_map(|round| (0..KEYS).map(move |key| (round, key)));
        let all = turns.map(|(round, key)| event(round, Some(&format!("k{key}"))));
        broker
            .bus()
            .publish(topic("t"), all.collect())
            .await
            .unwrap();
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let workers: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(at, mut member)| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    while let Ok(held) = member.pull(4).await {
                        for (delivery, settlement) in held {
                            let key = delivery.event.key().unwrap().to_owned();
                            settlement.settle(Commit::ack()).await.unwrap();
                            sender.send((at, key, id(&delivery))).unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut counts = [0; 2];
        for _ in 0..KEYS * ROUNDS {
            let (at, key, id) = seen.recv().await.unwrap();
            by_key.entry(key).or_default().push(id);
            counts[at] += 1;
        }
        assert_eq!(by_key.len(), KEYS);
        for (key, seen) in by_key {
            assert_eq!(seen, strings(0..ROUNDS), "key {key}");
        }
        assert!(
            counts.iter().all(|count| *count > 0),
            "both have worked: {counts:?}"
        );
        broker.close().await;
        for worker in workers {
            worker.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_survives_a_restart_with_its_settled_ranges() {
    let folder = Folder::new();
    let broker = folder.open().await;
    broker
        .bus()
        .publish(topic("t"), events(0, 10))
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::None).await;
    let generation = broker.group(&group("g")).unwrap().generation;
    for (delivery, settlement) in take(&mut *member, 10).await {
        if [0, 1, 4, 7, 8].contains(&delivery.position.offset.0) {
            settlement.settle(Commit::ack()).await.unwrap();
        }
    }
    drop(member);
    broker.close().await;
    for round in 0..2 {
        let broker = folder.open().await;
        let info = broker.group(&group("g")).unwrap();
        let at = &info.partitions[0];
        assert_eq!(
            (at.position, at.settled_above, at.end),
            (Offset(2), 3, Offset(10))
        );
        assert_eq!(
            (info.lag(), info.topics),
            (5, vec![topic("t")]),
            "round {round}"
        );
        let mut member = join(&broker, "g", "t", Order::None).await;
        let held = take(&mut *member, 5).await;
        assert_eq!(ids(&held), ["2", "3", "5", "6", "9"], "round {round}");
        assert!(broker.group(&group("g")).unwrap().generation > generation);
        drop((held, member));
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_settlement_and_a_dropped_member_give_again() {
    for (broker, _folder) in both(|builder| builder).await {
        let twice = vec![
            event(0, Some("k")),
            event(1, Some("k")),
            event(2, Some("k")),
        ];
        broker.bus().publish(topic("t"), twice).await.unwrap();
        let mut first = join(&broker, "g", "t", Order::PerKey).await;
        drop(take(&mut *first, 1).await);
        let (delivery, stale) = take(&mut *first, 1).await.remove(0);
        assert_eq!((id(&delivery), delivery.attempt.0), ("0".into(), 2));
        let mut second = join(&broker, "g", "t", Order::PerKey).await;
        drop(first);
        let (delivery, settlement) = take(&mut *second, 1).await.remove(0);
        assert_eq!((id(&delivery), delivery.attempt.0), ("0".into(), 3));
        let refused = stale
            .settle(support::ack_with(vec![(topic("t"), event(9, None))]))
            .await;
        assert_eq!(refused.unwrap_err(), SettleError::Stale);
        settlement.settle(Commit::ack()).await.unwrap();
        assert_eq!(settle(&mut *second, 2).await, ["1", "2"]);
        let metrics = broker.metrics();
        assert_eq!((metrics.redelivered, metrics.stale_settlements), (2, 1));
        assert_eq!(
            broker.topic(&topic("t")).unwrap().partitions[0].end,
            Offset(3)
        );
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_waits_and_holds_back_only_its_key() {
    let after = Duration::from_millis(60);
    for (broker, _folder) in both(|builder| builder).await {
        let all = [("a", 0), ("a", 1), ("b", 2), ("b", 3)];
        let all = all.map(|(key, n)| event(n, Some(key)));
        broker
            .bus()
            .publish(topic("t"), all.to_vec())
            .await
            .unwrap();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let (first, settlement) = take(&mut *member, 1).await.remove(0);
        assert_eq!(id(&first), "0");
        let asked = Instant::now();
        let retry = Commit {
            outcome: Outcome::Retry { after },
            effects: Effects::default(),
        };
        settlement.settle(retry).await.unwrap();
        assert_eq!(
            settle(&mut *member, 2).await,
            ["2", "3"],
            "the other key goes on"
        );
        let held = take(&mut *member, 1).await;
        assert!(asked.elapsed() >= after, "after {:?}", asked.elapsed());
        assert_eq!((ids(&held), held[0].0.attempt.0), (vec!["0".to_owned()], 2));
        drop(held);
        assert_eq!(settle(&mut *member, 2).await, ["0", "1"]);
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_partitions_are_shared_per_partition() {
    let broker = tidemill_broker::Broker::builder()
        .default_partitions(4)
        .open()
        .await
        .unwrap();
    let mut first = join(&broker, "g", "t", Order::PerPartition).await;
    let mut second = join(&broker, "g", "t", Order::PerPartition).await;
    broker
        .bus()
        .publish(topic("t"), events(0, 8))
        .await
        .unwrap();
    let mut held = take(&mut *first, 2).await;
    held.extend(take(&mut *second, 2).await);
    let mut partitions: Vec<_> = held.iter().map(|(d, _)| d.position.partition.0).collect();
    partitions.sort_unstable();
    assert_eq!(
        partitions,
        [0, 1, 2, 3],
        "two partitions each, one event of each in flight"
    );
    let other = Subscription {
        topics: vec![topic("t")],
        group: group("g"),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let refused = broker.bus().subscribe(other).await.err().unwrap();
    assert!(
        matches!(refused, SubscribeError::GroupConflict { .. }),
        "{refused}"
    );
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_where_a_new_group_begins() {
    for (broker, _folder) in both(|builder| builder).await {
        broker
            .bus()
            .publish(topic("t"), events(0, 5))
            .await
            .unwrap();
        let starts = [
            (Start::Beginning, "0"),
            (Start::At(Offset(3)), "3"),
            (Start::End, "5"),
        ];
        let mut members = Vec::new();
        for (at, (start, first)) in starts.into_iter().enumerate() {
            let subscription = Subscription {
                topics: vec![topic("t")],
                group: group(&format!("g{at}")),
                order: Order::PerKey,
                start,
            };
            members.push((broker.bus().subscribe(subscription).await.unwrap(), first));
        }
        broker
            .bus()
            .publish(topic("t"), events(5, 1))
            .await
            .unwrap();
        for (mut member, first) in members {
            assert_eq!(ids(&take(&mut *member, 1).await), [first]);
        }
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_does_not_go_on_behind_the_end() {
    for (broker, _folder) in both(|builder| builder).await {
        let published = broker.bus().publish(topic("t"), events(0, 6)).await;
        published.unwrap();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let (g, t) = (group("g"), topic("t"));
        let seek = |to| broker.seek(&g, &t, Partition(0), to);
        // The end is the next event's offset: there it may go on, and nowhere behind it.
        let held = take(&mut *member, 1).await.remove(0).1;
        let beyond = seek(SeekTo::Offset(Offset(7))).await.unwrap_err();
        let outside = OutOfRange {
            topic: t.clone(),
            partition: Partition(0),
            offset: Offset(7),
            earliest: Offset(0),
            end: Offset(6),
        };
        assert_eq!(beyond, GroupError::OutOfRange(Box::new(outside.clone())));
        held.settle(Commit::ack()).await.unwrap();
        assert_eq!(seek(SeekTo::Offset(Offset(6))).await.unwrap(), Offset(6));
        let subscription = Subscription {
            topics: vec![t.clone()],
            group: group("new"),
            order: Order::PerKey,
            start: Start::At(Offset(7)),
        };
        let refused = broker.bus().subscribe(subscription).await.err().unwrap();
        assert_eq!(refused, SubscribeError::OutOfRange(Box::new(outside)));
        assert!(broker.group(&group("new")).is_none());
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_rewound_and_deleted() {
    for (broker, _folder) in both(|builder| builder).await {
        broker
            .bus()
            .publish(topic("t"), events(0, 6))
            .await
            .unwrap();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        settle(&mut *member, 3).await;
        let (_, stale) = take(&mut *member, 1).await.remove(0);
        let (g, t) = (group("g"), topic("t"));
        let seek = |to| broker.seek(&g, &t, Partition(0), to);
        assert_eq!(seek(SeekTo::Offset(Offset(1))).await.unwrap(), Offset(1));
        assert_eq!(
            stale.settle(Commit::ack()).await.unwrap_err(),
            SettleError::Stale
        );
        assert_eq!(settle(&mut *member, 5).await, strings(1..6));
        assert_eq!(seek(SeekTo::Beginning).await.unwrap(), Offset(0));
        assert_eq!(seek(SeekTo::End).await.unwrap(), Offset(6));
        assert!(
            broker
                .seek(&group("x"), &t, Partition(0), SeekTo::End)
                .await
                .is_err()
        );
        assert!(
            broker
                .seek(&g, &t, Partition(7), SeekTo::End)
                .await
                .is_err()
        );
        let refused = broker.delete_group_without_members(&g).await.unwrap_err();
        let in_use = GroupError::InUse {
            group: g.clone(),
            members: 1,
        };
        assert_eq!(refused, in_use);
        assert!(refused.to_string().contains("has 1 member;"), "{refused}");
        broker.delete_group(&g).await.unwrap();
        assert_eq!(member.pull(1).await.unwrap_err(), PullError::Gone);
        assert!(broker.delete_group(&g).await.is_err());
        assert_eq!(broker.groups(), []);
        let mut again = join(&broker, "g", "t", Order::PerKey).await;
        assert_eq!(
            settle(&mut *again, 6).await,
            strings(0..6),
            "it begins anew"
        );
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_waits_is_woken_and_a_closed_broker_says_so() {
    for (broker, _folder) in both(|builder| builder).await {
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let cancelled = tokio::time::timeout(Duration::from_millis(5), member.pull(1)).await;
        assert!(cancelled.is_err());
        let waiting = tokio::spawn(async move { (member.pull(1).await.unwrap().len(), member) });
        broker
            .bus()
            .publish(topic("t"), events(0, 1))
            .await
            .unwrap();
        let (count, mut member) = waiting.await.unwrap();
        assert_eq!(count, 1);
        let waiting = tokio::spawn(async move { member.pull(9).await.map(|held| held.len()) });
        // The settlement was dropped with the first pull's answer: it comes again.
        assert_eq!(waiting.await.unwrap(), Ok(1));
        let mut member = join(&broker, "h", "t", Order::PerKey).await;
        settle(&mut *member, 1).await;
        let waiting = tokio::spawn(async move { member.pull(9).await.map(|held| held.len()) });
        broker.close().await;
        let closed = tidemill_core::error::Unavailable::Closed;
        assert_eq!(waiting.await.unwrap(), Err(PullError::Unavailable(closed)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_falls_far_behind_reads_from_segments() {
    let folder = Folder::new();
    let broker = folder.open().await;
    for round in 0..8 {
        let batch = events(round * 100, 100);
        broker.bus().publish(topic("t"), batch).await.unwrap();
    }
    broker.close().await;
    let broker = folder.open().await;
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *member, 800).await, strings(0..800));
    assert!(
        broker.metrics().disk_reads > 0,
        "after a restart nothing is in memory"
    );
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_may_have_as_many_topics_as_its_bound_says() {
    let bound = tidemill_broker::limits::SUBSCRIPTION_TOPICS_MAX;
    for (broker, folder) in both(|builder| builder).await {
        let topics = (0..bound).map(|n| topic(&format!("t{n}")));
        let subscription = Subscription {
            topics: topics.collect(),
            group: group("g"),
            order: Order::PerKey,
            start: Start::Beginning,
        };
        let mut member = broker.bus().subscribe(subscription).await.unwrap();
        let last = topic(&format!("t{}", bound - 1));
        broker.bus().publish(last, events(0, 1)).await.unwrap();
        assert_eq!(settle(&mut *member, 1).await, ["0"]);
        if let Some(folder) = folder {
            let files = std::fs::read_dir(folder.path().join("journal")).unwrap();
            let sizes = files.map(|file| file.unwrap().metadata().unwrap().len());
            let total: u64 = sizes.sum();
            assert!(total < 64 << 20, "{total} bytes of journal");
        }
        broker.close().await;
    }
}

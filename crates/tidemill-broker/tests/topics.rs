//! Topics and writes: made by use or not, deleted, refused; commits that happen whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::{Folder, ack_with, both, dead_letter, event, events, group, ids, join, settle};
use support::{take, topic};
use tidemill_broker::{Broker, CreateTopic, Health, OpenError, TopicError};
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Commit, Effects, Event, Fetch, FetchError, Offset, Order, Outcome, Partition, PublishError,
    PullError, RequestError, SettleError, Start, SubscribeError, Subscription,
};

fn fetch(name: &str, offset: u64) -> Fetch {
    Fetch {
        topic: topic(name),
        partition: Partition(0),
        offset: Offset(offset),
        max_events: 1000,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    }
}

fn end(broker: &Broker, name: &str) -> Option<u64> {
    broker
        .topic(&topic(name))
        .map(|topic| topic.partitions[0].end.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_by_its_first_use_unless_that_is_off() {
    for (broker, _folder) in both(|builder| builder.default_partitions(3)).await {
        broker
            .bus()
            .publish(topic("used"), events(0, 1))
            .await
            .unwrap();
        assert_eq!(broker.topic(&topic("used")).unwrap().partitions.len(), 3);
        join(&broker, "g", "read", Order::PerKey).await;
        assert_eq!(broker.topics().len(), 2);
        broker.close().await;
    }
    for (broker, _folder) in both(|builder| builder.auto_create_topics(false)).await {
        let refused = broker.bus().publish(topic("t"), events(0, 1)).await;
        assert_eq!(refused.unwrap_err(), PublishError::UnknownTopic(topic("t")));
        let subscription = Subscription {
            topics: vec![topic("t")],
            group: group("g"),
            order: Order::PerKey,
            start: Start::Beginning,
        };
        let refused = broker.bus().subscribe(subscription).await.err();
        assert_eq!(refused, Some(SubscribeError::UnknownTopic(topic("t"))));
        assert_eq!(broker.groups(), []);
        let refused = broker.bus().fetch(fetch("t", 0)).await.unwrap_err();
        assert_eq!(refused, FetchError::UnknownTopic(topic("t")));
        broker
            .create_topic(topic("t"), CreateTopic::default())
            .await
            .unwrap();
        broker
            .bus()
            .publish(topic("t"), events(0, 1))
            .await
            .unwrap();
        let refused = broker
            .create_topic(topic("t"), CreateTopic::default())
            .await;
        assert_eq!(refused.unwrap_err(), TopicError::Exists(topic("t")));
        let refused = broker
            .create_topic(
                topic("u"),
                CreateTopic {
                    partitions: 0,
                    ..CreateTopic::default()
                },
            )
            .await;
        assert!(matches!(refused, Err(TopicError::Limit(_))));
        // Where dead letters go is made all the same.
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let (_, settlement) = take(&mut *member, 1).await.remove(0);
        settlement.settle(dead_letter("no")).await.unwrap();
        assert_eq!(end(&broker, "g.deadletter"), Some(1));
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_is_gone_with_its_positions() {
    let folder = Folder::new();
    let broker = folder.open().await;
    broker
        .bus()
        .publish(topic("t"), events(0, 3))
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let (_, settlement) = take(&mut *member, 1).await.remove(0);
    let old = broker.topic(&topic("t")).unwrap().id;
    broker.delete_topic(&topic("t")).await.unwrap();
    assert_eq!(member.pull(1).await.unwrap_err(), PullError::Gone);
    assert_eq!(
        settlement.settle(Commit::ack()).await.unwrap_err(),
        SettleError::Stale
    );
    let unknown = broker.delete_topic(&topic("t")).await.unwrap_err();
    assert_eq!(unknown, TopicError::Unknown(topic("t")));
    assert_eq!(broker.group(&group("g")).unwrap().partitions, []);
    broker
        .bus()
        .publish(topic("t"), events(7, 1))
        .await
        .unwrap();
    let mut again = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(&mut *again, 1).await, ["7"]);
    assert_ne!(broker.topic(&topic("t")).unwrap().id, old);
    broker.close().await;
    let broker = folder.open().await;
    assert_eq!((broker.topics().len(), end(&broker, "t")), (1, Some(1)));
    assert_eq!(broker.group(&group("g")).unwrap().lag(), 0);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_event_is_refused_and_nothing_with_it() {
    for (broker, _folder) in both(|builder| builder.event_max_bytes(1000)).await {
        let large = event(1, None)
            .to_builder()
            .untyped_data(vec![b'1'; 1001])
            .build();
        let batch = vec![event(0, None), large.unwrap()];
        let refused = broker
            .bus()
            .publish(topic("t"), batch.clone())
            .await
            .unwrap_err();
        let too_large = PublishError::TooLarge {
            size_bytes: 1001,
            max_bytes: 1000,
        };
        assert_eq!(refused, too_large);
        assert_eq!(end(&broker, "t"), None);
        broker
            .bus()
            .publish(topic("t"), events(0, 1))
            .await
            .unwrap();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let (_, mut settlement) = take(&mut *member, 1).await.remove(0);
        let staged = batch.into_iter().map(|event| (topic("u"), event)).collect();
        let refused = settlement.try_settle(ack_with(staged)).await.unwrap_err();
        assert_eq!(refused, SettleError::Effect(too_large));
        assert_eq!(
            (end(&broker, "u"), broker.group(&group("g")).unwrap().lag()),
            (None, 1)
        );
        settlement.settle(Commit::ack()).await.unwrap();
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handlers_commit_is_there_whole_after_a_restart() {
    let folder = Folder::new();
    let broker = folder.builder().default_partitions(2).open().await.unwrap();
    broker
        .bus()
        .publish(topic("in"), vec![event("i", Some("k"))])
        .await
        .unwrap();
    let mut member = join(&broker, "g", "in", Order::PerKey).await;
    let (_, settlement) = take(&mut *member, 1).await.remove(0);
    let staged = vec![
        (topic("a"), event("a0", Some("x"))),
        (topic("b"), event("b0", Some("y"))),
        (topic("a"), event("a1", Some("x"))),
        (topic("in"), event("i2", Some("k"))),
    ];
    let positions = settlement.settle(ack_with(staged)).await.unwrap();
    let places: Vec<_> = positions
        .iter()
        .map(|p| (p.topic.as_str(), p.offset.0))
        .collect();
    assert_eq!(places, [("a", 0), ("b", 0), ("a", 1), ("in", 1)]);
    drop(member);
    broker.close().await;
    let broker = folder.open().await;
    for position in &positions {
        let at = Fetch {
            partition: position.partition,
            ..fetch(position.topic.as_str(), position.offset.0)
        };
        assert!(
            !broker.bus().fetch(at).await.unwrap().events.is_empty(),
            "{position}"
        );
    }
    let mut member = join(&broker, "g", "in", Order::PerKey).await;
    assert_eq!(
        settle(&mut *member, 1).await,
        ["i2"],
        "the input is settled, its output not"
    );
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_tells_where_it_came_from() {
    for (broker, _folder) in both(|builder| builder).await {
        broker
            .bus()
            .publish(topic("t"), vec![event(0, Some("k"))])
            .await
            .unwrap();
        let mut member = join(&broker, "billing/eu", "t", Order::PerKey).await;
        let (delivery, settlement) = take(&mut *member, 1).await.remove(0);
        settlement
            .settle(dead_letter("the card is void"))
            .await
            .unwrap();
        let fetched = broker
            .bus()
            .fetch(fetch("billing_2Feu.deadletter_x", 0))
            .await
            .unwrap();
        let letter = DeadLetter::from_event(&fetched.events[0].1).unwrap();
        assert_eq!(
            (&letter.event, &letter.origin),
            (&*delivery.event, &delivery.position)
        );
        assert_eq!(letter.group, group("billing/eu"));
        assert_eq!(
            (letter.failure.error.as_str(), letter.failure.attempts),
            ("the card is void", 3)
        );
        let metrics = broker.metrics();
        assert_eq!((metrics.dead_lettered, metrics.settled), (1, 1));
        assert!(metrics.syncs >= 3 && metrics.entries >= 3, "{metrics:?}");
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_once_the_commit_is_durable() {
    for (broker, _folder) in both(|builder| builder).await {
        let mut member = join(&broker, "g", "ask", Order::PerKey).await;
        let bus = broker.bus();
        let ask = |n: usize| bus.request(topic("ask"), event(n, None), Duration::from_secs(20));
        let answer = async {
            for (n, (delivery, settlement)) in take(&mut *member, 2).await.into_iter().enumerate() {
                assert_eq!(
                    delivery.event.extension_str("correlationid"),
                    Some(&*n.to_string())
                );
                let reply = Commit {
                    outcome: Outcome::Ack,
                    effects: Effects {
                        events: Vec::new(),
                        reply: Some(Box::new(event(format!("re-{n}"), None))),
                    },
                };
                let commit = if n == 0 {
                    reply
                } else {
                    dead_letter("no such thing")
                };
                settlement.settle(commit).await.unwrap();
            }
        };
        let asked = async { tokio::join!(ask(0), ask(1)) };
        let ((first, second), ()) = tokio::join!(asked, answer);
        let reply = first.unwrap();
        assert_eq!(
            (reply.id().as_str(), reply.extension_str("correlationid")),
            ("re-0", Some("0"))
        );
        let error = RequestError::DeadLettered("error: no such thing".into());
        assert_eq!(second.unwrap_err(), error);
        let wait = Duration::from_millis(10);
        let late = broker
            .bus()
            .request(topic("nobody"), event(2, None), wait)
            .await;
        assert_eq!(late.unwrap_err(), RequestError::Timeout(wait));
        assert_eq!(
            (broker.metrics().requests, broker.metrics().replies),
            (3, 2)
        );
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_in_memory_refuses_writes_at_its_bound() {
    let broker = Broker::builder().in_memory(4 << 20).open().await.unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let large = |n: usize| -> Event {
        event(n, None)
            .to_builder()
            .untyped_data(vec![b'1'; 100_000])
            .build()
            .unwrap()
    };
    let mut kept = 0;
    let refused = loop {
        match broker.bus().publish(topic("t"), vec![large(kept)]).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "it never refuses");
    };
    assert!(
        matches!(refused, PublishError::Unavailable(Unavailable::Full(_))),
        "{refused}"
    );
    assert!(refused.is_retriable());
    assert_eq!(
        settle(&mut *member, kept).await.len(),
        kept,
        "reads and settlements live on"
    );
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_broker_and_a_folder_in_use_say_so() {
    let folder = Folder::new();
    let broker = folder.open().await;
    let second = folder.builder().open().await.err().unwrap();
    assert!(matches!(second, OpenError::Locked(_)), "{second}");
    let first = broker.incarnation();
    broker.close().await;
    broker.close().await;
    assert_eq!(broker.health(), Health::Closed);
    let refused = broker
        .bus()
        .publish(topic("t"), events(0, 1))
        .await
        .unwrap_err();
    assert_eq!(refused, PublishError::Unavailable(Unavailable::Closed));
    let again = folder.open().await;
    assert!(again.incarnation() > first);
    // The last clone of this one closes it in the background, and lets the folder go.
    drop(again);
    while let Err(error) = folder.builder().open().await {
        assert!(matches!(error, OpenError::Locked(_)), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_the_first_event() {
    for (broker, _folder) in both(|builder| builder).await {
        broker
            .bus()
            .publish(topic("t"), events(0, 2))
            .await
            .unwrap();
        let bus = broker.bus();
        let waiting = Fetch {
            wait: Duration::from_secs(20),
            ..fetch("t", 2)
        };
        let fetched = tokio::spawn(async move { bus.fetch(waiting).await.unwrap() });
        broker
            .bus()
            .publish(topic("t"), events(2, 1))
            .await
            .unwrap();
        let fetched = fetched.await.unwrap();
        assert_eq!((fetched.events.len(), fetched.next), (1, Offset(3)));
        let empty = broker.bus().fetch(fetch("t", 3)).await.unwrap();
        assert_eq!(
            (empty.events.len(), empty.next, empty.end),
            (0, Offset(3), Offset(3))
        );
        let beyond = broker.bus().fetch(fetch("t", 9)).await.unwrap_err();
        assert!(matches!(beyond, FetchError::OutOfRange { .. }), "{beyond}");
        broker.close().await;
    }
}

#[tokio::test]
async fn a_fetch_that_waits_ends_when_its_topic_is_deleted() {
    let broker = Broker::in_memory();
    let bus = broker.bus();
    bus.publish(topic("t"), events(0, 2)).await.unwrap();
    let waiting = Fetch {
        wait: Duration::from_secs(600),
        ..fetch("t", 2)
    };
    let mut waiting = Box::pin(bus.fetch(waiting));
    let at_once = tokio::time::timeout(Duration::ZERO, &mut waiting).await;
    assert!(at_once.is_err(), "there is nothing yet: {at_once:?}");
    broker.delete_topic(&topic("t")).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    let gone = FetchError::UnknownTopic(topic("t"));
    assert_eq!(ended.unwrap().unwrap_err(), gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_make_one_topic_once() {
    for (broker, _folder) in both(|builder| builder.default_partitions(4)).await {
        let publishers: Vec<_> = (0..16)
            .map(|n| {
                let bus = broker.bus();
                let event = event(n, Some(&format!("k{n}")));
                tokio::spawn(async move { bus.publish(topic("t"), vec![event]).await.unwrap() })
            })
            .collect();
        let mut positions = Vec::new();
        for publisher in publishers {
            positions.extend(publisher.await.unwrap());
        }
        positions.sort_by_key(|position| (position.partition, position.offset));
        positions.dedup();
        assert_eq!(positions.len(), 16, "no two are at one place");
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let mut seen = ids(&take(&mut *member, 16).await);
        seen.sort_by_key(|id| id.parse::<usize>().unwrap());
        assert_eq!(seen, (0..16).map(|n| n.to_string()).collect::<Vec<_>>());
        broker.close().await;
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_under_its_publishers_never_comes_back_as_itself() {
    for (broker, _folder) in both(|builder| builder).await {
        let bus = broker.bus();
        bus.publish(topic("t"), events(0, 1)).await.unwrap();
        let old = broker.topic(&topic("t")).unwrap().id;
        // The publish is on its way, to the topic that is there, before the deletion is durable.
        let name = topic("t");
        let (deleted, published) = tokio::join!(
            broker.delete_topic(&name),
            bus.publish(topic("t"), events(1, 1))
        );
        deleted.unwrap();
        assert_eq!(published.unwrap()[0].offset, Offset(0));
        let now = broker.topic(&topic("t")).unwrap();
        assert_ne!(now.id, old);
        assert_eq!(now.partitions[0].end.0, 1);
        broker.close().await;
    }
}

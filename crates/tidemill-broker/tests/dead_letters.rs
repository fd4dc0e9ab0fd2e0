//! Dead letters are listed, given back and forgotten, each once, also over a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tidemill_broker::{
    Broker, ClassicError, CreateQueue, DeadLetterError, Dequeue, GroupError, QueueSettings,
};
use tidemill_core::delivery::{Commit, Failure, Outcome};
use tidemill_core::{
    Effects, Event, EventId, EventType, GroupName, Offset, Order, Partition, Source, Start,
    Subscription, TopicName,
};

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

fn billing() -> GroupName {
    GroupName::new("billing").unwrap()
}

fn event(id: &str) -> Event {
    let (id, ty) = (
        EventId::new(id.to_owned()).unwrap(),
        EventType::new("made").unwrap(),
    );
    let event = Event::builder(id, Source::new("/test").unwrap(), ty);
    event.data("application/json", "7").build().unwrap()
}

/// Gives up all that is published: the dead letters `1`, `2` and `3`.
async fn bury(broker: &Broker) {
    let bus = broker.bus();
    let events = vec![event("1"), event("2"), event("3")];
    bus.publish(topic("orders"), events).await.unwrap();
    let subscription = Subscription {
        topics: vec![topic("orders")],
        group: billing(),
        order: Order::None,
        start: Start::Beginning,
    };
    let mut member = bus.subscribe(subscription).await.unwrap();
    let mut buried = 0;
    while buried < 3 {
        for (_, settlement) in member.pull(3).await.unwrap() {
            let failure = Failure {
                reason: "error".into(),
                error: "no card".into(),
                attempts: 5,
                ..Failure::default()
            };
            let commit = Commit {
                outcome: Outcome::DeadLetter {
                    failure: Box::new(failure),
                },
                effects: Effects::default(),
            };
            settlement.settle(commit).await.unwrap();
            buried += 1;
        }
    }
}

async fn ids(broker: &Broker) -> Vec<String> {
    let found = broker.dead_letters(&billing(), None, 100).await.unwrap();
    assert_eq!(found.next, None);
    let ids = found.letters.iter().map(|one| one.letter.event.id());
    ids.map(ToString::to_string).collect()
}

const ZERO: Partition = Partition(0);

#[tokio::test]
async fn a_dead_letter_is_given_back_or_forgotten_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path()).await.unwrap();
    let none = broker.dead_letters(&billing(), None, 1).await.unwrap_err();
    assert_eq!(none, DeadLetterError::None(billing()));
    assert!(broker.dead_letter_groups().is_empty());
    bury(&broker).await;
    assert_eq!(ids(&broker).await, ["1", "2", "3"]);
    assert_eq!(broker.dead_letter_groups()[0].count, 3);

    let at = broker
        .redrive(&billing(), (ZERO, Offset(1)), None)
        .await
        .unwrap();
    assert_eq!((at.topic.as_str(), at.offset), ("orders", Offset(3)));
    broker
        .delete_dead_letter(&billing(), ZERO, Offset(0))
        .await
        .unwrap();
    for offset in [Offset(0), Offset(1), Offset(9)] {
        let again = broker.redrive(&billing(), (ZERO, offset), None).await;
        assert!(
            matches!(again, Err(DeadLetterError::Unknown { .. })),
            "{again:?}"
        );
        let again = broker.delete_dead_letter(&billing(), ZERO, offset).await;
        assert!(
            matches!(again, Err(DeadLetterError::Unknown { .. })),
            "{again:?}"
        );
    }
    broker.close().await;

    let broker = Broker::open(folder.path()).await.unwrap();
    assert_eq!(ids(&broker).await, ["3"]);
    assert_eq!(broker.dead_letter_groups()[0].count, 1);
    let last = broker
        .dead_letter(&billing(), ZERO, Offset(2))
        .await
        .unwrap();
    let failure = &last.letter.failure;
    assert_eq!((failure.error.as_str(), failure.attempts), ("no card", 5));
    // As it was, to where somebody wants it.
    let to = Some(topic("by-hand"));
    let at = broker
        .redrive(&billing(), (ZERO, Offset(2)), to)
        .await
        .unwrap();
    assert_eq!((at.topic.as_str(), at.offset), ("by-hand", Offset(0)));
    let bus = broker.bus();
    let fetched = bus.fetch(tidemill_core::Fetch {
        topic: topic("by-hand"),
        partition: ZERO,
        offset: Offset(0),
        max_events: 1,
        max_bytes: 1024,
        wait: std::time::Duration::ZERO,
    });
    assert_eq!(*fetched.await.unwrap().events[0].1, event("3"));
    assert!(broker.dead_letter_groups().is_empty());
    broker.close().await;
}

#[tokio::test]
async fn what_is_done_with_stays_so_while_its_topic_is_there() {
    let broker = Broker::in_memory();
    bury(&broker).await;
    broker
        .delete_dead_letter(&billing(), ZERO, Offset(0))
        .await
        .unwrap();
    let reader = GroupName::new("billing.deadletter").unwrap();
    let refused = broker.delete_group(&reader).await;
    assert_eq!(refused, Err(GroupError::OfDeadLetters(reader.clone())));
    let refused = broker.delete_group_without_members(&reader).await;
    assert_eq!(refused, Err(GroupError::OfDeadLetters(reader.clone())));
    let refused = broker.classic_groups().delete(&reader).await;
    assert_eq!(refused, Err(ClassicError::NotEmpty));
    assert_eq!(ids(&broker).await, ["2", "3"]);
    let letters = topic("billing.deadletter");
    broker.delete_topic(&letters).await.unwrap();
    broker.delete_group(&reader).await.unwrap();
}

#[tokio::test]
async fn two_who_give_the_same_one_back_publish_it_once() {
    let broker = Broker::in_memory();
    bury(&broker).await;
    let (group, place) = (billing(), (ZERO, Offset(0)));
    let both = futures_util::future::join(
        broker.redrive(&group, place, None),
        broker.redrive(&group, place, None),
    );
    let (one, other) = both.await;
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(
        broker.topic(&topic("orders")).unwrap().partitions[0].end,
        Offset(4)
    );
}

/// A message of the queue `jobs` is given up.
async fn wear_out(broker: &Broker, id: &str) {
    let queue = broker.queue(&topic("jobs")).unwrap();
    queue.enqueue(vec![event(id)]).await.unwrap();
    let taken = queue.dequeue(Dequeue::default()).await.unwrap();
    queue.give_back(&[taken[0].lease.unwrap()]).await.unwrap();
}

#[tokio::test]
async fn what_a_queue_gave_up_goes_back_into_it_once() {
    for transient in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(folder.path()).await.unwrap();
        let settings = QueueSettings {
            max_deliveries: Some(1),
            ..QueueSettings::default()
        };
        let how = CreateQueue {
            transient,
            settings,
        };
        broker.create_queue(topic("jobs"), how).await.unwrap();
        wear_out(&broker, "1").await;
        wear_out(&broker, "2").await;
        let queue = broker.queue(&topic("jobs")).unwrap();
        assert_eq!(queue.length(), 0);
        let jobs = GroupName::new("jobs").unwrap();
        let first = (ZERO, Offset(0));
        let both = futures_util::future::join(
            broker.redrive(&jobs, first, None),
            broker.redrive(&jobs, first, Some(topic("jobs"))),
        );
        let (one, other) = both.await;
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        let (at, refused) = match (one, other) {
            (Ok(at), Err(why)) | (Err(why), Ok(at)) => (at, why),
            both => panic!("{both:?}"),
        };
        assert_eq!(at.topic, topic("jobs"));
        let unknown = matches!(refused, DeadLetterError::Unknown { .. });
        assert!(unknown, "{refused:?}");
        assert_eq!((queue.length(), queue.in_flight()), (1, 0));
        let how = Dequeue {
            lease: Some(std::time::Duration::ZERO),
            max: 10,
            ..Dequeue::default()
        };
        let taken = queue.dequeue(how).await.unwrap();
        assert_eq!((taken.len(), taken[0].deliveries), (1, 1));
        assert_eq!(*taken[0].message.event, event("1"));
        // Somewhere else it goes as it always did.
        let to = Some(topic("by-hand"));
        let at = broker.redrive(&jobs, (ZERO, Offset(1)), to).await.unwrap();
        assert_eq!(at.topic, topic("by-hand"));
        assert!(broker.dead_letter_groups().is_empty());
        broker.close().await;
    }
}

#[tokio::test]
async fn many_are_listed_a_piece_at_a_time_and_other_events_are_passed_over() {
    let broker = Broker::in_memory();
    bury(&broker).await;
    let bus = broker.bus();
    bus.publish(topic("billing.deadletter"), vec![event("no letter")])
        .await
        .unwrap();
    bury(&broker).await;
    let (mut from, mut seen) = (None, Vec::new());
    loop {
        let found = broker.dead_letters(&billing(), from, 2).await.unwrap();
        seen.extend(found.letters.iter().map(|one| one.offset.0));
        from = found.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, [0, 1, 2, 4, 5, 6]);
}

/// A member of `group` gives up what it gets of a topic, as often as there is something.
async fn give_up(broker: &Broker, group: &str, of: &str) -> usize {
    let subscription = Subscription {
        topics: vec![topic(of)],
        group: GroupName::new(group.to_owned()).unwrap(),
        order: Order::None,
        start: Start::Beginning,
    };
    let mut member = broker.bus().subscribe(subscription).await.unwrap();
    let mut given_up = 0;
    // What is there was published before: it comes at once, or there is none.
    while broker
        .group(&GroupName::new(group.to_owned()).unwrap())
        .unwrap()
        .lag()
        > 0
    {
        for (_, settlement) in member.pull(1).await.unwrap() {
            let outcome = Outcome::DeadLetter {
                failure: Box::default(),
            };
            let effects = Effects::default();
            settlement
                .settle(Commit { outcome, effects })
                .await
                .unwrap();
            given_up += 1;
        }
    }
    given_up
}

#[tokio::test]
async fn groups_that_read_each_others_dead_letters_come_to_an_end() {
    let broker = Broker::in_memory();
    let bus = broker.bus();
    let publish = bus.publish(topic("orders"), vec![event("1")]);
    publish.await.unwrap();
    assert_eq!(give_up(&broker, "a", "orders").await, 1);
    let mut rounds = 0;
    while give_up(&broker, "b", "a.deadletter").await + give_up(&broker, "a", "b.deadletter").await
        > 0
    {
        rounds += 1;
        assert!(rounds < 10, "it goes round");
    }
    // The letter of a, that of b, and once more: nothing of it is lost, nothing comes after.
    assert_eq!(rounds, 2);
    let letters = |name: &str| broker.topic(&topic(name)).unwrap().partitions[0].end;
    assert_eq!(letters("a.deadletter"), Offset(2));
    assert_eq!(letters("b.deadletter"), Offset(2));
    // What is given back begins anew.
    let b = GroupName::new("b").unwrap();
    let place = (ZERO, Offset(1));
    let back = broker.redrive(&b, place, Some(topic("orders"))).await;
    assert_eq!(back.unwrap().offset, Offset(1));
    assert_eq!(give_up(&broker, "a", "orders").await, 1);
    assert_eq!(letters("a.deadletter"), Offset(3));
}

#[tokio::test]
async fn no_topic_is_made_for_what_a_queue_gave_up_that_is_gone() {
    let broker = Broker::in_memory();
    let jobs = topic("jobs");
    let settings = QueueSettings {
        max_deliveries: Some(1),
        ..QueueSettings::default()
    };
    let how = CreateQueue {
        settings,
        ..CreateQueue::default()
    };
    broker.create_queue(jobs.clone(), how).await.unwrap();
    let queue = broker.queue(&jobs).unwrap();
    queue.enqueue(vec![event("1")]).await.unwrap();
    let taken = queue.dequeue(Dequeue::default()).await.unwrap();
    queue.give_back(&[taken[0].lease.unwrap()]).await.unwrap();
    broker.delete_queue(&jobs).await.unwrap();
    let of = GroupName::new("jobs").unwrap();
    let place = (ZERO, Offset(0));
    let refused = broker.redrive(&of, place, None).await.unwrap_err();
    assert!(
        refused.to_string().contains("unknown queue jobs"),
        "{refused}"
    );
    assert!(broker.topic(&jobs).is_none());
    // Where somebody names a topic, or makes the queue again, it goes there.
    broker.create_queue(jobs.clone(), how).await.unwrap();
    broker.redrive(&of, place, None).await.unwrap();
    assert_eq!(broker.queue(&jobs).unwrap().length(), 1);
}

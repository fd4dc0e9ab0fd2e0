//! Dead letters are listed, given back and forgotten, each once, also over a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::{Folder, dead_letter, group, join, take, topic};
use tidemill_broker::limits::{FETCH_MEMORY_WAIT, ORIGINALS_KEPT};
use tidemill_broker::{
    Broker, ClassicError, CreateQueue, CreateTopic, DeadLetterError, Dequeue, GroupError,
    QueueSettings, SeekTo,
};
use tidemill_core::budget::Class;
use tidemill_core::{Event, EventId, EventType, GroupName, Offset, Order, Partition, Source};

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

async fn create(broker: &Broker, name: &str) {
    let created = broker.create_topic(topic(name), CreateTopic::default());
    created.await.unwrap();
}

/// Gives up all that is published: the dead letters `1`, `2` and `3`.
async fn bury(broker: &Broker) {
    let events = vec![event("1"), event("2"), event("3")];
    broker.bus().publish(topic("orders"), events).await.unwrap();
    support::give_up(broker, "billing", "orders", 3, "no card").await;
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
    assert_eq!((failure.error.as_str(), failure.attempts), ("no card", 3));
    // As it was, to where somebody wants it.
    create(&broker, "by-hand").await;
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
    for to in [SeekTo::Beginning, SeekTo::End] {
        let letters = topic("billing.deadletter");
        let refused = broker.seek(&reader, &letters, ZERO, to).await;
        assert_eq!(refused, Err(GroupError::OfDeadLetters(reader.clone())));
        let refused = broker.seek_each(&reader, &letters, &[(ZERO, to)]).await;
        assert_eq!(refused, Err(GroupError::OfDeadLetters(reader.clone())));
    }
    assert_eq!(ids(&broker).await, ["2", "3"]);
    let letters = topic("billing.deadletter");
    broker.delete_topic(&letters).await.unwrap();
    broker.delete_group(&reader).await.unwrap();
}

#[tokio::test]
async fn a_redrive_makes_no_topic_whatever_a_first_use_does() {
    for auto_create in [true, false] {
        let broker = Broker::builder().auto_create_topics(auto_create);
        let broker = broker.open().await.unwrap();
        create(&broker, "orders").await;
        bury(&broker).await;
        let (group, place) = (billing(), (ZERO, Offset(0)));
        let mistyped = Some(topic("ordres"));
        let refused = broker.redrive(&group, place, mistyped).await.unwrap_err();
        assert_eq!(refused, DeadLetterError::UnknownTopic(topic("ordres")));
        broker.delete_topic(&topic("orders")).await.unwrap();
        let refused = broker.redrive(&group, place, None).await.unwrap_err();
        assert_eq!(refused, DeadLetterError::UnknownTopic(topic("orders")));
        for gone in ["ordres", "orders"] {
            assert!(broker.topic(&topic(gone)).is_none(), "{gone}");
        }
        assert_eq!(ids(&broker).await, ["1", "2", "3"]);
        create(&broker, "orders").await;
        broker.redrive(&group, place, None).await.unwrap();
        broker.close().await;
    }
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
        create(&broker, "by-hand").await;
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

/// A group gives up all that it has not settled of a topic. Answers how much that was.
async fn give_up(broker: &Broker, by: &str, of: &str) -> usize {
    // It has its position in the topic with its first member.
    drop(join(broker, by, of, Order::None).await);
    let lag = broker.group(&group(by)).unwrap().lag();
    let count = usize::try_from(lag).unwrap();
    support::give_up(broker, by, of, count, "no").await;
    count
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

async fn until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < 12 * ORIGINALS_KEPT, "it does not come");
        tokio::time::sleep(ORIGINALS_KEPT / 100).await;
    }
}

/// A broker whose topic `orders` has so many events in one batch, which is not in memory.
async fn reopened(folder: &Folder, count: usize) -> Broker {
    let broker = folder.open().await;
    let ids = (0..count).map(|id| id.to_string());
    let events = ids.map(|id| event(&id)).collect();
    broker.bus().publish(topic("orders"), events).await.unwrap();
    broker.close().await;
    folder.open().await
}

#[tokio::test]
async fn letters_of_events_that_share_a_batch_have_it_read_once() {
    const COUNT: usize = 50;
    let folder = Folder::new();
    let broker = reopened(&folder, COUNT).await;
    let mut member = join(&broker, "billing", "orders", Order::None).await;
    let held = take(&mut *member, COUNT).await;
    let before = broker.metrics().disk_reads;
    assert!(before > 0, "it lies on the disk");
    // One after the other.
    for (_, settlement) in held {
        settlement.settle(dead_letter("no")).await.unwrap();
    }
    assert_eq!(broker.metrics().disk_reads, before + 1);
    // It is not kept for long.
    until(|| broker.memory().used(Class::Reads) == 0).await;
    assert_eq!(ids(&broker).await.len(), COUNT);
    broker.close().await;
}

#[tokio::test]
async fn a_letter_waits_for_the_memory_of_others_who_read_but_not_for_ever() {
    let folder = Folder::new();
    let broker = reopened(&folder, 2).await;
    let mut member = join(&broker, "billing", "orders", Order::None).await;
    let mut held = take(&mut *member, 2).await;
    let mut others = broker.memory().empty(Class::Reads);
    while others.grow(1024) {}
    let settling = tokio::spawn(held.remove(0).1.settle(dead_letter("no")));
    tokio::time::sleep(FETCH_MEMORY_WAIT / 4).await;
    assert!(!settling.is_finished());
    drop(others);
    settling.await.unwrap().unwrap();
    assert_eq!(broker.memory().over_in(Class::Reads), 0);
    until(|| broker.memory().used(Class::Reads) == 0).await;
    // Who holds it may wait for this one.
    let mut others = broker.memory().empty(Class::Reads);
    while others.grow(1024) {}
    let began = std::time::Instant::now();
    held.remove(0).1.settle(dead_letter("no")).await.unwrap();
    assert!(began.elapsed() >= FETCH_MEMORY_WAIT);
    drop(others);
    until(|| (broker.memory().used(Class::Reads), broker.memory().over()) == (0, 0)).await;
    broker.close().await;
}

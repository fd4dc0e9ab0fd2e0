//! Messages that are good for a time: nobody gets them afterwards, whether somebody asks or not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use support::{Folder, event, events, group, topic};
use tidemill_broker::{
    Broker, CreateQueue, Dequeue, Dequeued, EXPIRY, Queue, QueueError, QueueSettings,
};
use tidemill_core::{Event, ExtensionValue, Offset, Partition, PublishError};

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

async fn make(broker: &Broker, transient: bool, settings: QueueSettings) -> Queue {
    let name = topic(if transient { "fleeting" } else { "jobs" });
    let how = CreateQueue {
        transient,
        settings,
    };
    broker.create_queue(name.clone(), how).await.unwrap();
    broker.queue(&name).unwrap()
}

/// A queue of each sort, with what keeps it.
async fn each(settings: QueueSettings) -> Vec<(Queue, Broker, Option<Folder>)> {
    let (folder, memory) = (Folder::new(), Broker::in_memory());
    let disk = folder.open().await;
    vec![
        (make(&memory, true, settings).await, memory.clone(), None),
        (make(&memory, false, settings).await, memory, None),
        (make(&disk, false, settings).await, disk, Some(folder)),
    ]
}

/// Takes what is there, for an hour.
async fn take(queue: &Queue) -> Vec<Dequeued> {
    let how = Dequeue {
        max: 9,
        lease: Some(HOUR),
        wait: Duration::ZERO,
    };
    queue.dequeue(how).await.unwrap()
}

fn ids(taken: &[Dequeued]) -> Vec<&str> {
    taken
        .iter()
        .map(|one| one.message.event.id().as_str())
        .collect()
}

fn good_until(id: &str, until: &str) -> Event {
    let until = ExtensionValue::String(until.into());
    event(id, None)
        .to_builder()
        .extension(EXPIRY, until)
        .build()
        .unwrap()
}

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(mut is: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "it did not come to be");
        tokio::task::yield_now().await;
    }
}

/// How many dead letters a queue has.
fn letters(broker: &Broker, of: &str) -> u64 {
    let groups = broker.dead_letter_groups();
    let of = groups.iter().find(|one| one.group == group(of));
    of.map_or(0, |of| of.count)
}

/// Times for which messages may be good that are to expire after a restart, not before it: the
/// next one where a slow machine needed longer for the restart.
fn longer_and_longer() -> impl Iterator<Item = Duration> {
    let times = std::iter::successors(Some(Duration::from_millis(200)), |time| Some(*time * 2));
    times.take_while(|time| *time < PATIENCE / 4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_goes_by_itself() {
    for max_deliveries in [None, Some(3)] {
        let settings = QueueSettings {
            ttl: Some(SHORT),
            max_deliveries,
            ..QueueSettings::default()
        };
        for (queue, broker, _folder) in each(settings).await {
            queue.enqueue(events(0, 3)).await.unwrap();
            // Nobody asks for them.
            until(|| queue.length() == 0).await;
            // They are counted once they are put away.
            let info = loop {
                let info = queue.info().await;
                if info.expired == 3 {
                    break info;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(info.settings.ttl, Some(SHORT));
            assert!(broker.metrics().expired >= 3);
            assert_eq!(take(&queue).await.len(), 0);
            let letters = broker
                .dead_letters(&group(queue.name().as_str()), None, 9)
                .await;
            match max_deliveries {
                // A queue without a bound for deliveries has no dead letters.
                None => assert!(letters.is_err()),
                Some(_) => {
                    let letters = letters.unwrap().letters;
                    let failures = letters.iter().map(|one| &one.letter.failure);
                    let failures: Vec<_> = failures
                        .map(|one| (one.reason.as_str(), one.attempts))
                        .collect();
                    assert_eq!(failures, [("expired", 0); 3]);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_say_itself_until_when_it_is_good() {
    for (queue, broker, _folder) in each(QueueSettings::default()).await {
        let gone = good_until("gone", "2020-01-31T12:00:00Z");
        let late = good_until("late", "2120-01-31T12:00:00Z");
        let all = vec![event("first", None), gone, late];
        queue.enqueue(all).await.unwrap();
        let peeked = queue.peek(9).await.unwrap();
        let peeked: Vec<_> = peeked.iter().map(|one| one.event.id().as_str()).collect();
        assert_eq!(peeked, ["first", "late"]);
        let taken = take(&queue).await;
        assert_eq!(ids(&taken), ["first", "late"]);
        // And was put away: two are left.
        until(|| queue.length() == 2).await;
        until(|| broker.metrics().expired > 0).await;
        let wrong = queue.enqueue(vec![good_until("wrong", "soon")]).await;
        assert!(
            matches!(wrong, Err(QueueError::Publish(PublishError::Invalid(_)))),
            "{wrong:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_message_may_end_with_it_and_nobody_gets_it_again() {
    let settings = QueueSettings {
        ttl: Some(Duration::from_secs(1)),
        ..QueueSettings::default()
    };
    for (queue, _broker, _folder) in each(settings).await {
        queue.enqueue(events(0, 2)).await.unwrap();
        let taken = take(&queue).await;
        assert_eq!(ids(&taken), ["0", "1"]);
        let over: Timestamp = taken[1]
            .message
            .event
            .extension_str(EXPIRY)
            .unwrap()
            .parse()
            .unwrap();
        until(|| Timestamp::now() > over).await;
        assert_eq!((queue.length(), queue.in_flight()), (2, 2));
        queue.ack(&[taken[0].lease.unwrap()]).await.unwrap();
        queue.give_back(&[taken[1].lease.unwrap()]).await.unwrap();
        assert_eq!(take(&queue).await.len(), 0);
        until(|| queue.length() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_what_has_expired_goes_though_nobody_uses_the_queue() {
    let mut times = longer_and_longer();
    let (broker, settings, _folder) = loop {
        let folder = Folder::new();
        let broker = folder.open().await;
        let ttl = times
            .next()
            .expect("a restart takes no quarter of a minute");
        let settings = QueueSettings {
            ttl: Some(ttl),
            max_deliveries: Some(1),
            ..QueueSettings::default()
        };
        let queue = make(&broker, false, settings).await;
        let begun = Instant::now();
        queue.enqueue(events(0, 1)).await.unwrap();
        drop(queue);
        broker.close().await;
        drop(broker);
        let in_time = begun.elapsed() < ttl;
        let broker = folder.open().await;
        until(|| letters(&broker, "jobs") == 1).await;
        // It was there still, and went after the opening.
        if in_time {
            until(|| broker.metrics().expired == 1).await;
            break (broker, settings, folder);
        }
        broker.close().await;
    };
    let count = || letters(&broker, "jobs");
    let info = broker.queue_info(&topic("jobs")).await.unwrap();
    assert_eq!((info.settings, info.length), (settings, 0));

    // What is given back is good for as long as another one.
    let place = (Partition(0), Offset(0));
    let before = Timestamp::now();
    broker.redrive(&group("jobs"), place, None).await.unwrap();
    until(|| count() == 1).await;
    let letters = broker.dead_letters(&group("jobs"), None, 9).await.unwrap();
    let again = &letters.letters[0].letter.event;
    let until: Timestamp = again.extension_str(EXPIRY).unwrap().parse().unwrap();
    assert!(until > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_messages_expire_in_a_queue_that_says_nothing_of_it() {
    let settings = QueueSettings {
        max_deliveries: Some(1),
        ..QueueSettings::default()
    };
    let mut times = longer_and_longer();
    loop {
        let folder = Folder::new();
        let broker = folder.open().await;
        let ttl = times
            .next()
            .expect("a restart takes no quarter of a minute");
        let soon = Some(ttl);
        let queue = make(&broker, false, settings).await;
        let begun = Instant::now();
        queue.enqueue_for(events(0, 1), soon).await.unwrap();
        // One behind a message that stays is seen once that is taken.
        let name = topic("mixed");
        let how = CreateQueue {
            transient: false,
            settings,
        };
        broker.create_queue(name.clone(), how).await.unwrap();
        let mixed = broker.queue(&name).unwrap();
        mixed.enqueue(vec![event("stays", None)]).await.unwrap();
        mixed.enqueue_for(events(1, 1), soon).await.unwrap();
        drop((queue, mixed));
        broker.close().await;
        drop(broker);
        let in_time = begun.elapsed() < ttl;

        let broker = folder.open().await;
        until(|| letters(&broker, "jobs") == 1).await;
        let mixed = broker.queue(&name).unwrap();
        let taken = mixed.dequeue(Dequeue::default()).await.unwrap();
        assert_eq!(ids(&taken), ["stays"]);
        until(|| letters(&broker, "mixed") == 1).await;
        mixed.ack(&[taken[0].lease.unwrap()]).await.unwrap();
        assert_eq!(mixed.length(), 0);
        // Both were there still, and went after the opening.
        if in_time {
            until(|| broker.metrics().expired == 2).await;
            break;
        }
        broker.close().await;
    }
}

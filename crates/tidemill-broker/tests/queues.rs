//! Queues: in memory and on disk they are the same to who uses them, but for what a restart leaves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use support::{Folder, event, events, group, join, topic};
use tidemill_broker::{
    Broker, CreateQueue, CreateTopic, Dequeue, Dequeued, GroupError, LeaseId, Numbered,
    ProducerError, Queue, QueueError, QueueSettings, SeekTo, TopicError,
};
use tidemill_core::{
    Event, Fetch, FetchError, Offset, Order, Partition, PublishError, Start, SubscribeError,
    Subscription, TopicName,
};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// A queue of each sort, with what keeps it.
async fn each(settings: QueueSettings) -> Vec<(Queue, Broker, Option<Folder>)> {
    let folder = Folder::new();
    let memory = Broker::in_memory();
    let disk = folder.open().await;
    let mut all = Vec::new();
    for (broker, folder, transient) in [
        (memory.clone(), None, true),
        (memory, None, false),
        (disk, Some(folder), false),
    ] {
        let name = topic(if transient { "fleeting" } else { "jobs" });
        let how = CreateQueue {
            transient,
            settings,
        };
        let made = broker.create_queue(name.clone(), how).await.unwrap();
        assert_eq!((made.transient, made.length), (transient, 0));
        all.push((broker.queue(&name).unwrap(), broker, folder));
    }
    all
}

async fn make(broker: &Broker, settings: QueueSettings) -> Queue {
    let how = CreateQueue {
        transient: false,
        settings,
    };
    broker.create_queue(topic("jobs"), how).await.unwrap();
    broker.queue(&topic("jobs")).unwrap()
}

fn id(dequeued: &Dequeued) -> String {
    dequeued.message.event.id().to_string()
}

fn ids(dequeued: &[Dequeued]) -> Vec<String> {
    dequeued.iter().map(id).collect()
}

fn leases(dequeued: &[Dequeued]) -> Vec<LeaseId> {
    dequeued.iter().map(|one| one.lease.unwrap()).collect()
}

fn up_to(max: usize) -> Dequeue {
    Dequeue {
        max,
        ..Dequeue::default()
    }
}

/// Takes what is there, for an hour.
async fn take(queue: &Queue, max: usize) -> Vec<Dequeued> {
    let lease = Some(HOUR);
    queue
        .dequeue(Dequeue {
            lease,
            ..up_to(max)
        })
        .await
        .unwrap()
}

/// Waits until there is something.
async fn wait(queue: &Queue, max: usize, lease: Duration) -> Vec<Dequeued> {
    let how = Dequeue {
        max,
        lease: Some(lease),
        wait: HOUR,
    };
    queue.dequeue(how).await.unwrap()
}

async fn peeked(queue: &Queue) -> Vec<String> {
    let peeked = queue.peek(100).await.unwrap();
    peeked.iter().map(|m| m.event.id().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_out_in_order_and_come_back_to_their_old_place() {
    for (queue, broker, _folder) in each(QueueSettings::default()).await {
        let offsets = queue.enqueue(events(0, 6)).await.unwrap();
        assert_eq!(offsets, (0..6).map(Offset).collect::<Vec<_>>());
        assert_eq!(peeked(&queue).await, ["0", "1", "2", "3", "4", "5"]);
        let held = take(&queue, 4).await;
        assert_eq!(ids(&held), ["0", "1", "2", "3"]);
        assert!(held.iter().all(|one| one.deliveries == 1));
        assert_eq!(peeked(&queue).await, ["4", "5"]);
        let (one, two) = (held[1].lease.unwrap(), held[2].lease.unwrap());
        queue.give_back(&[two, one]).await.unwrap();
        assert_eq!(peeked(&queue).await, ["1", "2", "4", "5"]);
        queue.ack(&[held[0].lease.unwrap()]).await.unwrap();
        let again = take(&queue, 9).await;
        assert_eq!(ids(&again), ["1", "2", "4", "5"]);
        let deliveries: Vec<u32> = again.iter().map(|one| one.deliveries).collect();
        assert_eq!(deliveries, [2, 2, 1, 1]);
        let info = queue.info().await;
        assert_eq!((info.length, info.in_flight), (5, 5));
        assert!(info.oldest_age_ms.is_some());
        let all = broker.queues().await;
        assert!(all.iter().any(|of| of.name == *queue.name()));
        queue.ack(&leases(&again)).await.unwrap();
        queue.ack(&[held[3].lease.unwrap()]).await.unwrap();
        assert_eq!((queue.length(), take(&queue, 9).await.len()), (0, 0));
        assert_eq!(queue.info().await.oldest_age_ms, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_good_once_and_one_that_is_over_refuses_all_that_are_named_with_it() {
    for (queue, ..) in each(QueueSettings::default()).await {
        queue.enqueue(events(0, 3)).await.unwrap();
        let held = leases(&take(&queue, 3).await);
        queue.ack(&held[..1]).await.unwrap();
        let refused = queue.ack(&held).await.unwrap_err();
        assert_eq!(refused, QueueError::Stale(vec![held[0]]));
        assert!(
            refused.to_string().contains(&held[0].to_string()),
            "{refused}"
        );
        assert_eq!(queue.length(), 2, "nothing was done");
        let twice = [held[1], held[1]];
        queue.ack(&twice).await.unwrap();
        queue.give_back(&held[2..]).await.unwrap();
        for over in [&held[1..2], &held[2..]] {
            let refused = queue.give_back(over).await.unwrap_err();
            assert_eq!(refused, QueueError::Stale(over.to_vec()));
        }
        let again = take(&queue, 3).await;
        assert_eq!(ids(&again), ["2"]);
        let foreign = held[2];
        assert!(
            queue.ack(&[foreign]).await.is_err(),
            "the message is another taker's"
        );
        for wrong in [queue.ack(&[]).await, queue.give_back(&[]).await] {
            assert!(matches!(wrong, Err(QueueError::Limit(_))), "{wrong:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_zero_removes_at_once() {
    for (queue, ..) in each(QueueSettings::default()).await {
        queue.enqueue(events(0, 3)).await.unwrap();
        let how = Dequeue {
            lease: Some(Duration::ZERO),
            ..up_to(2)
        };
        let removed = queue.dequeue(how).await.unwrap();
        assert_eq!(ids(&removed), ["0", "1"]);
        assert!(removed.iter().all(|one| one.lease.is_none()));
        assert_eq!(queue.length(), 1);
        let info = queue.info().await;
        assert_eq!(info.in_flight, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_the_waiting_gets_what_was_removed_by_then() {
    for (queue, _broker, _folder) in each(QueueSettings::default()).await {
        let how = |wait| Dequeue {
            max: 10,
            lease: Some(Duration::ZERO),
            wait,
        };
        let now = || std::future::ready(());
        let none = queue.dequeue_until(how(HOUR), now()).await.unwrap();
        assert_eq!(none.len(), 0);
        queue.enqueue(events(0, 3)).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < 3 {
            // What is being read from the disk is perhaps not there yet.
            taken.extend(queue.dequeue_until(how(HOUR), now()).await.unwrap());
            assert_eq!(taken.len() as u64 + queue.length(), 3);
            tokio::task::yield_now().await;
        }
        assert_eq!(ids(&taken), ["0", "1", "2"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_in_flight_wakes_who_waits_and_until_then_a_queue_says_why_it_gives_none() {
    for (queue, _broker, _folder) in each(QueueSettings::default()).await {
        let most = tidemill_broker::limits::QUEUE_IN_FLIGHT_MAX;
        queue.enqueue(events(0, most + 1)).await.unwrap();
        let mut held = Vec::new();
        while held.len() < most {
            held.extend(wait(&queue, 1000, HOUR).await);
        }
        assert!(queue.info().await.paused.is_some());
        let waits = queue.clone();
        let waits = tokio::spawn(async move { wait(&waits, 1, HOUR).await });
        tokio::task::yield_now().await;
        queue.ack(&leases(&held[..1])).await.unwrap();
        assert_eq!(ids(&waits.await.unwrap()), [most.to_string()]);
        queue.ack(&leases(&held[1..2])).await.unwrap();
        assert_eq!(queue.info().await.paused, None);
    }
}

#[tokio::test]
async fn a_lease_that_ends_gives_the_message_back_and_wakes_who_waits() {
    for (queue, broker, _folder) in each(QueueSettings::default()).await {
        queue.enqueue(events(0, 2)).await.unwrap();
        // From here on the time is the runtime's, and goes on only when nothing else is to be done.
        tokio::time::pause();
        let begun = Instant::now();
        let held = queue.dequeue(up_to(2)).await.unwrap();
        assert_eq!(
            held[0].lease_for,
            Duration::from_secs(30),
            "the queue's own"
        );
        let again = wait(&queue, 2, HOUR).await;
        assert_eq!(begun.elapsed().as_secs(), 30);
        assert_eq!(ids(&again), ["0", "1"]);
        assert!(again.iter().all(|one| one.deliveries == 2));
        let late = queue.ack(&leases(&held)).await.unwrap_err();
        assert_eq!(late, QueueError::Stale(leases(&held)));
        assert!(broker.metrics().leases_ended >= 2);
        tokio::time::resume();
        queue.ack(&leases(&again)).await.unwrap();
        assert_eq!(queue.length(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_gets_what_comes_and_who_goes_takes_nothing_along() {
    for (queue, broker, _folder) in each(QueueSettings::default()).await {
        let name = queue.name().clone();
        let empty = queue
            .dequeue(Dequeue {
                wait: Duration::from_millis(1),
                ..up_to(1)
            })
            .await;
        assert_eq!(empty.unwrap().len(), 0);
        let waiting = |queue: &Queue| {
            let queue = queue.clone();
            tokio::spawn(async move { wait(&queue, 1, HOUR).await })
        };
        for round in 0..50 {
            let (goes, stays) = (waiting(&queue), waiting(&queue));
            tokio::task::yield_now().await;
            if round % 2 == 0 {
                goes.abort();
            }
            let two = events(2 * round, 2);
            queue.enqueue(two).await.unwrap();
            let mut seen = BTreeSet::new();
            let stayed = stays.await.unwrap();
            queue.ack(&leases(&stayed)).await.unwrap();
            seen.extend(ids(&stayed));
            // Aborted too late, it has one; its lease is nobody's now.
            match goes.await {
                Ok(went) => {
                    queue.ack(&leases(&went)).await.unwrap();
                    seen.extend(ids(&went));
                }
                Err(_) => {
                    let left = wait(&queue, 1, HOUR).await;
                    queue.ack(&leases(&left)).await.unwrap();
                    seen.extend(ids(&left));
                }
            }
            assert_eq!(seen.len(), 2, "round {round}: {seen:?}");
        }
        let (one, other) = (queue.clone(), queue.clone());
        let one = tokio::spawn(async move {
            one.dequeue(Dequeue {
                wait: HOUR,
                ..up_to(1)
            })
            .await
        });
        let other = tokio::spawn(async move {
            other
                .dequeue(Dequeue {
                    wait: HOUR,
                    ..up_to(1)
                })
                .await
        });
        tokio::task::yield_now().await;
        broker.delete_queue(&name).await.unwrap();
        for told in [one, other] {
            let told = told.await.unwrap().unwrap_err();
            assert_eq!(told, QueueError::Unknown(name.clone()));
        }
        let gone = queue.enqueue(events(0, 1)).await.unwrap_err();
        assert_eq!(gone, QueueError::Unknown(name.clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_share_the_messages_each_exactly_once_while_leases_hold() {
    const COUNT: usize = 400;
    for (queue, ..) in each(QueueSettings::default()).await {
        let consume = |queue: Queue| async move {
            let mut mine = Vec::new();
            loop {
                let taken = wait(&queue, 3, HOUR).await;
                // The last one is a word to end.
                if taken.iter().any(|one| id(one) == "end") {
                    queue.give_back(&leases(&taken)).await.unwrap();
                    return mine;
                }
                queue.ack(&leases(&taken)).await.unwrap();
                mine.extend(ids(&taken));
            }
        };
        let consumers: Vec<_> = (0..6)
            .map(|_| tokio::spawn(consume(queue.clone())))
            .collect();
        for from in (0..COUNT).step_by(20) {
            queue.enqueue(events(from, 20)).await.unwrap();
        }
        while queue.length() > 0 {
            tokio::task::yield_now().await;
        }
        queue.enqueue(vec![event("end", None)]).await.unwrap();
        let mut all = Vec::new();
        for consumer in consumers {
            all.extend(consumer.await.unwrap());
        }
        let distinct: BTreeSet<_> = all.iter().cloned().collect();
        assert_eq!((all.len(), distinct.len()), (COUNT, COUNT));
    }
}

/// The dead letters of a queue: the events and how often each was tried.
async fn dead(broker: &Broker, of: &str) -> Vec<(String, u32)> {
    let fetch = Fetch {
        topic: topic(&format!("{of}.deadletter")),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 100,
        max_bytes: 1 << 20,
        wait: HOUR,
    };
    let fetched = broker.bus().fetch(fetch).await.unwrap();
    let letter = |event: &Event| {
        let letter = tidemill_core::dead_letter::DeadLetter::from_event(event).unwrap();
        assert_eq!(letter.origin.topic, topic(of));
        assert_eq!(letter.failure.reason, "max_deliveries");
        (letter.event.id().to_string(), letter.failure.attempts)
    };
    fetched
        .events
        .iter()
        .map(|(_, event)| letter(event))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dequeued_too_often_goes_to_the_dead_letters() {
    let settings = QueueSettings {
        max_deliveries: Some(2),
        ..QueueSettings::default()
    };
    for (queue, broker, _folder) in each(settings).await {
        let name = queue.name().as_str().to_owned();
        queue.enqueue(events(0, 2)).await.unwrap();
        for _ in 0..2 {
            let held = take(&queue, 1).await;
            assert_eq!(ids(&held), ["0"]);
            queue.give_back(&leases(&held)).await.unwrap();
        }
        assert_eq!(dead(&broker, &name).await, [("0".to_owned(), 2)]);
        assert_eq!(queue.length(), 1);
        // By leases that end, too.
        let millis = Duration::from_millis(1);
        for deliveries in 1..=2 {
            let held = wait(&queue, 1, millis).await;
            assert_eq!(
                (id(&held[0]).as_str(), held[0].deliveries),
                ("1", deliveries)
            );
        }
        // A lease that never comes to its end by itself: who waits makes it do so.
        let none = queue
            .dequeue(Dequeue {
                wait: Duration::from_millis(5),
                ..up_to(1)
            })
            .await;
        assert_eq!(none.unwrap().len(), 0);
        while queue.length() > 0 {
            tokio::task::yield_now().await;
        }
        let buried = dead(&broker, &name).await;
        assert_eq!(buried, [("0".to_owned(), 2), ("1".to_owned(), 2)]);
        assert_eq!(
            queue.info().await.dead_letters,
            topic(&format!("{name}.deadletter"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_leases_are_over_and_what_was_acknowledged_never_comes_back() {
    let folder = Folder::new();
    let broker = folder.open().await;
    let how = CreateQueue {
        transient: true,
        ..CreateQueue::default()
    };
    broker.create_queue(topic("fleeting"), how).await.unwrap();
    let settings = QueueSettings {
        lease: Duration::from_millis(1234),
        max_deliveries: Some(7),
        ttl: Some(HOUR),
    };
    let queue = make(&broker, settings).await;
    queue.enqueue(events(0, 6)).await.unwrap();
    let held = take(&queue, 5).await;
    let acked = [held[1].lease.unwrap(), held[3].lease.unwrap()];
    queue.ack(&acked).await.unwrap();
    let fleeting = broker.queue(&topic("fleeting")).unwrap();
    fleeting
        .enqueue(vec![event("only-in-memory", None)])
        .await
        .unwrap();

    // What a killed process leaves, and what a closed one does.
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    assert!(
        !holds(folder.path(), b"only-in-memory"),
        "it never touches the disk"
    );
    broker.close().await;
    let closed = queue.dequeue(up_to(1)).await.unwrap_err();
    assert!(matches!(closed, QueueError::Unavailable(_)), "{closed}");
    drop((queue, fleeting, broker));
    for path in [killed.path(), folder.path()] {
        let broker = Broker::open(path).await.unwrap();
        let left: Vec<_> = broker
            .queues()
            .await
            .into_iter()
            .map(|of| of.name)
            .collect();
        assert_eq!(left, [topic("jobs")], "what is in memory is gone");
        let queue = broker.queue(&topic("jobs")).unwrap();
        assert_eq!(queue.info().await.settings, settings);
        assert_eq!(queue.length(), 4);
        let late = queue.ack(&[held[0].lease.unwrap()]).await.unwrap_err();
        assert_eq!(late, QueueError::Stale(vec![held[0].lease.unwrap()]));
        let again = take(&queue, 9).await;
        assert_eq!(ids(&again), ["0", "2", "4", "5"]);
        queue.ack(&leases(&again)).await.unwrap();
        assert_eq!(queue.length(), 0);
        broker.close().await;
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            }
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Whether some file of a folder has these bytes.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => holds(&entry.path(), bytes),
            false => {
                let file = std::fs::read(entry.path()).unwrap();
                file.windows(bytes.len()).any(|window| window == bytes)
            }
        }
    })
}

/// Far more goes through than the disk has, while the oldest message is never settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_comes_back_although_the_oldest_message_stays_in_flight() {
    const DISK: u64 = 96 << 20;
    let builder = Broker::builder().in_memory(DISK);
    let builder = builder.retention_look_every(Duration::from_millis(1));
    let broker = builder.open().await.unwrap();
    let queue = make(&broker, QueueSettings::default()).await;
    queue.enqueue(vec![event("first", None)]).await.unwrap();
    let first = take(&queue, 1).await;
    let data = format!("\"{}\"", "x".repeat(1 << 20));
    let mut sent = 0;
    while sent < 2 * DISK {
        let large = event(sent, None)
            .to_builder()
            .data("application/json", data.clone());
        queue.enqueue(vec![large.build().unwrap()]).await.unwrap();
        sent += data.len() as u64;
        let removed = wait(&queue, 1, Duration::ZERO).await;
        assert_eq!(removed.len(), 1);
    }
    assert!(broker.metrics().expired_segments > 2);
    assert!(queue.info().await.size_bytes < DISK / 2);
    assert_eq!(queue.length(), 1);
    queue.give_back(&leases(&first)).await.unwrap();
    assert_eq!(ids(&take(&queue, 1).await), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_queues_share_their_names_and_not_their_doors() {
    for (queue, broker, _folder) in each(QueueSettings::default()).await {
        let name = queue.name().clone();
        let bus = broker.bus();
        let published = bus.publish(name.clone(), events(0, 1)).await.unwrap_err();
        assert_eq!(published, PublishError::IsQueue(name.clone()));
        let fetch = Fetch {
            topic: name.clone(),
            partition: Partition(0),
            offset: Offset(0),
            max_events: 1,
            max_bytes: 1,
            wait: Duration::ZERO,
        };
        let fetched = bus.fetch(fetch).await.unwrap_err();
        assert_eq!(fetched, FetchError::IsQueue(name.clone()));
        let made = broker
            .create_topic(name.clone(), CreateTopic::default())
            .await;
        assert!(
            matches!(made, Err(TopicError::IsQueue(_) | TopicError::Exists(_))),
            "{made:?}"
        );
        let how = CreateQueue::default();
        let twice = broker.create_queue(name.clone(), how).await.unwrap_err();
        assert_eq!(twice, QueueError::Exists(name.clone()));
        let letters = topic(&format!("{name}.deadletter"));
        let clash = broker.create_queue(letters, how).await.unwrap_err();
        assert!(matches!(clash, QueueError::Limit(_)), "{clash:?}");
        // Nor before there is a group that needs the name, as none could give anything up then.
        for name in ["later.deadletter", "a_20b.deadletter_x"] {
            let clash = broker.create_queue(topic(name), how).await.unwrap_err();
            assert!(clash.to_string().contains("use another name"), "{clash}");
        }
        // Doors that make topics by their first use make none beside it.
        let ensured = broker.ensure_topic(&name).await;
        assert_eq!(ensured, Err(PublishError::IsQueue(name.clone())));
        let numbered = Numbered {
            topic: name.clone(),
            producer: broker.init_producer().unwrap(),
            partitions: 1,
            round: 0,
            sequences: std::collections::BTreeMap::new(),
        };
        let published = broker.publish_numbered(numbered, &events(0, 1)).await;
        let is_queue = ProducerError::Event(PublishError::IsQueue(name.clone()));
        assert_eq!(published, Err(is_queue));
        let joined = subscribed(&broker, &name).await;
        assert_eq!(joined, Some(SubscribeError::IsQueue(name.clone())));
        assert!(broker.topics().is_empty() && broker.groups().is_empty());
        assert!(broker.is_queue(&name) && broker.topic(&name).is_none());
        if !queue.info().await.transient {
            topics_doors_refuse(&broker, &name).await;
            groups_are_told_apart(&broker, &name).await;
            broker.delete_queue(&name).await.unwrap();
            let again = broker.delete_queue(&name).await.unwrap_err();
            assert_eq!(again, QueueError::Unknown(name.clone()));
            let how = CreateTopic::default();
            broker.create_topic(name, how).await.unwrap();
        }
    }
}

/// Why a group cannot read it, if so.
async fn subscribed(broker: &Broker, name: &TopicName) -> Option<SubscribeError> {
    let subscription = Subscription {
        topics: vec![name.clone()],
        group: group("g"),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    broker.bus().subscribe(subscription).await.err()
}

async fn topics_doors_refuse(broker: &Broker, name: &TopicName) {
    assert_eq!(
        broker.delete_topic(name).await,
        Err(TopicError::IsQueue(name.clone()))
    );
    let trimmed = broker.trim_topic(name, Partition(0), Offset(0)).await;
    assert_eq!(trimmed, Err(TopicError::IsQueue(name.clone())));
    let of = group(name.as_str());
    assert_eq!(
        broker.delete_group(&of).await,
        Err(GroupError::OfQueue(of.clone()))
    );
    let sought = broker.seek(&of, name, Partition(0), SeekTo::End).await;
    assert_eq!(sought, Err(GroupError::OfQueue(of)));
}

async fn groups_are_told_apart(broker: &Broker, name: &TopicName) {
    let bus = broker.bus();
    // Its group is no group of topics, and takes the name of none.
    bus.publish(topic("plain"), events(0, 1)).await.unwrap();
    let subscription = Subscription {
        topics: vec![topic("plain")],
        group: group(name.as_str()),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let joined = bus.subscribe(subscription).await.err().unwrap();
    assert!(
        matches!(joined, SubscribeError::GroupConflict { .. }),
        "{joined}"
    );
    let member = join(broker, "taken", "plain", Order::PerKey).await;
    for transient in [true, false] {
        let how = CreateQueue {
            transient,
            ..CreateQueue::default()
        };
        let clash = broker.create_queue(topic("taken"), how).await.unwrap_err();
        assert_eq!(clash, QueueError::GroupExists(group("taken")));
        let clash = broker.create_queue(topic("plain"), how).await.unwrap_err();
        assert_eq!(clash, QueueError::Exists(topic("plain")));
    }
    drop(member);
    let opened = broker.queue(&topic("plain")).unwrap_err();
    assert_eq!(opened, QueueError::IsTopic(topic("plain")));
    let deleted = broker.delete_queue(&topic("plain")).await.unwrap_err();
    assert_eq!(deleted, QueueError::IsTopic(topic("plain")));
    assert_eq!(broker.topics().len(), 1);
    assert_eq!(broker.groups().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_bounds_is_refused_with_the_bound() {
    let settings = QueueSettings::default();
    for (queue, broker, _folder) in each(settings).await {
        let refused = |why: QueueError| match why {
            QueueError::Limit(why) => why,
            other => panic!("{other:?}"),
        };
        let long = Dequeue {
            lease: Some(13 * HOUR),
            ..up_to(1)
        };
        for how in [up_to(0), up_to(1001), long] {
            assert!(!refused(queue.dequeue(how).await.unwrap_err()).is_empty());
        }
        for max in [0, 101] {
            assert!(!refused(queue.peek(max).await.unwrap_err()).is_empty());
        }
        let wrong = CreateQueue {
            settings: QueueSettings {
                max_deliveries: Some(0),
                ..settings
            },
            ..CreateQueue::default()
        };
        let why = broker
            .create_queue(topic("other"), wrong)
            .await
            .unwrap_err();
        assert!(refused(why).contains("max_deliveries"));
        let large = event("large", None)
            .to_builder()
            .data("text/plain", vec![b'x'; 17 << 20]);
        let large = queue
            .enqueue(vec![large.build().unwrap()])
            .await
            .unwrap_err();
        assert!(matches!(large, QueueError::Publish(_)), "{large:?}");
        assert_eq!(queue.length(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_in_memory_takes_no_more_than_its_part_of_the_memory() {
    let broker = Broker::builder().memory(64 << 20).open().await.unwrap();
    let how = CreateQueue {
        transient: true,
        ..CreateQueue::default()
    };
    broker.create_queue(topic("fleeting"), how).await.unwrap();
    let queue = broker.queue(&topic("fleeting")).unwrap();
    let large = |n: usize| {
        let builder = event(n, None).to_builder();
        builder
            .data("text/plain", vec![b'x'; 1 << 20])
            .build()
            .unwrap()
    };
    let mut count = 0;
    let refused = loop {
        match queue.enqueue(vec![large(count)]).await {
            Ok(_) => count += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, QueueError::Full(_)), "{refused:?}");
    assert!((4..64).contains(&count), "{count}");
    // Others have their own part.
    broker
        .bus()
        .publish(topic("t"), vec![large(0)])
        .await
        .unwrap();
    assert_eq!(wait(&queue, 1, Duration::ZERO).await.len(), 1);
    queue.enqueue(vec![large(count)]).await.unwrap();
    broker.delete_queue(&topic("fleeting")).await.unwrap();
    drop(queue);
    let used = broker.memory().used(tidemill_core::budget::Class::Queues);
    assert_eq!(used, 0);
}

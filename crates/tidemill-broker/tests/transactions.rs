//! Transactions against a broker in memory and on disk: what was committed is read, whole, and
//! what was not is never read by those who want only what is decided.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::gate::Gate;
use support::{Folder, both, event, events, group, id, join, take, topic};
use tidemill_broker::batch::Producer as Header;
use tidemill_broker::limits::TRANSACTION_PARTS_MAX;
use tidemill_broker::{
    BatchBuilder, Begins, Broker, CreateTopic, FetchBatches, FetchedBatches, InitTransactional,
    Isolation, Produce, ProducerError, ProducerIdentity, TransactionEnd, TransactionStatus,
    TransactionalId,
};
use tidemill_core::{Fetch, Offset, Order, Partition};

const MINUTE: Duration = Duration::from_secs(60);

fn name(id: &str) -> TransactionalId {
    TransactionalId::new(id).unwrap()
}

async fn create(broker: &Broker) {
    for name in ["a", "b"] {
        let how = CreateTopic::default();
        broker.create_topic(topic(name), how).await.unwrap();
    }
}

fn fetch(of: &str, offset: u64) -> Fetch {
    Fetch {
        topic: topic(of),
        partition: Partition(0),
        offset: Offset(offset),
        max_events: 10_000,
        max_bytes: 1 << 24,
        wait: Duration::ZERO,
    }
}

/// The ids of the events that a topic shows.
async fn shown(broker: &Broker, of: &str) -> Vec<String> {
    let fetched = broker.bus().fetch(fetch(of, 0)).await.unwrap();
    let ids = fetched.events.iter().map(|(_, event)| event.id());
    ids.map(ToString::to_string).collect()
}

async fn batches(broker: &Broker, of: &str, isolation: Isolation) -> FetchedBatches {
    let fetch = FetchBatches {
        topic: topic(of),
        partition: Partition(0),
        offset: Offset(0),
        max_bytes: 1 << 20,
        isolation,
        wait: Duration::ZERO,
    };
    broker.fetch_batches(fetch).await.unwrap()
}

/// Where a topic ends for its readers, and where its records end.
fn ends(broker: &Broker, of: &str) -> (u64, u64) {
    let partition = &broker.topic(&topic(of)).unwrap().partitions[0];
    (partition.end.0, partition.high_watermark.0)
}

async fn init(broker: &Broker, id: &str) -> ProducerIdentity {
    let init = InitTransactional {
        id: name(id),
        timeout: MINUTE,
        expected: None,
    };
    broker.init_transactional(init).await.unwrap()
}

fn produce(who: ProducerIdentity, sequence: i32, transactional: bool, begins: Begins) -> Produce {
    let builder = BatchBuilder::new().producer(Header {
        id: who.id.0,
        epoch: who.epoch.0,
        base_sequence: sequence,
    });
    let mut builder = match transactional {
        true => builder.transactional(),
        false => builder,
    };
    builder
        .push(0, None, Some(b"x"), std::iter::empty())
        .unwrap();
    Produce {
        topic: topic("a"),
        partition: Partition(0),
        batch: builder.finish().unwrap().try_into().unwrap(),
        begins,
    }
}

#[tokio::test]
async fn a_transaction_is_read_when_it_is_committed_and_never_when_it_is_aborted() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        mine.publish(&topic("a"), &events(0, 2)).await.unwrap();
        mine.publish(&topic("b"), &events(2, 1)).await.unwrap();
        // Behind an open transaction nothing is decided yet.
        broker
            .bus()
            .publish(topic("a"), events(9, 1))
            .await
            .unwrap();
        assert_eq!((ends(&broker, "a"), ends(&broker, "b")), ((0, 3), (0, 1)));
        assert!(shown(&broker, "a").await.is_empty());
        let found = batches(&broker, "a", Isolation::ReadCommitted).await;
        assert!(found.batches.is_empty());
        assert_eq!(
            (found.stable_end, found.high_watermark),
            (Offset(0), Offset(3))
        );
        let found = batches(&broker, "a", Isolation::ReadUncommitted).await;
        assert_eq!((found.batches.len(), found.aborted.len()), (2, 0));
        mine.commit().await.unwrap();
        assert_eq!(shown(&broker, "a").await, ["0", "1", "9"]);
        assert_eq!(shown(&broker, "b").await, ["2"]);
        assert_eq!((ends(&broker, "a"), ends(&broker, "b")), ((4, 4), (2, 2)));

        mine.publish(&topic("a"), &events(3, 2)).await.unwrap();
        mine.publish(&topic("b"), &events(5, 1)).await.unwrap();
        mine.abort().await.unwrap();
        mine.publish(&topic("a"), &events(6, 1)).await.unwrap();
        mine.commit().await.unwrap();
        assert_eq!(shown(&broker, "a").await, ["0", "1", "9", "6"]);
        assert_eq!(shown(&broker, "b").await, ["2"]);
        let found = batches(&broker, "a", Isolation::ReadCommitted).await;
        assert_eq!(found.aborted.len(), 1);
        let aborted = found.aborted[0];
        assert_eq!(aborted.producer, mine.identity().id);
        assert_eq!((aborted.first, aborted.last), (Offset(4), Offset(6)));
        assert_eq!(found.batches.len(), 7, "records, markers, aborted ones");
        let mut member = join(&broker, "g", "a", Order::PerKey).await;
        let taken = take(&mut *member, 4).await;
        let taken: Vec<_> = taken.iter().map(|(delivery, _)| id(delivery)).collect();
        assert_eq!(taken, ["0", "1", "9", "6"]);
        broker.close().await;
    }
}

#[tokio::test]
async fn whoever_takes_an_id_over_shuts_the_other_out_and_aborts_what_it_left() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let mut old = broker.transactional(name("mine"), MINUTE).await.unwrap();
        old.publish(&topic("a"), &events(0, 2)).await.unwrap();
        let mut new = broker.transactional(name("mine"), MINUTE).await.unwrap();
        assert_eq!(new.identity().id, old.identity().id);
        assert!(new.identity().epoch > old.identity().epoch);
        assert_eq!(ends(&broker, "a"), (3, 3), "aborted by who came");
        let late = old.publish(&topic("a"), &events(2, 1)).await.unwrap_err();
        assert!(matches!(late, ProducerError::Fenced { .. }), "{late}");
        let late = old.publish(&topic("b"), &events(2, 1)).await.unwrap_err();
        assert!(matches!(late, ProducerError::Fenced { .. }), "{late}");
        let late = old.commit().await.unwrap_err();
        assert!(matches!(late, ProducerError::Fenced { .. }), "{late}");
        new.publish(&topic("a"), &events(3, 1)).await.unwrap();
        new.commit().await.unwrap();
        assert_eq!(shown(&broker, "a").await, ["3"]);
        assert!(shown(&broker, "b").await.is_empty());
        broker.close().await;
    }
}

#[tokio::test]
async fn positions_are_set_with_the_commit_and_forgotten_with_the_abort() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        broker
            .bus()
            .publish(topic("a"), events(0, 6))
            .await
            .unwrap();
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        let position = |broker: &Broker, of: &str| {
            let info = broker.group(&group(of))?;
            Some(info.partitions.first()?.position.0)
        };
        let at = |offset| [(topic("a"), Partition(0), Offset(offset))];
        mine.settle(&group("g"), &at(2)).await.unwrap();
        mine.publish(&topic("b"), &events(9, 1)).await.unwrap();
        assert_eq!(position(&broker, "g"), None);
        mine.abort().await.unwrap();
        assert_eq!(position(&broker, "g"), None);
        mine.settle(&group("g"), &at(2)).await.unwrap();
        mine.settle(&group("g"), &at(4)).await.unwrap();
        mine.commit().await.unwrap();
        assert_eq!(position(&broker, "g"), Some(4));
        // Members follow, and what they hold of before is stale.
        let mut member = join(&broker, "g", "a", Order::PerKey).await;
        let held = take(&mut *member, 2).await;
        let ids = |held: &[(tidemill_core::Delivery, _)]| -> Vec<String> {
            held.iter().map(|(delivery, _)| id(delivery)).collect()
        };
        assert_eq!(ids(&held), ["4", "5"]);
        mine.settle(&group("g"), &at(1)).await.unwrap();
        mine.commit().await.unwrap();
        let held = take(&mut *member, 5).await;
        assert_eq!(ids(&held), ["1", "2", "3", "4", "5"]);
        broker.close().await;
    }
}

#[tokio::test]
async fn a_watch_and_a_long_poll_end_where_everything_is_decided() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let bus = broker.bus();
        bus.publish(topic("a"), events(0, 1)).await.unwrap();
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        let mut watch = bus.watch().unwrap();
        mine.publish(&topic("a"), &events(1, 1)).await.unwrap();
        bus.publish(topic("a"), events(2, 1)).await.unwrap();
        bus.publish(topic("b"), events(3, 1)).await.unwrap();
        // Told after everything before it.
        let mut told = Vec::new();
        while !told.iter().any(|(of, _)| of == "b") {
            let next = watch.next().await.unwrap();
            told.extend(next.iter().map(|one| (one.topic.to_string(), one.end.0)));
        }
        assert!(
            told.iter().all(|(of, end)| of == "b" || *end == 1),
            "{told:?}"
        );
        let listed = bus.topics().await.unwrap();
        assert_eq!(listed[0].partitions[0].end, Offset(1));
        let waiting = Fetch {
            wait: MINUTE,
            ..fetch("a", 1)
        };
        let poller = bus.clone();
        let poll = tokio::spawn(async move { poller.fetch(waiting).await });
        mine.commit().await.unwrap();
        let fetched = poll.await.unwrap().unwrap();
        let ids: Vec<_> = fetched
            .events
            .iter()
            .map(|(_, e)| e.id().to_string())
            .collect();
        assert_eq!(ids, ["1", "2"]);
        let mut last = 0;
        while last < 4 {
            last = watch.next().await.unwrap()[0].end.0;
        }
        broker.close().await;
    }
}

/// Nobody waits for the time: the poll ends when the transaction does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_time_is_over_is_aborted_also_after_a_restart() {
    let folder = Folder::new();
    let broker = folder.open().await;
    create(&broker).await;
    let mut slow = broker.transactional(name("slow"), MINUTE).await.unwrap();
    slow.publish(&topic("b"), &events(0, 1)).await.unwrap();
    let short = Duration::from_millis(1);
    let mut quick = broker.transactional(name("quick"), short).await.unwrap();
    quick.publish(&topic("a"), &events(1, 1)).await.unwrap();
    broker
        .bus()
        .publish(topic("a"), events(2, 1))
        .await
        .unwrap();
    let waiting = |of| Fetch {
        wait: MINUTE,
        ..fetch(of, 0)
    };
    let mut fetched = broker.bus().fetch(waiting("a")).await.unwrap();
    while fetched.events.is_empty() {
        let on = Fetch {
            offset: fetched.next,
            ..waiting("a")
        };
        fetched = broker.bus().fetch(on).await.unwrap();
    }
    assert_eq!(shown(&broker, "a").await, ["2"]);
    let late = quick.commit().await.unwrap_err();
    assert!(matches!(late, ProducerError::Fenced { .. }), "{late}");
    assert_eq!(ends(&broker, "b").0, 0, "the other one goes on");
    // One that is left open by a restart is ended by its time, too.
    let init = InitTransactional {
        id: name("left"),
        timeout: Duration::from_millis(1_500),
        expected: None,
    };
    let left = broker.init_transactional(init).await.unwrap();
    broker
        .produce(produce(left, 0, true, Begins::Yes))
        .await
        .unwrap();
    broker.close().await;
    drop((slow, quick, broker));
    let broker = folder.open().await;
    let open = broker.transaction(&name("left")).unwrap();
    assert_eq!(open.status, TransactionStatus::Ongoing);
    let open = broker.transaction(&name("slow")).unwrap();
    assert_eq!(open.partitions[0].start, Some(Offset(0)));
    assert!(open.age.is_some() && open.started.is_some());
    let mut watch = broker.bus().watch().unwrap();
    while ends(&broker, "a").0 < ends(&broker, "a").1 {
        watch.next().await.unwrap();
    }
    let ended = broker.transaction(&name("left")).unwrap();
    assert_eq!(ended.status, TransactionStatus::Aborted);
    assert_eq!(shown(&broker, "a").await, ["2"]);
    // A hung one is seen, and ended by hand.
    broker.abort_transaction(&name("slow")).await.unwrap();
    assert_eq!(ends(&broker, "b"), (2, 2));
    assert!(shown(&broker, "b").await.is_empty());
    broker.close().await;
}

#[tokio::test]
async fn what_is_out_of_turn_is_refused_and_says_why() {
    let broker = Broker::in_memory();
    create(&broker).await;
    let who = init(&broker, "mine").await;
    let end = |commit, renew| TransactionEnd { commit, renew };
    let refused = broker
        .end_transaction(&name("mine"), who, end(true, false))
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ProducerError::Transaction { .. }),
        "{refused}"
    );
    let refused = broker
        .end_transaction(&name("other"), who, end(true, true))
        .await;
    assert_eq!(
        refused,
        Err(ProducerError::UnknownTransaction(name("other")))
    );
    let refused = broker.abort_transaction(&name("mine")).await.unwrap_err();
    assert!(
        matches!(refused, ProducerError::Transaction { .. }),
        "{refused}"
    );
    // A plain producer in a transaction, a transactional one out of it.
    let plain = broker.init_producer().unwrap();
    let refused = broker.produce(produce(plain, 0, true, Begins::Yes)).await;
    assert_eq!(refused, Err(ProducerError::NotTransactional(plain.id)));
    let refused = broker.produce(produce(who, 0, false, Begins::Yes)).await;
    assert!(
        matches!(refused, Err(ProducerError::InvalidBatch(_))),
        "{refused:?}"
    );
    // What comes late begins nothing where the caller says so.
    let refused = broker.produce(produce(who, 0, true, Begins::No)).await;
    assert!(
        matches!(refused, Err(ProducerError::Transaction { .. })),
        "{refused:?}"
    );
    assert_eq!(ends(&broker, "a"), (0, 0), "nothing was written");
    for timeout in [Duration::ZERO, MINUTE * 60] {
        let init = InitTransactional {
            id: name("mine"),
            timeout,
            expected: None,
        };
        let refused = broker.init_transactional(init).await.unwrap_err();
        assert!(
            matches!(refused, ProducerError::Timeout { .. }),
            "{refused}"
        );
    }
    broker.close().await;
}

#[tokio::test]
async fn what_is_sent_or_asked_for_again_is_answered_again() {
    let broker = Broker::in_memory();
    create(&broker).await;
    let who = init(&broker, "mine").await;
    let end = |commit, renew| TransactionEnd { commit, renew };
    let to = [(topic("a"), Partition(0))];
    broker
        .add_to_transaction(&name("mine"), who, &to)
        .await
        .unwrap();
    broker
        .produce(produce(who, 0, true, Begins::No))
        .await
        .unwrap();
    // Sent again it is known, in the transaction and after it.
    assert_eq!(
        broker.produce(produce(who, 0, true, Begins::No)).await,
        Ok(Offset(0))
    );
    for _ in 0..2 {
        let ended = broker
            .end_transaction(&name("mine"), who, end(true, false))
            .await;
        assert_eq!(ended, Ok(who), "asked for again, answered again");
    }
    assert_eq!(
        broker.produce(produce(who, 0, true, Begins::No)).await,
        Ok(Offset(0))
    );
    let refused = broker
        .end_transaction(&name("mine"), who, end(false, false))
        .await;
    assert!(
        matches!(refused, Err(ProducerError::Transaction { .. })),
        "{refused:?}"
    );
    // A renewed epoch begins with sequence 0.
    broker
        .produce(produce(who, 1, true, Begins::Yes))
        .await
        .unwrap();
    let next = broker
        .end_transaction(&name("mine"), who, end(false, true))
        .await
        .unwrap();
    assert!(next.epoch > who.epoch);
    let again = broker
        .end_transaction(&name("mine"), who, end(false, true))
        .await;
    assert_eq!(again, Ok(next));
    let fenced = broker
        .end_transaction(&name("mine"), who, end(true, true))
        .await;
    assert!(
        matches!(fenced, Err(ProducerError::Fenced { .. })),
        "{fenced:?}"
    );
    broker
        .produce(produce(next, 0, true, Begins::Yes))
        .await
        .unwrap();
    broker.close().await;
}

#[tokio::test]
async fn a_producer_that_asks_for_an_epoch_again_gets_the_same_and_a_stranger_none() {
    let broker = Broker::in_memory();
    let first = init(&broker, "mine").await;
    let asks = |expected| {
        broker.init_transactional(InitTransactional {
            id: name("mine"),
            timeout: MINUTE,
            expected: Some(expected),
        })
    };
    let second = asks(first).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(asks(first).await, Ok(second), "its answer was lost");
    let third = init(&broker, "mine").await;
    for old in [first, second] {
        let refused = asks(old).await;
        assert!(
            matches!(refused, Err(ProducerError::Fenced { .. })),
            "{refused:?}"
        );
    }
    assert!(asks(third).await.unwrap().epoch > third.epoch);
    broker.close().await;
}

#[tokio::test]
async fn a_transaction_holds_so_much_and_no_more_and_still_ends() {
    let broker = Broker::in_memory();
    let how = CreateTopic {
        partitions: 1024,
        ..CreateTopic::default()
    };
    for of in ["a", "b"] {
        broker.create_topic(topic(of), how).await.unwrap();
    }
    let who = init(&broker, "mine").await;
    let mine = name("mine");
    let all = |of| (0..1024).map(move |n| (topic(of), Partition(n)));
    let partitions: Vec<_> = all("a").collect();
    broker
        .add_to_transaction(&mine, who, &partitions)
        .await
        .unwrap();
    broker
        .produce(produce(who, 0, true, Begins::No))
        .await
        .unwrap();
    let positions = all("b").map(|(of, partition)| (of, partition, Offset(1)));
    let positions: Vec<_> = positions.collect();
    let of = group("g");
    let given = broker.commit_offsets_in_transaction(&mine, who, Begins::No, &of, &positions);
    given.await.unwrap();
    let more = [(topic("b"), Partition(0))];
    let refused = broker
        .add_to_transaction(&mine, who, &more)
        .await
        .unwrap_err();
    let max = TRANSACTION_PARTS_MAX;
    assert!(
        matches!(refused, ProducerError::TooMany { max: m, .. } if m == max),
        "{refused}"
    );
    // What it has already is no more.
    broker
        .add_to_transaction(&mine, who, &partitions)
        .await
        .unwrap();
    let end = TransactionEnd {
        commit: true,
        renew: true,
    };
    broker.end_transaction(&mine, who, end).await.unwrap();
    let group = broker.group(&group("g")).unwrap();
    assert_eq!(group.partitions.len(), 1024);
    assert!(group.partitions.iter().all(|of| of.position == Offset(1)));
    broker.close().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_takes_its_part_of_a_transaction_with_it() {
    for (broker, folder) in both(|builder| builder).await {
        create(&broker).await;
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        mine.publish(&topic("a"), &events(0, 2)).await.unwrap();
        mine.publish(&topic("b"), &events(2, 1)).await.unwrap();
        broker.delete_topic(&topic("a")).await.unwrap();
        let how = CreateTopic::default();
        broker.create_topic(topic("a"), how).await.unwrap();
        broker
            .bus()
            .publish(topic("a"), vec![event(7, None)])
            .await
            .unwrap();
        assert_eq!(shown(&broker, "a").await, ["7"], "nothing is open here");
        mine.commit().await.unwrap();
        assert_eq!(ends(&broker, "a"), (1, 1));
        assert_eq!(shown(&broker, "b").await, ["2"]);
        broker.close().await;
        let Some(folder) = folder else { continue };
        let broker = folder.open().await;
        assert_eq!(shown(&broker, "b").await, ["2"]);
        broker.close().await;
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_not_waited_for_is_done_once() {
    for (broker, _folder) in both(|builder| builder).await {
        create(&broker).await;
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        for round in 0..10 {
            mine.publish(&topic("a"), &events(round, 1)).await.unwrap();
            // Dropped when it is on its way.
            let _ = tokio::time::timeout(Duration::ZERO, mine.commit()).await;
        }
        mine.commit().await.unwrap();
        let all: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(shown(&broker, "a").await, all);
        assert!(mine.commit().await.is_ok(), "nothing is open");
        broker.close().await;
    }
}

#[tokio::test]
async fn a_commit_without_an_answer_is_not_taken_back_by_an_abort() {
    let (gate, disk) = Gate::new(16 << 20);
    let broker = Broker::builder().disk(disk).open().await.unwrap();
    create(&broker).await;
    let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
    mine.publish(&topic("a"), &events(0, 1)).await.unwrap();
    gate.close();
    let dropped = tokio::time::timeout(Duration::ZERO, mine.commit()).await;
    assert!(dropped.is_err(), "nothing is durable yet");
    assert!(shown(&broker, "a").await.is_empty());
    gate.open();
    let refused = mine.abort().await.unwrap_err();
    let committed = TransactionStatus::Committed;
    assert!(
        matches!(refused, ProducerError::Transaction { status, .. } if status == committed),
        "{refused}"
    );
    assert_eq!(shown(&broker, "a").await, ["0"]);
    mine.publish(&topic("a"), &events(1, 1)).await.unwrap();
    mine.abort().await.unwrap();
    assert_eq!(shown(&broker, "a").await, ["0"]);
    // A sync that fails leaves it undecided for readers.
    mine.publish(&topic("a"), &events(2, 1)).await.unwrap();
    gate.fail();
    let lost = mine.commit().await.unwrap_err();
    assert!(matches!(lost, ProducerError::Indeterminate(_)), "{lost}");
    assert_eq!(shown(&broker, "a").await, ["0"]);
    broker.close().await;
}

#[tokio::test]
async fn what_was_aborted_goes_with_its_records_and_who_is_open_outlives_its_first_ones() {
    for (broker, folder) in both(|builder| builder).await {
        create(&broker).await;
        let bus = broker.bus();
        let mut mine = broker.transactional(name("mine"), MINUTE).await.unwrap();
        let from = |broker: &Broker, offset| {
            let broker = broker.clone();
            let fetch = FetchBatches {
                topic: topic("a"),
                partition: Partition(0),
                offset: Offset(offset),
                max_bytes: 1 << 20,
                isolation: Isolation::ReadCommitted,
                wait: Duration::ZERO,
            };
            async move { broker.fetch_batches(fetch).await }
        };
        // 0 and 1 with their marker at 2, then 3 alone, then 4 in an open transaction.
        mine.publish(&topic("a"), &events(0, 2)).await.unwrap();
        mine.abort().await.unwrap();
        bus.publish(topic("a"), events(3, 1)).await.unwrap();
        mine.publish(&topic("a"), &events(4, 1)).await.unwrap();
        let of = topic("a");
        let trim = |before| broker.trim_topic(&of, Partition(0), Offset(before));
        trim(2).await.unwrap();
        assert_eq!(from(&broker, 2).await.unwrap().aborted.len(), 1);
        trim(3).await.unwrap();
        assert_eq!(from(&broker, 3).await.unwrap().aborted.len(), 0);
        assert!(from(&broker, 2).await.is_err(), "it is deleted");
        trim(5).await.unwrap();
        bus.publish(topic("a"), events(5, 1)).await.unwrap();
        let found = from(&broker, 5).await.unwrap();
        assert_eq!((found.earliest, found.stable_end), (Offset(5), Offset(5)));
        assert!(found.batches.is_empty(), "it is still open");
        mine.abort().await.unwrap();
        let found = from(&broker, 5).await.unwrap();
        assert_eq!((found.batches.len(), found.aborted.len()), (2, 1));
        let shown = bus.fetch(fetch("a", 5)).await.unwrap();
        assert_eq!(shown.events.len(), 1);
        broker.close().await;
        let Some(folder) = folder else { continue };
        let broker = folder.open().await;
        let found = from(&broker, 5).await.unwrap();
        assert_eq!((found.batches.len(), found.aborted.len()), (2, 1));
        assert_eq!(found.earliest, Offset(5));
        broker.close().await;
    }
}

//! Sizes of what settlements write: dead letters of events that would be too large today, all that
//! a handler stages together, and the memory of what waits for another try.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::{Folder, ack_with, dead_letter, event, group, join, take, topic};
use tidemill_broker::{Broker, Builder};
use tidemill_core::budget::Class;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{
    Commit, Effects, Event, Offset, Order, Outcome, Partition, PublishError, SettleError,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn sized(id: impl std::fmt::Display, bytes: usize) -> Event {
    let builder = event(id, Some("a")).to_builder();
    builder.untyped_data(vec![b'x'; bytes]).build().unwrap()
}

async fn first(broker: &Broker, of: &str) -> Event {
    let fetch = tidemill_core::Fetch {
        topic: topic(of),
        partition: Partition(0),
        offset: Offset(0),
        max_events: 1,
        max_bytes: 16 * MIB,
        wait: Duration::ZERO,
    };
    let fetched = broker.bus().fetch(fetch).await.unwrap();
    Event::clone(&fetched.events[0].1)
}

#[tokio::test]
async fn an_event_that_is_too_large_under_todays_limits_becomes_a_dead_letter() {
    let smaller: [fn(Builder) -> Builder; 2] = [
        |builder| builder.event_max_bytes(16 * KIB),
        |builder| builder.memory(4 * MIB),
    ];
    for smaller in smaller {
        let folder = Folder::new();
        let broker = folder.builder().event_max_bytes(MIB).open().await.unwrap();
        let published = sized(1, MIB);
        let bus = broker.bus();
        bus.publish(topic("t"), vec![published.clone()])
            .await
            .unwrap();
        broker.close().await;
        drop((bus, broker));

        let broker = smaller(folder.builder()).open().await.unwrap();
        let mut member = join(&broker, "g", "t", Order::PerKey).await;
        let (_, settlement) = take(&mut *member, 1).await.remove(0);
        settlement.settle(dead_letter("no")).await.unwrap();
        let letters = dead_letter_topic(&group("g"));
        let letter = DeadLetter::from_event(&first(&broker, letters.as_str()).await).unwrap();
        assert_eq!(letter.event, published);
        assert_eq!(letter.failure.error, "no");
        // Publishing the same again is still too large.
        let again = broker.bus().publish(topic("t"), vec![published]).await;
        let again = again.unwrap_err();
        assert!(matches!(again, PublishError::TooLarge { .. }), "{again}");
        drop(member);
        broker.close().await;
    }
}

#[tokio::test]
async fn what_a_handler_stages_is_bounded_over_all_its_topics() {
    let broker = Broker::builder().memory(4 * MIB).open().await.unwrap();
    let max = 4 * MIB / 64 * 3;
    let bus = broker.bus();
    bus.publish(topic("t"), vec![event("in", None)])
        .await
        .unwrap();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    let (_, mut settlement) = take(&mut *member, 1).await.remove(0);
    // Each topic's part fits, all of them do not.
    let staged = |bytes| ["a", "b", "c"].map(|to| (topic(to), sized(to, bytes)));
    let refused = settlement
        .try_settle(ack_with(staged(max / 2).into()))
        .await
        .unwrap_err();
    match refused {
        SettleError::Effect(PublishError::TooLarge {
            size_bytes,
            max_bytes,
        }) => assert!(size_bytes > max / 2 * 3 && max_bytes == max),
        other => panic!("{other}"),
    }
    for name in ["a", "b", "c"] {
        let none = broker.topic(&topic(name));
        assert!(none.is_none(), "nothing of it was kept");
    }
    let fits = ack_with(staged(max / 4).into());
    assert_eq!(settlement.try_settle(fits).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_event_that_waits_for_its_time_holds_its_own_memory_alone() {
    let broker = Broker::builder().memory(64 * MIB).open().await.unwrap();
    let bus = broker.bus();
    let events = (0..100).map(|n| {
        let builder = event(n, None).to_builder();
        let builder = builder.untyped_data(vec![b'x'; 2 * KIB]);
        builder.build().unwrap()
    });
    bus.publish(topic("t"), events.collect()).await.unwrap();
    let mut member = join(&broker, "g", "t", Order::None).await;
    let held = take(&mut *member, 100).await;
    assert!(broker.memory().used(Class::Deliveries) > 200 * KIB);
    for (n, (delivery, settlement)) in held.into_iter().enumerate() {
        drop(delivery);
        let commit = match n {
            50 => Commit {
                outcome: Outcome::Retry {
                    after: Duration::from_secs(3600),
                },
                effects: Effects::default(),
            },
            _ => Commit::ack(),
        };
        settlement.settle(commit).await.unwrap();
    }
    let used = broker.memory().used(Class::Deliveries);
    assert!((2 * KIB..8 * KIB).contains(&used), "{used}");
    drop(member);
    broker.close().await;
    drop((bus, broker));
}

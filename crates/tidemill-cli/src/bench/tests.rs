//! A run on buses that are wrong on purpose: the report must say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidemill::broker::Broker;
use tidemill::core::bus::BoxFuture;
use tidemill::core::{Fetch, FetchError, Fetched, GroupMember, Guarantees, PublishError};
use tidemill::core::{Publisher, RequestError, SubscribeError, Subscriber, Subscription};
use tidemill::{Bus, Event, GroupName, Position, TopicName};

use super::{Door, Intake, Plan, Report, run};

/// What the bus does wrong with the tenth publish.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Loses,
    Doubles,
    Swaps,
}

struct Mutant {
    bus: Bus,
    wrong: Wrong,
    calls: AtomicU64,
}

impl Publisher for Mutant {
    fn publish(
        &self,
        topic: TopicName,
        mut events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 9 {
            match self.wrong {
                Wrong::Nothing => {}
                Wrong::Loses => events.truncate(1),
                Wrong::Doubles => events.extend(events.first().cloned()),
                Wrong::Swaps => events.reverse(),
            }
        }
        let bus = self.bus.clone();
        Box::pin(async move { bus.publish(topic, events).await })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.request(topic, event, timeout).await })
    }
}

impl Subscriber for Mutant {
    fn guarantees(&self) -> Guarantees {
        self.bus.guarantees()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.subscribe(subscription).await })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.fetch(fetch).await })
    }
}

async fn report(wrong: Wrong) -> Report {
    let broker = Broker::in_memory();
    let bus = Bus::new(Mutant {
        bus: broker.bus(),
        wrong,
        calls: AtomicU64::new(0),
    });
    let plan = Plan {
        place: "memory".to_owned(),
        time: Duration::from_millis(200),
        rate: None,
        size_bytes: 100,
        keys: 1,
        partitions: 1,
        publishers: 1,
        batch: 2,
        concurrency: 4,
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    let topic = TopicName::new("bench").unwrap();
    let group = GroupName::new("bench").unwrap();
    let intake = Intake::Dispatcher(bus.clone(), group);
    // Two events a call, so that two can change places.
    run(plan, topic, Door::Bus(bus), intake, |_| ())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_bus_is_caught_and_the_right_one_is_not() {
    let (right, loses, doubles, swaps) = tokio::join!(
        report(Wrong::Nothing),
        report(Wrong::Loses),
        report(Wrong::Doubles),
        report(Wrong::Swaps),
    );
    assert!(right.clean, "{}", right.text());
    assert!(!loses.clean && loses.counts.lost == 1, "{}", loses.text());
    assert!(
        !doubles.clean && doubles.counts.doubled == 1,
        "{}",
        doubles.text()
    );
    assert!(
        !swaps.clean && swaps.counts.out_of_order == 1,
        "{}",
        swaps.text()
    );
}

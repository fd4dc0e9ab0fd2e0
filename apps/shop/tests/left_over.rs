//! What a killed process leaves over: requests that are on the bus while its source does not know
//! so. The next process publishes them once more, and its services may be through with them before
//! that; whichever comes first, nobody waits for an order that has ended.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::future::{pending, ready};
use std::time::Duration;

use support::{memory_bus, small_file};
use tidemill::core::bus::Watch;
use tidemill::core::{
    BoxFuture, Fetch, FetchError, Fetched, GroupMember, Guarantees, Position, PublishError,
    Publisher, RequestError, SubscribeError, Subscriber, Subscription, TopicBounds,
};
use tidemill::{Bus, Event, Message, TopicName};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::events::{CreateOrder, OrderConfirmed};
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::{Source, Traffic, publish};
use tidemill_shop::stock::Opening;
use tidemill_shop::tail::read_all;

/// More than the source publishes at once.
const ORDERS: u64 = 200;

/// Shorter than the demo's own patience with orders that do not end.
const LONGEST: Duration = Duration::from_secs(20);

/// A bus that takes a request for an order only once all orders that it knows were confirmed.
struct Late(Bus);

impl Late {
    async fn all_confirmed(bus: &Bus) -> Result<(), FetchError> {
        let mut watch = bus.watch()?;
        let topic = TopicName::new(OrderConfirmed::TOPIC).unwrap();
        loop {
            let mut confirmed = 0;
            let count = |event: &Event| {
                confirmed += u64::from(event.ty().as_str() == OrderConfirmed::TYPE);
            };
            read_all(bus, &topic, count).await?;
            if confirmed == ORDERS {
                return Ok(());
            }
            watch.next().await?;
        }
    }
}

impl Publisher for Late {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let bus = self.0.clone();
        Box::pin(async move {
            if topic.as_str() == CreateOrder::TOPIC {
                Self::all_confirmed(&bus).await.unwrap();
            }
            bus.publish(topic, events).await
        })
    }

    fn request(
        &self,
        topic: TopicName,
        event: Event,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Event, RequestError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.request(topic, event, timeout).await })
    }
}

impl Subscriber for Late {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'static, Result<Box<dyn GroupMember>, SubscribeError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.subscribe(subscription).await })
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'static, Result<Fetched, FetchError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.fetch(fetch).await })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let bus = self.0.clone();
        Box::pin(async move { bus.topics().await })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        self.0.watch()
    }
}

fn options(place: Place, load: Load) -> DemoOptions {
    let opening = Opening {
        seed: 1,
        least: 20_000,
        most: 30_000,
    };
    DemoOptions {
        place,
        shop: ShopOptions {
            opening,
            ..ShopOptions::default()
        },
        load,
        run_for: None,
        http: None,
        format: Format::Text,
    }
}

/// Runs the demo; fails if it waits in vain.
async fn run(bus: Bus, options: DemoOptions, until: impl Future<Output = ()> + Send) -> DemoReport {
    let mut output = Vec::new();
    let run = demo::run(bus, options, &mut output, until);
    let ended = tokio::time::timeout(LONGEST, run).await;
    let report = ended.expect("no order is waited for in vain").unwrap();
    assert!(report.is_success(), "{report:?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_end_before_they_are_published_again_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().to_owned());
    let bus = memory_bus().await;
    // As a killed process leaves it: all is on the bus, the source knows of none of it.
    let source = Source::open(&place).unwrap();
    let waiting = source.generate(Traffic::default(), ORDERS).await.unwrap();
    publish(&bus, &waiting).await.unwrap();
    source.close().await;
    let late = Bus::new(Late(bus));
    let report = run(late, options(place, Load::None), ready(())).await;
    assert_eq!((report.log.accepted, report.ended), (ORDERS, ORDERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_source_that_was_set_back_are_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let load = Load::Replay {
        file: small_file(),
        rejects: folder.path().join("rejects.csv"),
    };
    let options = options(Place::Folder(folder.path().to_owned()), load);
    let bus = memory_bus().await;
    let first = run(bus.clone(), options.clone(), pending()).await;
    // Gone, as where an older copy of it was put in its place.
    std::fs::remove_file(folder.path().join("source.sqlite")).unwrap();
    let second = run(bus, options, pending()).await;
    assert_eq!(second.log.accepted, first.log.accepted);
    assert_eq!(second.balance, first.balance);
    assert_eq!(second.ended, 0);
}

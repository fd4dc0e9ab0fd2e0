//! What a killed process leaves over: requests that are on the bus while its source does not know
//! so. The next process publishes them once more, and its services may be through with them before
//! that; whichever comes first, nobody waits for an order that has ended.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::future::{pending, ready};
use std::time::Duration;

use support::{memory_bus, small_file};
use tidemill::core::bus::Watch;
use tidemill::core::error::Unavailable;
use tidemill::core::{
    BoxFuture, Fetch, FetchError, Fetched, GroupMember, Guarantees, Position, PublishError,
    Publisher, RequestError, SubscribeError, Subscriber, Subscription, TopicBounds,
};
use tidemill::{Bus, Event, Message, TopicName};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoError, DemoOptions, DemoReport, Format, Load};
use tidemill_shop::events::{CreateOrder, OrderConfirmed};
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::{Source, Traffic, publish};
use tidemill_shop::stock::Opening;
use tidemill_shop::tail::read_all;

/// More than the source publishes at once.
const ORDERS: u64 = 200;

/// Shorter than the demo's own patience with orders that do not end.
const LONGEST: Duration = Duration::from_secs(20);

/// A bus that takes a request for an order late, or never.
struct Odd {
    bus: Bus,
    whim: Whim,
}

#[derive(Clone, Copy, PartialEq)]
enum Whim {
    /// Only once all orders that it knows were confirmed.
    Late,
    /// Never, as where the disk is full.
    Full,
}

impl Odd {
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

impl Publisher for Odd {
    fn publish(
        &self,
        topic: TopicName,
        events: Vec<Event>,
    ) -> BoxFuture<'static, Result<Vec<Position>, PublishError>> {
        let (bus, whim) = (self.bus.clone(), self.whim);
        Box::pin(async move {
            match whim {
                _ if topic.as_str() != CreateOrder::TOPIC => {}
                Whim::Late => Self::all_confirmed(&bus).await.unwrap(),
                Whim::Full => return Err(Unavailable::Full("no room".into()).into()),
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
        let bus = self.bus.clone();
        Box::pin(async move { bus.request(topic, event, timeout).await })
    }
}

impl Subscriber for Odd {
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

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicBounds>, FetchError>> {
        let bus = self.bus.clone();
        Box::pin(async move { bus.topics().await })
    }

    fn watch(&self) -> Result<Box<dyn Watch>, FetchError> {
        self.bus.watch()
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
    let late = Bus::new(Odd {
        bus,
        whim: Whim::Late,
    });
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

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_full_when_the_time_is_over_ends_the_demo_and_is_named() {
    let load = Load::Traffic {
        traffic: Traffic::default(),
        rate: 50,
    };
    let options = DemoOptions {
        run_for: Some(Duration::from_millis(1_500)),
        ..options(Place::Memory, load)
    };
    let full = Bus::new(Odd {
        bus: memory_bus().await,
        whim: Whim::Full,
    });
    let mut output = Vec::new();
    let run = demo::run(full, options, &mut output, pending());
    let ended = tokio::time::timeout(LONGEST, run).await;
    let error = ended.expect("nobody waits for room").unwrap_err();
    assert!(matches!(error, DemoError::Publish(_)), "{error:?}");
    assert!(error.to_string().contains("free space"), "{error}");
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("note: the bus takes no orders"), "{output}");
    assert!(output.contains("free space"), "{output}");
}

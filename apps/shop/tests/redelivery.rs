//! A service on a bus whose member loses what it holds: the same input comes again and leads to
//! the same events, under the same ids, once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::memory_bus;
use tidemill::core::{Delivery, Settlement, Subscription};
use tidemill::{App, Bus, BusExt as _, Event, GroupName, Order, Start, TopicName};
use tidemill_shop::database::Place;
use tidemill_shop::events::{Checkout, CreateOrder, PayOrder, PriceChanged, Wanted};
use tidemill_shop::money::Pence;
use tidemill_shop::shop::{Shop, ShopOptions};
use tidemill_shop::tail::read_all;

async fn next(member: &mut dyn tidemill::core::GroupMember) -> (Delivery, Settlement) {
    member.pull(1).await.unwrap().pop().unwrap()
}

async fn seen(bus: &Bus, topic: &str) -> Vec<Event> {
    let mut all = Vec::new();
    let topic = TopicName::new(topic.to_owned()).unwrap();
    let keep = |event: &Event| all.push(event.clone());
    read_all(bus, &topic, keep).await.unwrap();
    all
}

fn create() -> CreateOrder {
    CreateOrder {
        order_id: None,
        user_id: Some(7),
        buyer: "user-7".into(),
        products: vec![Wanted {
            product_id: 1,
            quantity: 2,
            price_version: None,
        }],
        checkout: Checkout::Stepwise,
    }
}

#[tokio::test]
async fn a_lost_settlement_gives_the_same_events_under_the_same_ids_once() {
    let bus = memory_bus().await;
    let shop = Shop::open(&Place::Memory, ShopOptions::default()).unwrap();
    let app: App = shop.orders.router().finish().unwrap();
    let subscription = Subscription {
        topics: app.topics().to_vec(),
        group: GroupName::new("orders").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let price = PriceChanged {
        product_id: 1,
        version: 1,
        sku: "MUG".into(),
        name: "A MUG".into(),
        price_pence: Pence(255),
        opening: None,
        supply: None,
    };
    bus.send(&price).await.unwrap();
    let mut member = bus.subscribe(subscription.clone()).await.unwrap();
    let (delivery, settlement) = next(&mut *member).await;
    settlement
        .settle(app.call(delivery).await.commit)
        .await
        .unwrap();
    bus.send(&create()).await.unwrap();

    let mut given = Vec::new();
    for _ in 0..3 {
        // Handled and committed in the database, but never settled: the member is lost.
        let (delivery, settlement) = next(&mut *member).await;
        let commit = app.call(delivery).await.commit;
        let ids: Vec<_> = commit
            .effects
            .events
            .iter()
            .map(|(_, event)| {
                (
                    event.source().clone(),
                    event.id().clone(),
                    event.data().cloned(),
                )
            })
            .collect();
        assert_eq!(ids.len(), 1);
        given.push(ids);
        drop(settlement);
        drop(member);
        member = bus.subscribe(subscription.clone()).await.unwrap();
    }
    assert!(given.iter().all(|ids| *ids == given[0]), "{given:?}");
    assert_eq!(seen(&bus, "orders").await, []);

    let (delivery, settlement) = next(&mut *member).await;
    settlement
        .settle(app.call(delivery).await.commit)
        .await
        .unwrap();
    let events = seen(&bus, "orders").await;
    assert_eq!(events.len(), 1);
    assert_eq!(*events[0].id(), given[0][0].1);
    assert_eq!(shop.orders.account().await.unwrap().orders.len(), 1);
    assert_eq!(shop.orders.service().counted().again, 3);
}

#[tokio::test]
async fn an_event_published_twice_is_handled_once() {
    let bus = memory_bus().await;
    let shop = Shop::open(&Place::Memory, ShopOptions::default()).unwrap();
    let serving = shop.serve(&bus);
    let pay = PayOrder { order_id: 5 };
    let wait = std::time::Duration::from_secs(20);
    let unknown: tidemill_shop::events::OrderAnswer = bus.ask(&pay, wait).await.unwrap();
    assert_eq!(unknown.verdict, tidemill_shop::events::Verdict::Unknown);

    // The same request event again, as a publisher does that got no acknowledgement.
    let request = seen(&bus, "order_requests").await.pop().unwrap();
    let topic = TopicName::new("order_requests").unwrap();
    let again = request
        .to_builder()
        .without_extension("replyto")
        .build()
        .unwrap();
    let reply = bus.request(topic, again, wait).await.unwrap();
    let answer: tidemill_shop::events::OrderAnswer =
        serde_json::from_slice(reply.data().unwrap()).unwrap();
    assert_eq!(answer, unknown);
    assert_eq!(shop.orders.service().counted().again, 1);
    serving.stop().await.unwrap();
}

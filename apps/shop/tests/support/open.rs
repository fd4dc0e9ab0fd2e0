//! A whole shop with its HTTP door on a bus in memory, for tests that are buyers.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill::{Bus, BusExt as _};
use tidemill_shop::balance::Balance;
use tidemill_shop::database::Place;
use tidemill_shop::events::{CartHeard, OrdersHeard, PriceChanged, StockHeard};
use tidemill_shop::http;
use tidemill_shop::money::Pence;
use tidemill_shop::shop::{Serving, Shop, ShopOptions};
use tidemill_shop::stock::Opening;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::http::Client;

/// Longest wait for what follows from a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shop with ten pieces of each product at work.
pub(crate) struct Open {
    pub(crate) bus: Bus,
    pub(crate) shop: Shop,
    serving: Serving,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    door: JoinHandle<()>,
}

impl Open {
    pub(crate) async fn new() -> Self {
        Self::without("").await
    }

    /// One that plain clients of Kafka speak with.
    pub(crate) async fn with_topics() -> Self {
        Self::with("", true).await
    }

    /// One whose service of this name does not run.
    pub(crate) async fn without(absent: &str) -> Self {
        Self::with(absent, false).await
    }

    async fn with(absent: &str, topics: bool) -> Self {
        let bus = super::memory_bus().await;
        let mut options = ShopOptions {
            opening: Opening {
                seed: 1,
                least: 10,
                most: 10,
            },
            topics,
            ..ShopOptions::default()
        };
        options.cards.decline_one_in = 0;
        let shop = Shop::open(&Place::Memory, options).unwrap();
        let there = |(name, _): &(&str, _)| *name != absent;
        let serving = Serving::of(&bus, shop.routers().into_iter().filter(there));
        for (product_id, sku, pence) in [(1, "MUG", 255), (2, "LANTERN", 1000), (3, "POST", 99)] {
            let price = PriceChanged {
                product_id,
                version: 1,
                sku: sku.into(),
                name: format!("A {sku}"),
                price_pence: Pence(pence),
                opening: None,
                supply: None,
            };
            bus.send(&price).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = http::serve(bus.clone(), listener, async { stopped.await.unwrap() });
        let door = tokio::spawn(async { served.await.unwrap() });
        let open = Self {
            bus,
            shop,
            serving,
            address,
            stop,
            door,
        };
        open.run(until_products_are_there).await;
        open.until_products_are_known(absent).await;
        open
    }

    /// Waits until every service that keeps prices of its own has heard of all products: nobody is
    /// refused one for asking too soon.
    async fn until_products_are_known(&self, absent: &str) {
        for product_id in 1..=3 {
            if absent != "cart" {
                let asked = CartHeard { product_id };
                let _: Value = self.bus.ask(&asked, PATIENCE).await.unwrap();
            }
            if absent != "orders" {
                let asked = OrdersHeard { product_id };
                let _: Value = self.bus.ask(&asked, PATIENCE).await.unwrap();
            }
            if absent != "stock" {
                let asked = StockHeard { product_id };
                let _: Value = self.bus.ask(&asked, PATIENCE).await.unwrap();
            }
        }
    }

    /// Runs a buyer off the async workers.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        buyer: impl FnOnce(&mut Client) -> T + Send + 'static,
    ) -> T {
        let mut client = Client::new(self.address);
        tokio::task::spawn_blocking(move || buyer(&mut client))
            .await
            .unwrap()
    }

    pub(crate) async fn close(self) -> Balance {
        self.stop.send(()).unwrap();
        self.door.await.unwrap();
        // What follows from the last requests is still on its way.
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !Balance::of(&self.shop).await.unwrap().is_even() {}
        self.serving.stop().await.unwrap();
        drop(self.bus);
        Balance::of(&self.shop).await.unwrap()
    }
}

/// The prices are events too; they are there when both services that use them show them.
fn until_products_are_there(client: &mut Client) {
    loop {
        let (_, products) = client.get("/products").unwrap();
        let stocked = (1..=3).all(|id| client.get(&format!("/stock/{id}")).unwrap().0 == 200);
        if products["products"].as_array().unwrap().len() == 3 && stocked {
            return;
        }
    }
}

pub(crate) fn order(user: i64, product: i64, quantity: i64) -> Value {
    json!({"user_id": user, "products": [{"product_id": product, "quantity": quantity}]})
}

pub(crate) fn named(order: &Value) -> Value {
    json!({"order_id": order["order_id"]})
}

/// Checks code and status, and that the answer is about that order and has a message.
pub(crate) fn expect(answer: &(u16, Value), code: u16, status: &str) {
    assert_eq!(answer.0, code, "{answer:?}");
    assert_eq!(answer.1["status"], status, "{answer:?}");
    assert!(answer.1["message"].is_string(), "{answer:?}");
    assert!(answer.1["order_id"].is_i64(), "{answer:?}");
}

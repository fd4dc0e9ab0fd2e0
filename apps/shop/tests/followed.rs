//! Answers of the shop's HTTP door that several services have a part in: who asks the others next
//! finds it done, or the answer said that it was not yet; and what is sent again is done once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::thread;

use serde_json::{Value, json};
use support::http::Client;
use support::open::{Open, expect, named, order};
use tidemill::BusExt as _;
use tidemill_shop::events::{Checkout, CreateOrder, OrderAnswer, PayOrder, PriceChanged, Wanted};
use tidemill_shop::money::Pence;

const WAIT: std::time::Duration = std::time::Duration::from_secs(20);

fn available(client: &mut Client, product: i64) -> Value {
    client.get(&format!("/stock/{product}")).unwrap().1["available"].clone()
}

fn shipment(client: &mut Client, id: &Value) -> Value {
    let path = format!("/shipments?order_id={}", id["order_id"]);
    client.get(&path).unwrap().1["shipments"].clone()
}

fn in_cart(client: &mut Client, user: i64) -> usize {
    let (_, cart) = client.get(&format!("/cart/query?user_id={user}")).unwrap();
    cart["products"].as_array().unwrap().len()
}

fn a_buyer_who_asks_at_once(client: &mut Client, user: i64) {
    let picked = json!({"user_id": user, "product_id": 1});
    assert_eq!(client.post("/cart/add", &picked).unwrap().0, 200);
    let created = client.post("/order/create", &order(user, 1, 1)).unwrap();
    expect(&created, 201, "pending_payment");
    let id = named(&created.1);
    assert_eq!(shipment(client, &id)[0]["status"], "planned");
    assert_eq!(available(client, 1), 9);
    assert_eq!(client.post("/order/pay", &id).unwrap().0, 200);
    assert_eq!(in_cart(client, user), 0);
    if user % 2 == 0 {
        assert_eq!(client.post("/order/cancel", &id).unwrap().0, 200);
        assert_eq!(shipment(client, &id)[0]["status"], "cancelled");
        assert_eq!(available(client, 1), 10);
        return;
    }
    assert_eq!(client.post("/order/confirm", &id).unwrap().0, 200);
    let created = shipment(client, &id);
    assert_eq!(created[0]["status"], "created");
    let path = format!("/shipments/{}/status", created[0]["shipment_id"]);
    for status in ["shipped", "delivered"] {
        let (code, answer) = client.post(&path, &json!({"status": status})).unwrap();
        assert_eq!(code, 200, "{answer}");
    }
    assert_eq!(client.post("/order/return", &id).unwrap().0, 200);
    assert_eq!(available(client, 1), 10);
    assert_eq!(shipment(client, &id)[0]["status"], "returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_another_service_next_finds_it_done() {
    let open = Open::new().await;
    open.run(|client| {
        for user in 1..=20 {
            a_buyer_who_asks_at_once(client, user);
        }
        let ada = json!({"name": "ada", "password": "x"});
        let (_, registered) = client.post("/users/register", &ada).unwrap();
        let path = format!("/orders?user_id={}", registered["user_id"]);
        for _ in 0..5 {
            let (code, session) = client.post("/users/login", &ada).unwrap();
            assert_eq!(code, 200);
            assert_eq!(client.get(&path).unwrap().1["logged_in"], true);
            let token = json!({"token": session["token"]});
            assert_eq!(client.post("/users/logout", &token).unwrap().0, 200);
            assert_eq!(client.get(&path).unwrap().1["logged_in"], false);
        }
        assert_eq!(client.call("DELETE", "/products/1", "").unwrap().0, 200);
        assert_eq!(client.get("/stock/1").unwrap().0, 404);
        let (_, all) = client.get("/stock").unwrap();
        let all = all["stock"].as_array().unwrap();
        assert!(all.iter().all(|shelf| shelf["product_id"] != 1), "{all:?}");
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_service_has_not_followed_is_accepted_and_no_more() {
    let open = Open::without("logistics").await;
    let mut orders = Vec::new();
    for user in [1, 2] {
        let wanted = CreateOrder {
            order_id: None,
            user_id: Some(user),
            buyer: format!("user-{user}"),
            products: vec![Wanted {
                product_id: 1,
                quantity: 1,
                price_version: None,
            }],
            checkout: Checkout::Stepwise,
        };
        let created: OrderAnswer = open.bus.ask(&wanted, WAIT).await.unwrap();
        let order_id = created.order_id.unwrap();
        let paid: Result<OrderAnswer, _> = open.bus.ask(&PayOrder { order_id }, WAIT).await;
        assert!(paid.is_ok());
        orders.push(order_id);
    }
    let address = open.address;
    let (confirmed, cancelled) = (orders[0], orders[1]);
    open.run(move |client| {
        for order in &orders {
            let path = format!("/orders/{order}");
            while client.get(&path).unwrap().1["status"] != "pending_confirmation" {}
        }
        let other = thread::spawn(move || {
            let id = json!({"order_id": cancelled});
            Client::new(address).post("/order/cancel", &id).unwrap()
        });
        let id = json!({"order_id": confirmed});
        let answer = client.post("/order/confirm", &id).unwrap();
        expect(&answer, 202, "confirmed");
        expect(&other.join().unwrap(), 202, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_go_on_by_themselves_leave_carts_alone() {
    let open = Open::new().await;
    let picked = json!({"user_id": 7, "product_id": 1});
    let body = picked.clone();
    let (code, _) = open
        .run(move |client| client.post("/cart/add", &body).unwrap())
        .await;
    assert_eq!(code, 200);
    let generated = CreateOrder {
        order_id: Some(2_000_000_000),
        user_id: Some(7),
        buyer: "user-7".into(),
        products: vec![Wanted {
            product_id: 1,
            quantity: 1,
            price_version: None,
        }],
        checkout: Checkout::Immediate,
    };
    let _: OrderAnswer = open.bus.ask(&generated, WAIT).await.unwrap();
    open.run(|client| {
        while client.get("/orders/2000000000").unwrap().1["status"] != "delivered" {}
        let question = "/cart/query?user_id=7";
        assert_eq!(client.get(question).unwrap().1["products"][0]["id"], 1);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_is_started_again_answers_a_key_as_the_one_before_it_did() {
    let open = Open::new().await;
    let create = |client: &mut Client| {
        let created = client.post_as("o", "/order/create", &order(7, 1, 2));
        created.unwrap()
    };
    let first = open.run(create).await;
    expect(&first, 201, "pending_payment");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let bus = open.bus.clone();
    let door = tokio::spawn(async {
        let ends = async { stopped.await.unwrap() };
        tidemill_shop::http::serve(bus, listener, ends)
            .await
            .unwrap();
    });
    let asking = move || create(&mut Client::new(address));
    let again = tokio::task::spawn_blocking(asking).await.unwrap();
    assert_eq!(again, first);
    stop.send(()).unwrap();
    door.await.unwrap();
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_under_its_key_is_done_once() {
    let open = Open::new().await;
    open.run(|client| {
        let picked = json!({"user_id": 7, "product_id": 1});
        for (key, pieces) in [("a", 1), ("a", 1), ("b", 2), ("a", 1)] {
            let (code, cart) = client.post_as(key, "/cart/add", &picked).unwrap();
            assert_eq!(
                (code, &cart["products"][0]["quantity"]),
                (200, &json!(pieces))
            );
        }
        let first = client
            .post_as("o", "/order/create", &order(7, 1, 2))
            .unwrap();
        expect(&first, 201, "pending_payment");
        let again = client
            .post_as("o", "/order/create", &order(7, 1, 2))
            .unwrap();
        assert_eq!(again, first);
        assert_eq!(available(client, 1), 8);
        let id = named(&first.1);
        for _ in 0..2 {
            let paid = client.post_as("o", "/order/pay", &id).unwrap();
            expect(&paid, 200, "pending_confirmation");
        }
        // Without a key it is another request.
        expect(
            &client.post("/order/pay", &id).unwrap(),
            409,
            "pending_confirmation",
        );
        let kettle = json!({"name": "Kettle", "price": 5});
        let first = client.post_as("p", "/products", &kettle).unwrap();
        assert_eq!(first.0, 201);
        assert_eq!(client.post_as("p", "/products", &kettle).unwrap(), first);
        let (_, orders) = client.get("/orders?user_id=7").unwrap();
        assert_eq!(orders["orders"].as_array().unwrap().len(), 1);
        for wrong in ["", &"x".repeat(129)] {
            assert_eq!(client.post_as(wrong, "/cart/add", &picked).unwrap().0, 422);
        }
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplier_brings_more_of_what_runs_short() {
    let open = Open::new().await;
    let price = PriceChanged {
        product_id: 4,
        version: 1,
        sku: "TWINE".into(),
        name: "Twine".into(),
        price_pence: Pence(100),
        opening: Some(10),
        supply: Some(10),
    };
    open.bus.send(&price).await.unwrap();
    open.run(|client| {
        while client.get("/stock/4").unwrap().0 != 200 {}
        for n in 1..=20 {
            let mut created = client.post("/order/create", &order(n, 4, 4)).unwrap();
            while created.0 == 404 {
                created = client.post("/order/create", &order(n, 4, 4)).unwrap();
            }
            expect(&created, 201, "pending_payment");
            // What was ordered is on its way.
            while available(client, 4).as_i64().unwrap() < 5 {}
        }
        let (_, shelf) = client.get("/stock/4").unwrap();
        assert_eq!(shelf["held"], 80, "{shelf}");
        assert!(shelf["available"].as_i64().unwrap() < 15, "{shelf}");
        // Nobody brings more of the others.
        let (code, _) = client.post("/order/create", &order(1, 1, 9)).unwrap();
        assert_eq!(code, 201);
        assert_eq!(
            client.post("/order/create", &order(1, 1, 9)).unwrap().0,
            409
        );
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.out_of_stock, 1);
}

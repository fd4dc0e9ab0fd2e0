//! The whole shop through its HTTP door: products, carts, orders from their creation until they
//! come back, shipments, stock, users.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use support::http::Client;
use support::open::{Open, expect, named, order};
use tidemill::{Bus, Event};
use tidemill_shop::balance::Balance;
use tidemill_shop::tail::read_all;

fn call(client: &mut Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = client.call(method, path, &body.to_string()).unwrap();
    assert!(answer.1["message"].is_string(), "{path} {answer:?}");
    answer
}

/// A call that must be answered with this code.
fn must(client: &mut Client, what: (&str, &str), body: Value, code: u16) -> Value {
    let answer = call(client, what.0, what.1, &body);
    assert_eq!(answer.0, code, "{what:?} {body} {answer:?}");
    answer.1
}

fn cart(client: &mut Client, user: i64) -> Value {
    let path = format!("/cart/query?user_id={user}");
    must(client, ("GET", &path), json!({}), 200)["products"].clone()
}

fn stock(client: &mut Client, product: i64) -> Value {
    must(
        client,
        ("GET", &format!("/stock/{product}")),
        json!({}),
        200,
    )
}

/// Creates, pays and confirms an order; its id.
fn buy(client: &mut Client, user: i64, product: i64, quantity: i64) -> Value {
    let created = call(
        client,
        "POST",
        "/order/create",
        &order(user, product, quantity),
    );
    expect(&created, 201, "pending_payment");
    let id = named(&created.1);
    expect(
        &call(client, "POST", "/order/pay", &id),
        200,
        "pending_confirmation",
    );
    expect(
        &call(client, "POST", "/order/confirm", &id),
        200,
        "confirmed",
    );
    id
}

/// The shipment of an order, once logistics has heard of it.
fn shipment(client: &mut Client, order: &Value) -> Value {
    let path = format!("/shipments?order_id={}", order["order_id"]);
    loop {
        let found = must(client, ("GET", &path), json!({}), 200);
        if let Some(shipment) = found["shipments"].get(0) {
            return shipment.clone();
        }
    }
}

fn carry(client: &mut Client, shipment: &Value, status: &str, code: u16) -> Value {
    let path = format!("/shipments/{}/status", shipment["shipment_id"]);
    must(client, ("POST", &path), json!({"status": status}), code)
}

fn status(client: &mut Client, order: &Value) -> Value {
    let path = format!("/orders/{}", order["order_id"]);
    must(client, ("GET", &path), json!({}), 200)["status"].clone()
}

async fn events(bus: &Bus) -> Vec<(String, Event)> {
    let mut all = Vec::new();
    for topic in bus.topics().await.unwrap() {
        let name = topic.topic.to_string();
        let keep = |event: &Event| all.push((name.clone(), event.clone()));
        read_all(bus, &topic.topic, keep).await.unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_keeps_what_is_wanted_at_the_catalogues_prices_until_it_is_paid_for() {
    let open = Open::new().await;
    let address = open.address;
    open.run(move |client| {
        assert_eq!(cart(client, 7), json!([]));
        let pick =
            json!({"user_id": 7, "product_id": 1, "product_price": 0.01, "product_name": "x"});
        must(client, ("POST", "/cart/add"), pick.clone(), 200);
        let unknown = json!({"user_id": 7, "product_id": 99});
        must(client, ("POST", "/cart/add"), unknown.clone(), 404);
        must(client, ("DELETE", "/cart/delete"), unknown, 404);
        let line = json!({"id": 1, "name": "A MUG", "price": 2.55, "quantity": 1});
        assert_eq!(cart(client, 7), json!([line]));
        must(client, ("DELETE", "/cart/delete"), pick.clone(), 200);
        must(client, ("DELETE", "/cart/delete"), pick.clone(), 404);
        for wrong in [
            json!({"user_id": 7}),
            json!({"user_id": "7", "product_id": 1}),
            json!({"user_id": 7, "product_id": 1, "quantity": 0}),
            json!({"user_id": 7, "product_id": 1, "quantity": 1_000_001}),
        ] {
            must(client, ("POST", "/cart/add"), wrong, 422);
        }
        // Many at once, into one cart: none is lost.
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let pick = pick.clone();
                thread::spawn(move || {
                    let mut client = Client::new(address);
                    for _ in 0..2 {
                        must(&mut client, ("POST", "/cart/add"), pick.clone(), 200);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(cart(client, 7)[0]["quantity"], 8);
        let less = json!({"user_id": 7, "product_id": 1, "quantity": 5});
        must(client, ("DELETE", "/cart/delete"), less, 200);
        must(
            client,
            ("POST", "/cart/add"),
            json!({"user_id": 7, "product_id": 2}),
            200,
        );
        assert_eq!(cart(client, 8), json!([]));

        // What the cart shows can be ordered as it is; what is paid for leaves it.
        let wanted = json!({"user_id": 7, "products": cart(client, 7)});
        let created = call(client, "POST", "/order/create", &wanted);
        expect(&created, 201, "pending_payment");
        let shown = must(
            client,
            ("GET", &format!("/orders/{}", created.1["order_id"])),
            json!({}),
            200,
        );
        assert_eq!(shown["total"].to_string(), "17.65");
        must(client, ("POST", "/cart/add"), pick, 200);
        assert_eq!(cart(client, 7)[0]["quantity"], 4);
        let id = named(&created.1);
        expect(
            &call(client, "POST", "/order/pay", &id),
            200,
            "pending_confirmation",
        );
        while cart(client, 7).as_array().unwrap().len() != 1 {}
        assert_eq!(cart(client, 7)[0]["quantity"], 1);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

/// Removes a product that is in the cart of user 1: nobody can buy it any more.
fn gone(client: &mut Client, kettle: i64) {
    let path = format!("/products/{kettle}");
    must(client, ("DELETE", &path), json!({}), 200);
    assert_eq!(cart(client, 1), json!([]));
    must(client, ("GET", &path), json!({}), 404);
    must(client, ("PUT", &path), json!({"price": 1}), 404);
    must(client, ("DELETE", &path), json!({}), 404);
    must(
        client,
        ("POST", "/cart/add"),
        json!({"user_id": 1, "product_id": kettle}),
        404,
    );
    must(client, ("POST", "/order/create"), order(1, kettle, 1), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_changes_is_the_carts_and_the_next_orders_and_not_the_last_ones() {
    let open = Open::new().await;
    open.run(|client| {
        let new = json!({"name": "Kettle", "price": 20.5, "stock": 3, "description": "x"});
        let kettle = must(client, ("POST", "/products"), new, 201)["id"]
            .as_i64()
            .unwrap();
        let path = format!("/products/{kettle}");
        must(
            client,
            ("POST", "/cart/add"),
            json!({"user_id": 1, "product_id": kettle}),
            200,
        );
        let before = call(client, "POST", "/order/create", &order(1, kettle, 1));
        let changed = must(client, ("PUT", &path), json!({"price": "19.99"}), 200);
        assert_eq!(changed["price"].to_string(), "19.99");
        let line = &cart(client, 1)[0];
        assert_eq!(
            (line["price"].to_string(), line["price_before"].to_string()),
            ("19.99".into(), "20.5".into())
        );
        let after = call(client, "POST", "/order/create", &order(1, kettle, 2));
        for (order, total) in [(&before, "20.5"), (&after, "39.98")] {
            expect(order, 201, "pending_payment");
            let shown = must(
                client,
                ("GET", &format!("/order/{}", order.1["order_id"])),
                json!({}),
                200,
            );
            assert_eq!(shown["total"].to_string(), total);
        }
        // Three pieces were said to be there.
        let shelf = stock(client, kettle);
        assert_eq!(
            (&shelf["available"], &shelf["held"]),
            (&json!(0), &json!(3))
        );
        expect(
            &call(client, "POST", "/order/create", &order(2, kettle, 1)),
            409,
            "rejected",
        );

        // A product of a file can be changed too.
        must(
            client,
            ("PUT", "/products/1"),
            json!({"name": "A better MUG", "price": 3}),
            200,
        );
        let dearer = call(client, "POST", "/order/create", &order(2, 1, 1));
        let shown = must(
            client,
            ("GET", &format!("/orders/{}", dearer.1["order_id"])),
            json!({}),
            200,
        );
        assert_eq!(shown["total"].to_string(), "3.0");

        gone(client, kettle);
        // What was ordered before is delivered all the same.
        expect(
            &call(client, "POST", "/order/pay", &named(&before.1)),
            200,
            "pending_confirmation",
        );
    })
    .await;
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_make_no_sense_are_refused() {
    let open = Open::new().await;
    open.run(|client| {
        for wrong in [
            json!({}),
            json!({"name": "x"}),
            json!({"name": "", "price": 1}),
            json!({"name": "x".repeat(257), "price": 1}),
            json!({"name": "x", "price": -1}),
            json!({"name": "x", "price": 0.001}),
            json!({"name": "x", "price": "a"}),
            json!({"name": "x", "price": 1_000_001}),
            json!({"name": "x", "price": [1]}),
            json!({"name": "x", "price": 1, "sku": ""}),
            json!({"name": "x", "price": 1, "stock": -1}),
        ] {
            let refused = must(client, ("POST", "/products"), wrong, 422);
            assert_eq!(refused["code"], 422);
        }
        must(
            client,
            ("POST", "/products"),
            json!({"name": "x", "price": 1, "sku": "MUG"}),
            409,
        );
        must(client, ("PUT", "/products/1"), json!({}), 422);
        must(client, ("PUT", "/products/1"), json!({"price": 1.234}), 422);
        must(client, ("GET", "/products/x"), json!({}), 422);
        let all = must(client, ("GET", "/products"), json!({}), 200);
        assert_eq!(all["products"].as_array().unwrap().len(), 3);
        let page = must(client, ("GET", "/products?after=1"), json!({}), 200);
        assert_eq!(page["products"][0]["id"], 2);

        must(client, ("PUT", "/stock/1"), json!({"available": 3}), 200);
        assert_eq!(stock(client, 1)["available"], 3);
        must(client, ("PUT", "/stock/99"), json!({"available": 3}), 404);
        must(client, ("PUT", "/stock/3"), json!({"available": 3}), 409);
        must(client, ("PUT", "/stock/1"), json!({"available": -1}), 422);
        must(client, ("PUT", "/stock/1"), json!({}), 422);
        must(
            client,
            ("POST", "/order/return"),
            json!({"order_id": 5}),
            404,
        );
        must(
            client,
            ("POST", "/shipments/99/status"),
            json!({"status": "shipped"}),
            404,
        );
        must(client, ("GET", "/shipments/99"), json!({}), 404);
        let shelves = must(client, ("GET", "/stock"), json!({}), 200);
        assert_eq!(shelves["stock"].as_array().unwrap().len(), 3);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shipped_delivered_and_sent_back_and_stock_and_money_follow() {
    let open = Open::new().await;
    open.run(|client| {
        let early = call(client, "POST", "/order/create", &order(3, 1, 2));
        let planned = shipment(client, &early.1);
        assert_eq!(planned["status"], "planned");
        carry(client, &planned, "shipped", 409);
        let id = buy(client, 3, 1, 4);
        let sent = shipment(client, &id);
        assert_eq!(sent["status"], "created");
        assert_eq!(sent["products"], json!([{"product_id": 1, "quantity": 4}]));
        expect(
            &call(client, "POST", "/order/return", &id),
            409,
            "confirmed",
        );
        expect(
            &call(client, "POST", "/order/cancel", &id),
            409,
            "confirmed",
        );
        carry(client, &sent, "delivered", 409);
        for wrong in ["created", "lost", ""] {
            carry(client, &sent, wrong, 422);
        }
        carry(client, &sent, "shipped", 200);
        assert_eq!(status(client, &id), "shipped");
        carry(client, &sent, "shipped", 409);
        expect(&call(client, "POST", "/order/return", &id), 409, "shipped");
        carry(client, &sent, "delivered", 200);
        assert_eq!(status(client, &id), "delivered");
        assert_eq!(stock(client, 1)["held"], 6);
        expect(&call(client, "POST", "/order/return", &id), 200, "returned");
        expect(&call(client, "POST", "/order/return", &id), 409, "returned");
        while stock(client, 1)["available"] != 8 {}
        while shipment(client, &id)["status"] != "returned" {}
        let path = format!("/orders/{}", early.1["order_id"]);
        expect(&call(client, "DELETE", &path, &json!({})), 200, "cancelled");
        while shipment(client, &early.1)["status"] != "cancelled" {}
        while stock(client, 1)["available"] != 10 {}
        let other = buy(client, 3, 2, 1);
        let sent = shipment(client, &other);
        carry(client, &sent, "shipped", 200);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    let counts = (
        balance.confirmed,
        balance.shipped,
        balance.delivered,
        balance.sent_back,
        balance.cancelled,
    );
    assert_eq!(counts, (1, 1, 0, 1, 1));
    assert_eq!(
        (balance.captured_pence, balance.refunded_pence),
        (2_020, 1_020)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_changed_before_it_is_paid_and_stays_as_it_was_where_the_stock_is_short() {
    let open = Open::new().await;
    open.run(|client| {
        let created = call(client, "POST", "/orders", &order(4, 1, 2));
        let path = format!("/orders/{}", created.1["order_id"]);
        let more = json!({"products": [{"product_id": 1, "quantity": 9}, {"id": 2}]});
        expect(&call(client, "PUT", &path, &more), 200, "pending_payment");
        assert_eq!(
            (&stock(client, 1)["held"], &stock(client, 2)["held"]),
            (&json!(9), &json!(1))
        );
        let most = json!({"products": [{"product_id": 1, "quantity": 11}]});
        let refused = call(client, "PUT", &path, &most);
        expect(&refused, 409, "pending_payment");
        assert!(
            refused.1["message"]
                .as_str()
                .unwrap()
                .contains("stays as it was")
        );
        assert_eq!(
            (&stock(client, 1)["held"], &stock(client, 2)["held"]),
            (&json!(9), &json!(1))
        );
        let shown = must(client, ("GET", &path), json!({}), 200);
        assert_eq!(shown["total"].to_string(), "32.95");
        for (wrong, code) in [
            (json!({"products": []}), 422),
            (json!({}), 422),
            (json!({"products": [{"product_id": 99}]}), 404),
        ] {
            must(client, ("PUT", &path), wrong, code);
        }
        must(client, ("PUT", "/orders/5"), more.clone(), 404);
        let id = named(&created.1);
        expect(
            &call(client, "POST", "/order/pay", &id),
            200,
            "pending_confirmation",
        );
        expect(
            &call(client, "PUT", &path, &more),
            409,
            "pending_confirmation",
        );
        expect(
            &call(client, "POST", "/order/confirm", &id),
            200,
            "confirmed",
        );
        let products = json!([{"product_id": 1, "quantity": 9}, {"product_id": 2, "quantity": 1}]);
        assert_eq!(shipment(client, &id)["products"], products);
        let all = must(client, ("GET", "/orders"), json!({}), 200);
        assert_eq!(all["orders"].as_array().unwrap().len(), 1);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.sold_pence, 3_295);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_pay_or_confirm_at_once_one_does() {
    let open = Open::new().await;
    let address = open.address;
    open.run(move |client| {
        let id = named(&call(client, "POST", "/order/create", &order(5, 1, 1)).1);
        for path in ["/order/pay", "/order/confirm"] {
            let all: Vec<_> = (0..6)
                .map(|_| {
                    let id = id.clone();
                    thread::spawn(move || call(&mut Client::new(address), "POST", path, &id).0)
                })
                .collect();
            let mut codes: Vec<_> = all.into_iter().map(|t| t.join().unwrap()).collect();
            codes.sort_unstable();
            assert_eq!(codes, [200, 409, 409, 409, 409, 409], "{path}");
        }
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.captured_pence, 255);
}

fn wrong_users(client: &mut Client, password: &str) {
    for wrong in [
        json!({"name": "bob", "password": ""}),
        json!({"name": "", "password": password}),
        json!({"name": "x".repeat(65), "password": password}),
        json!({"password": password}),
        json!({"name": "bob"}),
    ] {
        must(client, ("POST", "/users/register"), wrong, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_register_log_in_and_out_and_no_event_holds_their_password() {
    let open = Open::new().await;
    let (password, tokens) = ("correct horse battery", std::sync::Arc::default());
    let kept: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::clone(&tokens);
    open.run(move |client| {
        let ada = json!({"name": "ada", "password": password});
        let user = must(client, ("POST", "/users/register"), ada.clone(), 201);
        must(client, ("POST", "/user/register"), ada.clone(), 409);
        wrong_users(client, password);
        let of_ada = format!("/orders?user_id={}", user["user_id"]);
        for (name, word) in [("ada", "correct horse"), ("eve", password)] {
            let wrong = json!({"username": name, "password": word});
            let denied = must(client, ("POST", "/users/login"), wrong, 401);
            assert_eq!(denied["message"], "the name or the password is wrong");
        }
        assert_eq!(
            must(client, ("GET", &of_ada), json!({}), 200)["logged_in"],
            false
        );
        let mut login = || must(client, ("POST", "/users/login"), ada.clone(), 200);
        let (one, other) = (login(), login());
        assert_ne!(one["token"], other["token"]);
        kept.lock()
            .unwrap()
            .extend([&one, &other].map(|l| l["token"].as_str().unwrap().to_owned()));
        while must(client, ("GET", &of_ada), json!({}), 200)["logged_in"] != true {}
        let out = json!({"token": one["token"]});
        assert_eq!(
            must(client, ("POST", "/users/logout"), out.clone(), 200)["logged_in"],
            true
        );
        must(client, ("POST", "/users/logout"), out, 401);
        let by_id = json!({"user_id": user["user_id"]});
        assert_eq!(
            must(client, ("POST", "/user/logout"), by_id.clone(), 200)["logged_in"],
            false
        );
        must(client, ("POST", "/users/logout"), by_id, 409);
        must(
            client,
            ("POST", "/users/logout"),
            json!({"user_id": 5}),
            404,
        );
        must(client, ("POST", "/users/logout"), json!({}), 422);
        while must(client, ("GET", &of_ada), json!({}), 200)["logged_in"] != false {}
        let shown = must(
            client,
            ("GET", &format!("/users/{}", user["user_id"])),
            json!({}),
            200,
        );
        assert_eq!(
            (&shown["name"], &shown["logged_in"]),
            (&json!("ada"), &json!(false))
        );
        must(client, ("GET", "/users/5"), json!({}), 404);
    })
    .await;
    let tokens = tokens.lock().unwrap().clone();
    for (topic, event) in events(&open.bus).await {
        let text = String::from_utf8_lossy(event.data().unwrap()).into_owned();
        let secret = tokens.iter().map(String::as_str).chain([password]);
        for secret in secret {
            assert!(!text.contains(secret), "{topic}: {text}");
        }
    }
    open.close().await;
}

/// Does one of everything; gives an order that went the whole way.
fn a_whole_life(client: &mut Client) -> Value {
    let ada = json!({"name": "ada", "password": "correct horse"});
    let user = must(client, ("POST", "/users/register"), ada.clone(), 201);
    must(client, ("POST", "/users/login"), ada, 200);
    must(
        client,
        ("POST", "/users/logout"),
        json!({"user_id": user["user_id"]}),
        200,
    );
    must(
        client,
        ("POST", "/cart/add"),
        json!({"user_id": 1, "product_id": 1}),
        200,
    );
    must(client, ("PUT", "/products/2"), json!({"price": 1}), 200);
    let id = buy(client, 1, 1, 1);
    let sent = shipment(client, &id);
    carry(client, &sent, "shipped", 200);
    carry(client, &sent, "delivered", 200);
    expect(&call(client, "POST", "/order/return", &id), 200, "returned");
    let given_up = call(client, "POST", "/order/create", &order(1, 1, 1));
    call(client, "POST", "/order/cancel", &named(&given_up.1));
    expect(
        &call(client, "POST", "/order/create", &order(1, 1, 99)),
        409,
        "rejected",
    );
    while stock(client, 1)["available"] != 10 {}
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_happens_is_told_in_events() {
    let open = Open::new().await;
    let id = open.run(a_whole_life).await;
    let all = events(&open.bus).await;
    let types: BTreeSet<&str> = all.iter().map(|(_, event)| event.ty().as_str()).collect();
    for expected in [
        "order_created",
        "order_paid",
        "order_confirmed",
        "order_updated",
        "order_cancelled",
        "order_returned",
        "payment_requested",
        "stock_reserved",
        "stock_refused",
        "stock_released",
        "shipment_created",
        "logistics_updated",
        "user_registered",
        "user_logged_in",
        "user_logged_out",
        "cart_changed",
        "price_changed",
    ] {
        assert!(
            types.contains(expected),
            "{expected} is not among {types:?}"
        );
    }
    let mut confirmed = all
        .iter()
        .filter(|(_, event)| event.ty().as_str() == "order_confirmed");
    let (topic, event) = confirmed.next().unwrap();
    let payload: Value = serde_json::from_slice(event.data().unwrap()).unwrap();
    let members: BTreeSet<&str> = payload
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        members,
        BTreeSet::from(["type", "order_id", "user_id", "products", "status"])
    );
    assert_eq!(
        (topic.as_str(), &payload["type"]),
        ("orders", &json!("order_confirmed"))
    );
    assert_eq!(
        (&payload["status"], &payload["user_id"]),
        (&json!("confirmed"), &json!(1))
    );
    assert_eq!(payload["order_id"], id["order_id"]);
    assert_eq!(event.key().unwrap(), id["order_id"].to_string());
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_shipments_do_not_fit_is_not_even() {
    let open = Open::new().await;
    let id = open.run(|client| buy(client, 1, 1, 2)).await;
    for (change, said) in [
        (
            "UPDATE shipments SET status = 'delivered'",
            "is confirmed and its shipment is delivered",
        ),
        (
            "UPDATE shipments SET status = 'created', products = '[]'",
            "has other pieces",
        ),
        (
            "UPDATE shipments SET order_id = 5",
            "its shipment is not there",
        ),
        (
            "UPDATE shipments SET order_id = 6",
            "of order 6 and nobody knows it",
        ),
    ] {
        let tamper = move |on: &rusqlite::Connection| Ok(on.execute(change, [])?);
        open.shop.logistics.service().read(tamper).await.unwrap();
        let balance = Balance::of(&open.shop).await.unwrap();
        let complained = balance.complaints.iter().any(|c| c.contains(said));
        assert!(complained && !balance.is_even(), "{id} {balance:?}");
    }
}

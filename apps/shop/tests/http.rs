//! The shop on a bus in memory, through its HTTP door: what a buyer sees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use support::open::{Open, expect, named, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_creates_pays_and_confirms() {
    let open = Open::new().await;
    open.run(|client| {
        let body = json!({
            "user_id": 7,
            "products": [
                {"product_id": 1, "quantity": 2, "product_price": 0.01, "product_name": "x"},
                {"product_id": 3, "quantity": 1},
            ],
        });
        let created = client.post("/order/create", &body).unwrap();
        expect(&created, 201, "pending_payment");
        let id = named(&created.1);
        let early = client.post("/order/confirm", &id).unwrap();
        expect(&early, 409, "pending_payment");
        expect(
            &client.post("/order/pay", &id).unwrap(),
            200,
            "pending_confirmation",
        );
        expect(
            &client.post("/order/pay", &id).unwrap(),
            409,
            "pending_confirmation",
        );
        expect(
            &client.post("/order/confirm", &id).unwrap(),
            200,
            "confirmed",
        );
        for again in ["/order/pay", "/order/confirm", "/order/cancel"] {
            expect(&client.post(again, &id).unwrap(), 409, "confirmed");
        }
        let shown = client
            .get(&format!("/order/{}", created.1["order_id"]))
            .unwrap();
        expect(&shown, 200, "confirmed");
        assert_eq!(shown.1["total"].to_string(), "6.09");
        assert_eq!(shown.1["products"][0]["price"].to_string(), "2.55");
        let (_, listed) = client.get("/orders?user_id=7").unwrap();
        assert_eq!(listed["orders"][0]["order_id"], created.1["order_id"]);
        assert_eq!(client.get("/stock/1").unwrap().1["available"], 8);
        assert_eq!(client.get("/stock/3").unwrap().1["available"], Value::Null);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!((balance.confirmed, balance.sold_pence), (1, 609));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_stock_is_refused_and_cancelling_gives_it_back() {
    let open = Open::new().await;
    open.run(|client| {
        let most = client.post("/order/create", &order(1, 1, 8)).unwrap();
        expect(&most, 201, "pending_payment");
        let refused = client.post("/order/create", &order(2, 1, 3)).unwrap();
        expect(&refused, 409, "rejected");
        assert!(
            refused.1["message"]
                .as_str()
                .unwrap()
                .contains("out of stock")
        );
        expect(
            &client.post("/order/pay", &named(&refused.1)).unwrap(),
            409,
            "rejected",
        );
        expect(
            &client.post("/order/cancel", &named(&most.1)).unwrap(),
            200,
            "cancelled",
        );
        while client.get("/stock/1").unwrap().1["available"] != 10 {}
        let paid = client.post("/order/create", &order(2, 1, 10)).unwrap();
        expect(
            &client.post("/order/pay", &named(&paid.1)).unwrap(),
            200,
            "pending_confirmation",
        );
        expect(
            &client.post("/order/cancel", &named(&paid.1)).unwrap(),
            200,
            "cancelled",
        );
        while client.get("/stock/1").unwrap().1["available"] != 10 {}
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!((balance.cancelled, balance.out_of_stock), (2, 1));
    assert_eq!(balance.captured_pence, balance.refunded_pence);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_is_404_and_wrong_is_422_and_nothing_changes() {
    let open = Open::new().await;
    open.run(|client| {
        let unknown = json!({"order_id": 12345});
        for path in ["/order/pay", "/order/confirm", "/order/cancel"] {
            let (code, answer) = client.post(path, &unknown).unwrap();
            assert_eq!(code, 404, "{answer}");
            assert!(answer["message"].is_string());
        }
        for path in ["/order/12345", "/stock/99", "/nothing"] {
            let (code, answer) = client.get(path).unwrap();
            assert_eq!(code, 404, "{path} {answer}");
            assert!(answer["message"].is_string());
        }
        assert_eq!(
            client.post("/order/create", &order(1, 99, 1)).unwrap().0,
            404
        );
        let wrong = [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"user_id": 1}"#,
            r#"{"user_id": "1", "products": [{"product_id": 1, "quantity": 1}]}"#,
            r#"{"user_id": 1.5, "products": [{"product_id": 1, "quantity": 1}]}"#,
            r#"{"user_id": 1, "products": []}"#,
            r#"{"user_id": 1, "products": [{"product_id": 1, "quantity": 0}]}"#,
            r#"{"user_id": 1, "products": [{"product_id": 1, "quantity": -1}]}"#,
            r#"{"user_id": 1, "products": [{"product_id": 1, "quantity": 1000001}]}"#,
            r#"{"user_id": 1, "products": [{"product_id": "x", "quantity": 1}]}"#,
        ];
        for body in wrong {
            let (code, answer) = client.call("POST", "/order/create", body).unwrap();
            assert_eq!(code, 422, "{body} {answer}");
            assert!(answer["message"].is_string());
        }
        for path in ["/order/x", "/stock/x", "/orders?user_id=x", "/cart/query"] {
            assert_eq!(client.get(path).unwrap().0, 422, "{path}");
        }
        assert_eq!(
            client
                .call("POST", "/order/pay", r#"{"order_id": "1"}"#)
                .unwrap()
                .0,
            422
        );
        assert_eq!(client.get("/order/create").unwrap().0, 405);
        assert_eq!(client.call("DELETE", "/orders", "").unwrap().0, 405);
        let huge = format!("[{}", " ".repeat(1024 * 1024 + 1));
        assert_eq!(client.call("POST", "/order/create", &huge).unwrap().0, 413);
    })
    .await;
    let balance = open.close().await;
    assert!(balance.is_even(), "{balance:?}");
    let orders = balance.confirmed + balance.out_of_stock + balance.cancelled + balance.by_hand;
    assert_eq!(orders, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_takes_ids_alone_and_its_paths_have_other_names() {
    let open = Open::new().await;
    open.run(|client| {
        let body = json!({"user_id": 7, "products": [1, {"id": 3}]});
        let created = client.post("/order/create", &body).unwrap();
        expect(&created, 201, "pending_payment");
        let id = created.1["order_id"].clone();
        let shown = client.get(&format!("/order/query?order_id={id}")).unwrap();
        expect(&shown, 200, "pending_payment");
        assert_eq!(shown.1["products"][0]["quantity"], 1);
        assert_eq!(shown.1["products"][1]["product_id"], 3);
        let listed = client.get("/order/query?user_id=7").unwrap();
        assert_eq!(listed.1["orders"][0]["order_id"], id);
        let more = json!({"order_id": id, "products": [{"product_id": 1, "quantity": 3}]});
        let changed = client.post("/order/update", &more).unwrap();
        expect(&changed, 200, "pending_payment");
        let gone = client.post("/order/delete", &json!({"order_id": id}));
        expect(&gone.unwrap(), 200, "cancelled");
    })
    .await;
    open.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_object_or_nobodys_is_refused_with_a_message_and_changes_nothing() {
    let open = Open::new().await;
    open.run(|client| {
        for (path, body) in [
            ("/cart/add", json!([7, 1, 3])),
            ("/cart/add", json!({"user_id": -1, "product_id": 1})),
            ("/cart/add", json!({"user_id": 0, "product_id": 1})),
            ("/order/create", json!([7, [1]])),
            (
                "/order/create",
                json!({"user_id": 7, "products": [[1, null, 2]]}),
            ),
            ("/order/create", json!({"user_id": 7, "products": [1.5]})),
            ("/order/create", json!({"user_id": 7, "products": ["1"]})),
            ("/order/create", json!({"user_id": 7, "products": [true]})),
            ("/order/create", json!({"user_id": 7, "products": [null]})),
            ("/order/create", json!({"user_id": -7, "products": [1]})),
            ("/order/pay", json!([1_000_000_000])),
            ("/users/register", json!({"name": "ada", "password": ""})),
            ("/products", json!({"name": "", "price": "2.55"})),
            ("/products", json!({"name": "a\nb", "price": "2.55"})),
        ] {
            let (code, answer) = client.post(path, &body).unwrap();
            assert_eq!(code, 422, "{path} {body}: {answer}");
            let message = answer["message"].as_str().unwrap();
            // In words of the shop, not of what is beneath it.
            assert!(!message.contains("event"), "{path} {body}: {answer}");
        }
        for path in [
            "/cart/query?user_id=1&user_id=2",
            "/cart/query?user_id=-1",
            "/cart/query",
            "/products/%ff",
            "/orders/%ff",
            "/orders?after=x",
        ] {
            let (code, answer) = client.get(path).unwrap();
            assert_eq!(code, 422, "{path}: {answer}");
            assert!(answer["message"].is_string(), "{path}: {answer}");
        }
        let (_, cart) = client.get("/cart/query?user_id=7").unwrap();
        assert_eq!(cart["products"], json!([]));
        let (_, orders) = client.get("/orders").unwrap();
        assert_eq!(orders["orders"], json!([]));
    })
    .await;
    open.close().await;
}

//! What stands before all doors: ids of requests, web pages of other machines, and bounds on how
//! often an address may ask.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::Running;
use support::http::Client;

const PAGE: &str = "https://shop.example";

/// Asks as a browser does before it lets a page of this origin send a request.
async fn preflight(client: &Client, origin: &str, path: &str) -> support::http::Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "content-type,x-request-id",
        ),
        ("access-control-request-private-network", "true"),
    ];
    client.send("OPTIONS", path, &headers, "").await
}

#[tokio::test]
async fn every_answer_and_problem_has_the_requests_id() {
    let server = Running::start().await;
    let client = server.client();
    let id = [("x-request-id", "order-7/2")];
    let good = client.send("GET", "/v1/topics", &id, "").await;
    assert_eq!(good.header("x-request-id"), "order-7/2");
    let wrong = client.send("GET", "/v1/topics/none", &id, "").await;
    assert_eq!(wrong.problem(404), "unknown-topic");
    assert_eq!(wrong.header("x-request-id"), "order-7/2");
    assert_eq!(wrong.json()["request_id"], "order-7/2");
    // Also of what is turned away before any door.
    let foreign = [("origin", PAGE), ("x-request-id", "9")];
    let foreign = client.send("GET", "/", &foreign, "").await;
    assert_eq!(foreign.problem(403), "foreign-origin");
    assert_eq!(foreign.json()["request_id"], "9");
    let ids: Vec<String> = [
        client.get("/").await,
        client.get("/nothing").await,
        client
            .send("GET", "/", &[("x-request-id", "a b")], "")
            .await,
        client.get("/socket.io/?EIO=4&transport=polling").await,
    ]
    .iter()
    .map(|answer| answer.header("x-request-id").to_owned())
    .collect();
    for id in &ids {
        assert!(id.parse::<uuid::Uuid>().is_ok(), "{id:?}");
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_all_doors_and_others_none() {
    let server = Running::with(|config| config.cors = Some(PAGE.parse().unwrap())).await;
    let client = server.client();
    for path in [
        "/event",
        "/v1/topics/orders/stream",
        "/v1/groups/billing/settle",
        "/v1/topics/orders",
        "/socket.io/?EIO=4&transport=polling",
    ] {
        let asked = preflight(&client, PAGE, path).await;
        assert_eq!(asked.status, 200, "{path}: {}", asked.text);
        assert_eq!(asked.header("access-control-allow-origin"), PAGE, "{path}");
        let methods = asked.header("access-control-allow-methods").to_owned();
        assert!(
            ["GET", "POST", "PATCH", "DELETE"]
                .iter()
                .all(|m| methods.contains(m))
        );
        assert_eq!(
            asked.header("access-control-allow-headers"),
            "content-type,x-request-id"
        );
        assert_eq!(asked.header("access-control-allow-private-network"), "true");
        let other = preflight(&client, "https://evil.example", path).await;
        assert_eq!(other.header("access-control-allow-origin"), "", "{path}");
    }
    let page = |origin| [("origin", origin), ("content-type", "application/json")];
    let sent = client.send("POST", "/event", &page(PAGE), "7").await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert_eq!(sent.header("access-control-allow-origin"), PAGE);
    assert!(
        sent.header("access-control-expose-headers")
            .contains("x-request-id")
    );
    assert!(sent.header("vary").contains("origin"), "{:?}", sent.headers);
    // A page sees also what went wrong.
    let wrong = client.send("POST", "/event", &page(PAGE), "{").await;
    assert_eq!(wrong.problem(400), "invalid-json");
    assert_eq!(wrong.header("access-control-allow-origin"), PAGE);
    let other = client
        .send("POST", "/event", &page("https://evil.example"), "7")
        .await;
    assert_eq!(other.problem(403), "foreign-origin");
    // The name by which the server is called is still one of this machine.
    let host = [("origin", PAGE), ("host", "rebound.example")];
    let rebound = client.send("GET", "/", &host, "").await;
    assert_eq!(rebound.problem(421), "foreign-host");
}

#[tokio::test]
async fn without_the_option_no_page_is_allowed_and_with_a_star_every_one_is() {
    let server = Running::start().await;
    let client = server.client();
    let asked = preflight(&client, PAGE, "/event").await;
    assert_eq!(asked.problem(403), "foreign-origin");
    let local = client
        .send("GET", "/", &[("origin", "http://localhost:3000")], "")
        .await;
    assert_eq!(local.header("access-control-allow-origin"), "");
    let server = Running::with(|config| config.cors = Some("*".parse().unwrap())).await;
    let client = server.client();
    let asked = preflight(&client, "https://any.example", "/event").await;
    assert_eq!(asked.header("access-control-allow-origin"), "*");
    let sent = client
        .send("GET", "/v1/topics", &[("origin", "null")], "")
        .await;
    assert_eq!(
        (
            sent.status.as_u16(),
            sent.header("access-control-allow-origin")
        ),
        (200, "*")
    );
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let server = Running::with(|config| {
        config.rate_limit = Some("3/h".parse().unwrap());
        config.cors = Some(PAGE.parse().unwrap());
    })
    .await;
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.event("7").await.status, 200);
    }
    // A body that nobody wants is read, so that the answer arrives.
    let headers = [("origin", PAGE), ("content-type", "application/json")];
    let large = vec![b' '; 4 * 1024 * 1024];
    let refused = client.send("POST", "/event", &headers, large).await;
    assert_eq!(refused.problem(429), "too-many-requests");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1100..=1200).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("access-control-allow-origin"), PAGE);
    assert_eq!(refused.header("x-request-id"), refused.json()["request_id"]);
    // Whether it lives may be asked at any time.
    assert_eq!(client.get("/health/ready").await.status, 200);
    let kept = client.get("/health/live").await;
    assert_eq!(kept.status, 200);
    let topic = server.broker.topics();
    assert_eq!(topic[0].partitions[0].end.0, 3);
}

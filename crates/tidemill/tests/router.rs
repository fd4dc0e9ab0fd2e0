//! How a router chooses, what it refuses, and what it tells about its handlers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use support::call;
use tidemill::{
    BuildError, Data, Decision, Emit, Fail, FailedAttempt, Handler as _, Json, Message, Order,
    Reply, Router,
};
use tidemill::{Source, State, VerdictKind};

#[derive(Clone, Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "0")]
struct OrderCreated(u64);

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "payments", key = "customer")]
struct OrderPaid {
    customer: Option<String>,
}

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "stock", topic = "stock")]
enum Stock {
    Low { sku: String },
    Gone,
}

async fn first() {}
async fn second() {}

fn refused(router: Router) -> BuildError {
    router.finish().unwrap_err()
}

#[tokio::test]
async fn the_exact_type_comes_first_then_the_longest_prefix() {
    async fn created(Data(_): Data<OrderCreated>) -> Emit<OrderPaid> {
        let customer = Some("exact".to_owned());
        Emit(OrderPaid { customer })
    }
    async fn named(State(name): State<&'static str>) -> Emit<OrderPaid> {
        let customer = Some(name.to_owned());
        Emit(OrderPaid { customer })
    }
    let pattern = |pattern: &'static str| {
        Router::new()
            .on_pattern("orders", pattern, named.id(pattern))
            .with_state::<()>(pattern)
    };
    let tie = pattern("**")
        .merge(pattern("order_*"))
        .merge(pattern("order_cre*"))
        .merge(pattern("*.late"))
        .merge(Router::new().on(created))
        .finish()
        .unwrap_err();
    // `**` and `*.late` both match `a.late`, and neither says more before its star.
    assert!(matches!(tie, BuildError::Tie { .. }), "{tie}");

    let app = pattern("**")
        .merge(pattern("order_*"))
        .merge(pattern("order_cre*"))
        .merge(Router::new().on(created))
        .finish()
        .unwrap();
    let cases = [
        ("order_created", "exact"),
        ("order_creating", "order_cre*"),
        ("order_paid", "order_*"),
        ("order_paid.late", "**"),
        ("other", "**"),
    ];
    for (ty, handler) in cases {
        let verdict = call(&app, ty, "1").await;
        assert_eq!(verdict.kind, VerdictKind::Handled);
        assert_eq!(
            verdict.commit.effects.events[0].1.key(),
            Some(handler),
            "{ty}"
        );
    }
}

#[test]
fn doubles_and_ties_are_refused_and_both_are_named() {
    let double = Router::new()
        .on_pattern("orders", "a", first)
        .merge(Router::new().on_pattern("orders", "b", first));
    let error = refused(double).to_string();
    assert!(error.contains("router::first"), "{error}");
    assert!(error.contains("`.id(...)`"), "{error}");

    let double = Router::new()
        .on_pattern("orders", "order_*", first.id("one"))
        .on_pattern("orders", "order_*", second.id("two"));
    let error = refused(double).to_string();
    assert!(error.contains("\"one\" and \"two\""), "{error}");

    async fn created(Data(_): Data<OrderCreated>) {}
    let double = Router::new()
        .on(created.id("one"))
        .on(created.id("two").version("2"));
    let error = refused(double);
    assert!(matches!(error, BuildError::DoubleType { .. }), "{error}");

    let tie = Router::new()
        .on_pattern("orders", "order_*", first)
        .on_pattern("orders", "order_**", second);
    let error = refused(tie).to_string();
    assert!(
        error.contains("\"order_*\"") && error.contains("\"order_**\""),
        "{error}"
    );
    assert!(
        error.contains("first") && error.contains("second"),
        "{error}"
    );

    // The same on two topics, or patterns that no type fits both of, are no tie.
    let fine = Router::new()
        .on_pattern("orders", "order_*", first)
        .on_pattern("stock", "order_*", second)
        .on_pattern("stock", "a*x", first.id("x"))
        .on_pattern("stock", "a*y", first.id("y"));
    assert_eq!(fine.finish().unwrap().topics().len(), 2);
}

#[test]
fn illegal_names_are_refused_with_the_handler() {
    let error = refused(Router::new().on_pattern("no topic", "a", first.id("h"))).to_string();
    assert!(
        error.starts_with("handler \"h\": invalid topic name"),
        "{error}"
    );
    let error = refused(Router::new().on_pattern("orders", "***", first.id("h"))).to_string();
    assert!(error.starts_with("handler \"h\": the pattern"), "{error}");
    let error = refused(Router::new().on_pattern("orders", "a", first.id(""))).to_string();
    assert!(error.contains("may not be empty"), "{error}");
    let long = Router::new().on_pattern("orders", "a", first.id("x".repeat(1025)));
    let error = refused(long).to_string();
    assert!(error.ends_with("it has at most 1024 bytes"), "{error}");
    assert!(matches!(refused(Router::new()), BuildError::Empty));
}

#[test]
fn handlers_are_described_with_their_schemas() {
    #[derive(Serialize, JsonSchema)]
    struct Receipt {
        total: u32,
    }
    type Out = (Emit<(OrderPaid, Vec<Stock>)>, Reply<Receipt>);
    async fn charge(_: State<u8>, Data(_): Data<OrderCreated>) -> Result<Out, Fail> {
        let customer = None;
        let stock = vec![Stock::Gone, Stock::Low { sku: "a".into() }];
        Ok((
            Emit((OrderPaid { customer }, stock)),
            Reply(Receipt { total: 1 }),
        ))
    }
    async fn track(Json(_): Json<u8>) {}
    let charge = charge
        .id("charge")
        .version("2")
        .retry(5)
        .needs(Order::PerKey)
        .timeout(Duration::from_secs(1));
    let router = Router::new()
        .on(charge)
        .on_pattern("orders", "order_*", track);
    let told = serde_json::to_value(router.describe()).unwrap();
    assert_eq!(told[0]["id"], "charge");
    assert_eq!(told[0]["version"], "2");
    assert_eq!(told[0]["topic"], "orders");
    assert_eq!(told[0]["type"], "order_created");
    assert_eq!(told[0]["needs"], "per_key");
    assert_eq!(told[0]["retry"]["retries"], 5);
    assert_eq!(told[0]["retry"]["first_ms"], 50);
    assert_eq!(told[0]["timeout_ms"], 1000);
    assert_eq!(told[0]["input"]["schema"]["type"], "integer");
    let outputs = told[0]["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 3);
    assert_eq!(outputs[0]["type"], "order_paid");
    assert_eq!(outputs[0]["topic"], "payments");
    assert!(outputs[0]["schema"]["properties"]["customer"].is_object());
    assert_eq!(outputs[2]["kind"], "reply");
    let id = told[1]["id"].as_str().unwrap();
    assert!(id.starts_with("router::handlers_are_described"), "{id}");
    assert!(id.ends_with("::track"), "{id}");
    assert_eq!(told[1]["pattern"], true);
    assert!(told[1]["input"].get("schema").is_none());

    let app = router.with_state(1).finish().unwrap();
    let told_by_app = serde_json::to_value(app.describe()).unwrap();
    assert_eq!(told, told_by_app);
    assert!(app.needs_more_than(Order::PerKey).is_none());
    assert_eq!(app.needs_more_than(Order::None).unwrap().id, "charge");
}

#[tokio::test]
async fn the_source_of_emitted_events_is_the_handlers_or_the_routers() {
    async fn gone() -> Emit<Stock> {
        Emit(Stock::Gone)
    }
    let router = || Router::new().on_pattern("orders", "*", gone.id("a b"));
    let app = router().finish().unwrap();
    let verdict = call(&app, "x", "1").await;
    let (_, event) = &verdict.commit.effects.events[0];
    assert_eq!(event.source(), "/tidemill/a_b");
    assert_eq!(event.key(), None);
    assert_eq!(event.data().unwrap(), "\"Gone\"");
    let app = router().source(Source::new("/shop").unwrap()).finish();
    let verdict = call(&app.unwrap(), "x", "1").await;
    assert_eq!(verdict.commit.effects.events[0].1.source(), "/shop");
}

#[tokio::test]
async fn ids_stay_short_along_a_chain() {
    async fn again(Data(order): Data<OrderCreated>) -> Emit<OrderCreated> {
        Emit(order)
    }
    let app = Router::new().on(again).finish().unwrap();
    let mut event = support::event("order_created", "1");
    let mut ids = std::collections::HashSet::new();
    for _ in 0..100 {
        let verdict = app.call(support::delivery(event)).await;
        event = verdict.commit.effects.events[0].1.clone();
        assert!(event.id().as_str().len() < 400);
        assert!(ids.insert(event.id().clone()), "an id came twice");
        assert_eq!(event.extension_str("correlationid"), Some("e1"));
    }
}

#[tokio::test]
async fn a_merged_router_keeps_what_it_said_and_takes_the_rest() {
    async fn gone() -> Emit<Stock> {
        Emit(Stock::Gone)
    }
    async fn broken() -> Result<(), Fail> {
        Err(Fail::transient("no"))
    }
    let inner = Router::new()
        .on_pattern("orders", "inner", gone.id("inner"))
        .on_pattern("orders", "broken", broken.id("broken"))
        .retry(7)
        .failure_policy(|_: &FailedAttempt<'_>| Decision::DeadLetter);
    let app = Router::new()
        .on_pattern("orders", "outer", gone.id("outer"))
        .on_pattern("orders", "again", broken.id("again"))
        .merge(inner)
        .retry(2)
        .source(Source::new("/outer").unwrap())
        .finish()
        .unwrap();
    let retries: Vec<_> = app.describe().iter().map(|h| h.retry.retries).collect();
    assert_eq!(retries, [2, 2, 7, 7]);
    for ty in ["inner", "outer"] {
        let verdict = call(&app, ty, "1").await;
        assert_eq!(verdict.commit.effects.events[0].1.source(), "/outer");
    }
    assert!(call(&app, "broken", "1").await.retry.is_none());
    assert!(call(&app, "again", "1").await.retry.is_some());
}

/// Names that a macro by example gives are of another context than the derive's own.
macro_rules! made {
    ($name:ident, $other:ident, $field:ident: $ty:ty) => {
        #[derive(Message, Serialize, Deserialize, JsonSchema)]
        #[message(type = "made", topic = "made", key = "made")]
        struct $name {
            $field: $ty,
        }

        #[derive(tidemill::Emission)]
        enum $other {
            Some($name),
        }

        #[tidemill::handler]
        async fn make($field: Json<$ty>) -> Emit<$other> {
            Emit($other::Some($name { $field: $field.0 }))
        }
    };
}

made!(Made, OneMade, made: Option<u8>);

#[tokio::test]
async fn macros_work_inside_of_macros() {
    let app = Router::new()
        .on_pattern("orders", "*", make)
        .finish()
        .unwrap();
    let verdict = call(&app, "x", "7").await;
    assert_eq!(verdict.commit.effects.events[0].1.key(), Some("7"));
    let verdict = call(&app, "x", "null").await;
    assert_eq!(verdict.commit.effects.events[0].1.key(), None);
}

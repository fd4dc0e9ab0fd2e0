//! A finished router called as a dispatcher calls it, without a bus.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use support::{call, delivery, event};
use tidemill::core::{Commit, Outcome};
use tidemill::{
    Attempt, Attributes, Bytes, Data, Decision, Delivery, Effects, Emission, Emit, Event, EventId,
    ExtensionValue, Fail, FailClass, FromRef, Handler as _, Json, Key, Message, Outgoing, Position,
    Reply, Retry, Router, Source, State, Subject, TopicName, Verdict, VerdictKind,
};

#[derive(Clone, Debug, PartialEq, Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
}

#[derive(Clone, Debug, PartialEq, Message, Serialize, Deserialize, JsonSchema)]
#[message(
    type = "order_paid",
    topic = "payments",
    key = "order_id",
    source = "/shop"
)]
struct OrderPaid {
    order_id: u64,
}

fn failed(verdict: &Verdict) -> (FailClass, String, String) {
    let VerdictKind::Failed(class) = verdict.kind else {
        panic!("not failed: {verdict:?}");
    };
    match &verdict.commit.outcome {
        Outcome::DeadLetter { failure } => (class, failure.reason.clone(), failure.error.clone()),
        other => (class, format!("{other:?}"), String::new()),
    }
}

#[tokio::test]
async fn the_input_type_chooses_the_handler_and_outputs_are_staged() {
    async fn charge(Data(order): Data<OrderCreated>) -> Result<Emit<OrderPaid>, Fail> {
        Ok(Emit(OrderPaid {
            order_id: order.order_id,
        }))
    }
    let app = Router::new().on(charge.id("charge")).finish().unwrap();
    assert_eq!(app.topics()[0], "orders");

    let first = call(&app, "order_created", r#"{"order_id":3}"#).await;
    let again = call(&app, "order_created", r#"{"order_id":3}"#).await;
    assert_eq!(first.kind, VerdictKind::Handled);
    let (topic, paid) = &first.commit.effects.events[0];
    assert_eq!(topic, "payments");
    assert_eq!(paid.ty(), "order_paid");
    assert_eq!(paid.source(), "/shop");
    assert_eq!(paid.key(), Some("3"));
    assert_eq!(paid.extension_str("correlationid"), Some("e1"));
    assert_eq!(paid.extension_str("causationid"), Some("e1"));
    assert_eq!(paid.data().unwrap(), r#"{"order_id":3}"#);
    assert!(paid.id().as_str().starts_with("e1:charge:0:"));
    // A redelivered input gives the same id, another source's event with the same id does not.
    assert_eq!(paid.id(), again.commit.effects.events[0].1.id());
    let other = event("order_created", r#"{"order_id":3}"#)
        .to_builder()
        .source(Source::new("/other").unwrap())
        .build()
        .unwrap();
    let other = app.call(delivery(other)).await;
    assert_ne!(paid.id(), other.commit.effects.events[0].1.id());
}

#[tokio::test]
async fn outputs_can_be_several_none_given_ids_and_an_answer() {
    #[derive(Serialize, JsonSchema)]
    struct Receipt {
        total: u32,
    }
    async fn many(
        Data(order): Data<OrderCreated>,
    ) -> (
        Emit<(Outgoing<OrderPaid>, Vec<OrderCreated>, Option<OrderPaid>)>,
        Reply<Receipt>,
    ) {
        let id = EventId::new("given").unwrap();
        let paid = OrderPaid { order_id: 1 };
        let first = Outgoing::new(paid)
            .id(id)
            .subject(Subject::new("order/1").unwrap());
        let again = vec![order.clone(), order];
        (Emit((first, again, None)), Reply(Receipt { total: 5 }))
    }
    let app = Router::new().on(many).finish().unwrap();
    let verdict = call(&app, "order_created", r#"{"order_id":3}"#).await;
    let events = &verdict.commit.effects.events;
    assert_eq!(events.len(), 3);
    assert_eq!(events[0].1.id(), "given");
    assert_eq!(events[0].1.subject().unwrap(), "order/1");
    assert_ne!(events[1].1.id(), events[2].1.id());
    let reply = verdict.commit.effects.reply.unwrap();
    assert_eq!(reply.data().unwrap(), r#"{"total":5}"#);
    assert_eq!(reply.extension_str("correlationid"), Some("e1"));
}

#[tokio::test]
async fn an_enum_of_messages_publishes_the_one_it_holds() {
    #[derive(Emission)]
    enum Decided {
        Paid(OrderPaid),
        Again(Vec<OrderCreated>),
    }
    async fn decide(Data(order): Data<OrderCreated>) -> Emit<Decided> {
        let order_id = order.order_id;
        Emit(match order_id {
            0 => Decided::Again(vec![order.clone(), order]),
            _ => Decided::Paid(OrderPaid { order_id }),
        })
    }
    let router = Router::new().on(decide);
    let types: Vec<_> = router.describe()[0]
        .outputs
        .iter()
        .map(|output| output.ty.clone().unwrap())
        .collect();
    assert_eq!(types, ["order_paid", "order_created"]);
    let app = router.finish().unwrap();
    let paid = call(&app, "order_created", r#"{"order_id":3}"#).await;
    assert_eq!(paid.commit.effects.events[0].1.ty(), "order_paid");
    let again = call(&app, "order_created", r#"{"order_id":0}"#).await;
    assert_eq!(again.commit.effects.events.len(), 2);
}

#[tokio::test]
async fn extractors_read_parts_in_any_order_and_the_last_may_consume() {
    #[derive(Clone)]
    struct Whole {
        number: u32,
    }
    struct Number(u32);
    impl FromRef<Whole> for Number {
        fn from_ref(whole: &Whole) -> Self {
            Self(whole.number)
        }
    }
    #[allow(clippy::too_many_arguments)]
    async fn all(
        Attempt(attempt): Attempt,
        State(Number(number)): State<Number>,
        subject: Subject,
        key: Option<Key>,
        position: Position,
        attributes: Attributes,
        topic: TopicName,
        Json(data): Json<serde_json::Value>,
    ) -> Result<Effects, Fail> {
        assert_eq!((attempt, number, key), (1, 9, None));
        assert_eq!(subject, "s");
        assert_eq!(position.to_string(), "orders/0@7");
        assert_eq!(attributes.get_str("extra"), Some("x"));
        assert_eq!(topic, "orders");
        assert_eq!(data["a"], 1);
        Ok(Effects::default())
    }
    let app = Router::new()
        .on_pattern("orders", "t", all)
        .with_state(Whole { number: 9 })
        .finish()
        .unwrap();
    let input = event("t", r#"{"a":1}"#)
        .to_builder()
        .subject(Subject::new("s").unwrap())
        .extension("extra", ExtensionValue::String("x".into()))
        .build()
        .unwrap();
    let verdict = app.call(delivery(input)).await;
    assert_eq!(verdict.kind, VerdictKind::Handled, "{verdict:?}");
    // Without the subject that it asks for, it is a dead letter.
    let (class, reason, error) = failed(&call(&app, "t", "{}").await);
    assert_eq!(class, FailClass::Undecodable);
    assert_eq!(reason, "undecodable");
    assert_eq!(error, "the event has no subject");
}

#[tokio::test]
async fn the_whole_event_can_be_taken_in_every_form() {
    let app = Router::new()
        .on_pattern("orders", "a", async |event: Event| {
            assert_eq!(event.id(), "e1")
        })
        .on_pattern("orders", "b", async |event: Arc<Event>| {
            assert_eq!(event.id(), "e1")
        })
        .on_pattern("orders", "c", async |it: Delivery| {
            assert_eq!(it.attempt, Attempt(1))
        })
        .on_pattern("orders", "d", async |data: Bytes| assert_eq!(data, "{}"))
        .on_pattern("orders", "e", async |json: Option<Json<u8>>| {
            assert!(json.is_none())
        });
    // Closures have the path of the function they are in, so their ids double.
    let error = app.finish().unwrap_err().to_string();
    assert!(error.contains("two handlers have the id"), "{error}");

    let app = Router::new()
        .on_pattern(
            "orders",
            "a",
            (async |e: Event| assert_eq!(e.id(), "e1")).id("a"),
        )
        .on_pattern(
            "orders",
            "b",
            (async |e: Arc<Event>| assert_eq!(e.id(), "e1")).id("b"),
        )
        .on_pattern(
            "orders",
            "c",
            (async |d: Delivery| assert_eq!(d.attempt.0, 1)).id("c"),
        )
        .on_pattern(
            "orders",
            "d",
            (async |d: Bytes| assert_eq!(d, "{}")).id("d"),
        )
        .on_pattern("orders", "e", (async || ()).id("e"))
        .finish()
        .unwrap();
    for ty in ["a", "b", "c", "d", "e"] {
        let verdict = call(&app, ty, "{}").await;
        assert_eq!(verdict.kind, VerdictKind::Handled, "{ty}: {verdict:?}");
    }
}

#[tokio::test]
async fn each_class_of_failure_has_its_verdict() {
    async fn handler(Json(how): Json<String>) -> Result<(), Fail> {
        match how.as_str() {
            "io" => Err(std::io::Error::other("disk gone"))?,
            "permanent" => return Err(Fail::permanent("no such order")),
            "panic" => panic!("boom {}", 1),
            "slow" => std::future::pending().await,
            _ => {}
        }
        Ok(())
    }
    tokio::time::pause();
    let handler = handler
        .retry(Retry::times(1))
        .timeout(Duration::from_secs(5));
    let app = Router::new().on_pattern("orders", "**", handler.id("h").version("7"));
    let app = app.finish().unwrap();
    let cases = [
        (r#""io""#, FailClass::Transient, true, "disk gone"),
        (
            r#""panic""#,
            FailClass::Panic,
            true,
            "the handler panicked: boom 1",
        ),
        (
            r#""slow""#,
            FailClass::Timeout,
            true,
            "the handler took longer than 5s",
        ),
        (
            r#""permanent""#,
            FailClass::Permanent,
            false,
            "no such order",
        ),
        (
            "not json",
            FailClass::Undecodable,
            false,
            "the data of type \"t\"",
        ),
    ];
    for (data, class, retried, text) in cases {
        let verdict = call(&app, "t", data).await;
        assert_eq!(verdict.kind, VerdictKind::Failed(class), "{data}");
        assert_eq!(verdict.retry.is_some(), retried, "{data}");
        // The last try is final.
        let mut last = delivery(event("t", data));
        last.attempt = Attempt(2);
        let verdict = app.call(last).await;
        assert!(verdict.retry.is_none(), "{data}");
        let Outcome::DeadLetter { failure } = verdict.commit.outcome else {
            panic!("{data}: {verdict:?}");
        };
        assert!(failure.error.starts_with(text), "{data}: {}", failure.error);
        assert_eq!(failure.attempts, 2);
        assert_eq!(failure.handler.as_deref(), Some("h"));
        assert_eq!(failure.version.as_deref(), Some("7"));
    }
    assert_eq!(call(&app, "t", "\"\"").await.kind, VerdictKind::Handled);
}

#[tokio::test]
async fn the_failure_policy_can_be_replaced() {
    async fn handler() -> Result<(), Fail> {
        Err(Fail::transient("no"))
    }
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    let app = Router::new()
        .on_pattern("orders", "*", handler)
        .failure_policy(move |failed: &tidemill::FailedAttempt<'_>| {
            counter.fetch_add(failed.attempt, Ordering::Relaxed);
            Decision::DeadLetter
        })
        .finish()
        .unwrap();
    let verdict = call(&app, "t", "{}").await;
    assert!(matches!(verdict.commit.outcome, Outcome::DeadLetter { .. }));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_policy_or_an_error_that_panics_gives_the_event_up() {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("this error has no text")
        }
    }
    impl std::error::Error for Unspeakable {}
    async fn unspeakable() -> Result<(), Fail> {
        Err(Fail::permanent(Unspeakable))
    }
    async fn fails() -> Result<(), Fail> {
        Err(Fail::transient("no"))
    }
    let app = Router::new().on_pattern("orders", "*", unspeakable);
    let verdict = call(&app.finish().unwrap(), "t", "{}").await;
    let (_, reason, error) = failed(&verdict);
    assert_eq!(reason, "rejected");
    assert!(error.contains("panicked"), "{error}");

    let app = Router::new()
        .on_pattern("orders", "*", fails)
        .failure_policy(|_: &tidemill::FailedAttempt<'_>| -> Decision { panic!("no idea") });
    let verdict = call(&app.finish().unwrap(), "t", "{}").await;
    let (_, _, error) = failed(&verdict);
    assert_eq!(error, "no");
}

#[tokio::test]
async fn a_handler_may_decide_the_outcome_itself() {
    async fn later() -> Outcome {
        let after = Duration::from_secs(60);
        Outcome::Retry { after }
    }
    async fn exactly() -> Commit {
        Commit::ack()
    }
    let app = Router::new()
        .on_pattern("orders", "later", later)
        .on_pattern("orders", "exactly", exactly)
        .finish()
        .unwrap();
    let verdict = call(&app, "later", "{}").await;
    assert!(matches!(verdict.commit.outcome, Outcome::Retry { .. }));
    assert!(verdict.retry.is_none());
    let verdict = call(&app, "exactly", "{}").await;
    assert!(matches!(verdict.commit.outcome, Outcome::Ack));
}

#[tokio::test]
async fn unhandled_types_are_acknowledged_and_counted() {
    let app = Router::new()
        .on_pattern("orders", "known", async || ())
        .finish()
        .unwrap();
    let verdict = call(&app, "unknown", "{}").await;
    assert_eq!(verdict.kind, VerdictKind::Unhandled);
    assert!(matches!(verdict.commit.outcome, Outcome::Ack));
    assert_eq!(app.unhandled(), 1);
}

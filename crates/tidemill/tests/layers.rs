//! tower's own layers, and ours, around handlers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{call, delivery, event};
use tidemill::layer::{CatchPanicLayer, RetryInPlace, TraceLayer};
use tidemill::{App, BoxError, Commit, Delivery, Fail, FailClass, Handler as _, Retry, Router};
use tidemill::{Route, State, Verdict, VerdictKind};
use tokio::sync::Semaphore;
use tower::buffer::BufferLayer;
use tower::layer::layer_fn;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::retry::RetryLayer;
use tower::timeout::TimeoutLayer;
use tower::{ServiceBuilder, ServiceExt as _};

fn class(verdict: &Verdict) -> FailClass {
    match verdict.kind {
        VerdictKind::Failed(class) => class,
        other => panic!("not failed: {other:?}"),
    }
}

/// A handler that waits until it is let go, and counts who is in it.
#[derive(Clone)]
struct Gate {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
    entered: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self {
            inside: Arc::default(),
            most: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
            entered: Arc::new(Semaphore::new(0)),
        }
    }

    async fn pass(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        self.entered.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until so many more have come in.
    async fn wait_for(&self, count: u32) {
        self.entered.acquire_many(count).await.unwrap().forget();
    }

    fn router(&self) -> Router {
        Router::new()
            .on_pattern("orders", "a", pass.id("a"))
            .on_pattern("orders", "b", pass.id("b"))
            .with_state(self.clone())
    }
}

async fn pass(State(gate): State<Gate>) {
    gate.pass().await;
}

fn spawn(app: &App, ty: &str) -> tokio::task::JoinHandle<Verdict> {
    tokio::spawn(app.call(delivery(event(ty, "{}"))))
}

#[tokio::test(start_paused = true)]
async fn a_timeout_layer_makes_a_failure_that_is_tried_again() {
    let gate = Gate::new();
    let app = gate
        .router()
        .layer(TimeoutLayer::new(Duration::from_secs(2)))
        .finish()
        .unwrap();
    let verdict = call(&app, "a", "{}").await;
    assert_eq!(class(&verdict), FailClass::Timeout);
    assert!(verdict.retry.unwrap().counted);
    // The memory of the call that was cut off is used again.
    gate.open.add_permits(1);
    assert_eq!(call(&app, "a", "{}").await.kind, VerdictKind::Handled);
}

#[tokio::test]
async fn a_limit_on_the_router_is_one_for_all_its_handlers() {
    let gate = Gate::new();
    let app = gate.router().layer(ConcurrencyLimitLayer::new(2)).finish();
    let app = app.unwrap();
    let calls: Vec<_> = ["a", "b", "a", "b", "a"].map(|ty| spawn(&app, ty)).into();
    gate.wait_for(2).await;
    gate.open.add_permits(5);
    for call in calls {
        assert_eq!(call.await.unwrap().kind, VerdictKind::Handled);
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_limit_on_a_handler_is_its_own() {
    let gate = Gate::new();
    let limited = pass.id("a").layer(ConcurrencyLimitLayer::new(1));
    let app = Router::new()
        .on_pattern("orders", "a", limited)
        .on_pattern("orders", "b", pass.id("b"))
        .with_state(gate.clone())
        .finish()
        .unwrap();
    let calls: Vec<_> = ["a", "a", "a"].map(|ty| spawn(&app, ty)).into();
    gate.wait_for(1).await;
    let other = spawn(&app, "b");
    gate.wait_for(1).await;
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
    gate.open.add_permits(4);
    for call in calls.into_iter().chain([other]) {
        assert_eq!(call.await.unwrap().kind, VerdictKind::Handled);
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn load_shedding_is_an_overload_and_no_attempt() {
    let gate = Gate::new();
    let shed = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1));
    let app = gate.router().layer(shed).finish().unwrap();
    let first = spawn(&app, "a");
    gate.wait_for(1).await;
    let turned_away = call(&app, "b", "{}").await;
    assert_eq!(class(&turned_away), FailClass::Overloaded);
    assert!(!turned_away.retry.unwrap().counted);
    gate.open.add_permits(1);
    assert_eq!(first.await.unwrap().kind, VerdictKind::Handled);
}

#[tokio::test]
async fn a_buffer_runs_in_its_own_task() {
    let app = Router::new()
        .on_pattern("orders", "a", async || ())
        .layer(BufferLayer::<Delivery>::new(4))
        .finish()
        .unwrap();
    for _ in 0..20 {
        assert_eq!(call(&app, "a", "{}").await.kind, VerdictKind::Handled);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_in_place_tries_transient_failures_only() {
    let tries = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&tries);
    let third_time = move |tidemill::Attempt(attempt): tidemill::Attempt| {
        let counter = Arc::clone(&counter);
        async move {
            assert_eq!(counter.fetch_add(1, Ordering::SeqCst) + 1, attempt);
            match attempt {
                1 => Err(Fail::transient("not yet")),
                2 => panic!("not yet either"),
                _ => Ok(()),
            }
        }
    };
    let layers = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryInPlace::new(Retry::times(5))))
        .layer(CatchPanicLayer);
    let app = Router::new()
        .on_pattern("orders", "a", third_time.id("a"))
        .on_pattern(
            "orders",
            "b",
            (async || Err::<(), _>(Fail::permanent("never"))).id("b"),
        )
        .layer(layers)
        .finish()
        .unwrap();
    assert_eq!(call(&app, "a", "{}").await.kind, VerdictKind::Handled);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let verdict = call(&app, "b", "{}").await;
    assert_eq!(class(&verdict), FailClass::Permanent);
}

#[tokio::test]
async fn a_panic_harms_no_later_call() {
    let first = Arc::new(AtomicU32::new(0));
    let handler = move || {
        let first = Arc::clone(&first);
        async move { assert!(first.fetch_add(1, Ordering::SeqCst) > 0, "the first one") }
    };
    let app = Router::new()
        .on_pattern("orders", "a", handler)
        .layer(TraceLayer)
        .finish()
        .unwrap();
    assert_eq!(class(&call(&app, "a", "{}").await), FailClass::Panic);
    assert_eq!(call(&app, "a", "{}").await.kind, VerdictKind::Handled);
}

#[tokio::test]
async fn any_error_of_a_layer_goes_through_the_failure_policy() {
    let refuse = layer_fn(|route: Route| {
        route.filter(|delivery: Delivery| {
            if delivery.event.ty() == "a" {
                return Err(BoxError::from("not on Mondays"));
            }
            Ok(delivery)
        })
    });
    let app = Router::new()
        .on_pattern("orders", "*", async || ())
        .layer(refuse)
        .retry(0)
        .finish()
        .unwrap();
    let verdict = call(&app, "a", "{}").await;
    assert_eq!(class(&verdict), FailClass::Transient);
    let tidemill::Outcome::DeadLetter { failure } = verdict.commit.outcome else {
        panic!("no dead letter");
    };
    assert_eq!(failure.error, "not on Mondays");
    assert_eq!(call(&app, "b", "{}").await.kind, VerdictKind::Handled);
}

#[tokio::test]
async fn layers_wrap_what_was_added_before_and_the_last_is_outermost() {
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let note = |name: &'static str| {
        let seen = Arc::clone(&seen);
        layer_fn(move |route: Route| {
            let seen = Arc::clone(&seen);
            route.map_request(move |delivery: Delivery| {
                seen.lock().unwrap().push(name);
                delivery
            })
        })
    };
    let app = Router::new()
        .on_pattern("orders", "a", (async || ()).id("a").layer(note("own")))
        .on_pattern("orders", "b", (async || ()).id("b"))
        .layer(note("inner"))
        .layer(note("middle"))
        .on_pattern("orders", "c", (async || ()).id("c"))
        .layer(note("outer"))
        .merge(Router::new().on_pattern("orders", "d", (async || ()).id("d")))
        .finish()
        .unwrap();
    let through = async |ty: &str| {
        assert_eq!(call(&app, ty, "{}").await.kind, VerdictKind::Handled);
        std::mem::take(&mut *seen.lock().unwrap())
    };
    assert_eq!(through("a").await, ["outer", "middle", "inner", "own"]);
    assert_eq!(through("b").await, ["outer", "middle", "inner"]);
    assert_eq!(through("c").await, ["outer"]);
    assert!(through("d").await.is_empty());
}

#[tokio::test]
async fn a_cancelled_call_frees_its_permit_and_its_place() {
    let gate = Gate::new();
    let app = gate.router().layer(ConcurrencyLimitLayer::new(1)).finish();
    let app = app.unwrap();
    let first = spawn(&app, "a");
    gate.wait_for(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    assert_eq!(call(&app, "b", "{}").await.kind, VerdictKind::Handled);
}

#[tokio::test]
async fn a_tower_service_is_a_handler_too() {
    let service = tower::service_fn(|delivery: Delivery| async move {
        match delivery.event.ty().as_str() {
            "good" => Ok(Commit::ack()),
            _ => Err(BoxError::from("not that one")),
        }
    });
    let app = Router::new()
        .on_service("orders", "*", "service", service)
        .layer(ConcurrencyLimitLayer::new(1))
        .retry(0)
        .finish()
        .unwrap();
    assert_eq!(call(&app, "good", "{}").await.kind, VerdictKind::Handled);
    assert_eq!(class(&call(&app, "bad", "{}").await), FailClass::Transient);
    assert_eq!(app.describe()[0].id, "service");
}

//! What fails harms nobody else: errors, panics, timeouts, overload, and a bus in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidemill::core::SettleError;
use tidemill::core::error::{PublishError, PullError, RequestError, Unavailable};
use tidemill::dispatcher::{Attempted, End, Hooks, ServeError, Settled};
use tidemill::{
    Attempt, Effects, Event, Fail, FailClass, Handler as _, Reply, Retry, Router, State, TopicName,
    VerdictKind,
};
use tokio::time::Instant;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use crate::bus::TestBus;
use crate::tools::{Floor, job, publish, start, topic};

/// Waits until as many events as this are settled for good.
async fn settled(bus: &TestBus, count: usize) {
    loop {
        let acknowledged = bus.state().acknowledged.len();
        if acknowledged + bus.dead_letters("workers").len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn acknowledged(bus: &TestBus) -> Vec<u64> {
    let state = bus.state();
    state.acknowledged.iter().map(|(p, _)| p.offset.0).collect()
}

/// Fails by the event's id, as often as it begins with a digit says.
async fn moody(attempt: Attempt, State(floor): State<Floor>, event: Event) -> Result<(), Fail> {
    floor.begin(&event);
    floor.end(&event);
    let (mood, times) = event.id().as_str().split_once('-').unwrap();
    if attempt.0 > times.parse().unwrap() {
        return Ok(());
    }
    match mood {
        "error" => Err(Fail::transient("it rains")),
        "never" => Err(Fail::permanent("it is Sunday")),
        "panic" => panic!("lightning"),
        _ => std::future::pending().await,
    }
}

fn moody_router(floor: &Floor, retries: u32) -> Router {
    let (first, max) = (Duration::from_secs(1), Duration::from_secs(3));
    let retry = Retry::times(retries).backoff(first, max);
    let handler = moody
        .id("moody")
        .version("7")
        .retry(retry)
        .timeout(Duration::from_secs(10));
    Router::new()
        .on_pattern("work", "job", handler)
        .with_state(floor.clone())
}

#[tokio::test(start_paused = true)]
async fn a_failed_event_is_tried_again_in_place_with_growing_waits() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(
        &bus.bus(),
        [job("error-4", "a"), job("ok-0", "a"), job("ok2-0", "b")],
    )
    .await;
    let began = Instant::now();
    let running = start(&bus.bus(), moody_router(&floor, 5), |s| s.concurrency(1));
    settled(&bus, 3).await;
    // 1, 2, 3 and 3 seconds, each with up to a quarter more.
    let took = began.elapsed().as_secs_f64();
    assert!((9.0..11.3).contains(&took), "{took}");
    let order = floor.state().begun;
    let first = "error-4";
    assert_eq!(order, [first, "ok2-0", first, first, first, first, "ok-0"]);
    assert_eq!(
        acknowledged(&bus),
        [2, 0, 1],
        "one worker, and the key waited without it"
    );
    assert_eq!(bus.state().outlived, 4);
    let stats = running.stop().await.stats;
    assert_eq!((stats.failed, stats.retried, stats.handled), (4, 4, 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_handled_becomes_a_dead_letter_and_others_go_on() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let ids = [
        "error-9", "never-9", "panic-9", "hang-9", "ok-0", "panic-1", "hang-1",
    ];
    publish(&bus.bus(), ids.map(|id| job(id, id))).await;
    let running = start(&bus.bus(), moody_router(&floor, 2), |s| s.concurrency(2));
    settled(&bus, 7).await;
    let mut dead = bus.dead_letters("workers");
    dead.sort_by_key(|dead| dead.origin.offset);
    let told: Vec<_> = dead
        .iter()
        .map(|d| {
            (
                d.event.id().as_str(),
                d.failure.reason.as_str(),
                d.failure.attempts,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("error-9", "error", 3),
            ("never-9", "rejected", 1),
            ("panic-9", "panic", 3),
            ("hang-9", "timeout", 3),
        ]
    );
    for dead in &dead {
        let failure = &dead.failure;
        assert_eq!(failure.handler.as_deref(), Some("moody"));
        assert_eq!(failure.version.as_deref(), Some("7"));
        assert!(failure.first.unwrap() <= failure.last.unwrap());
    }
    assert!(dead[2].failure.error.contains("lightning"));
    let mut rest = acknowledged(&bus);
    rest.sort_unstable();
    assert_eq!(rest, [4, 5, 6]);
    let stats = running.stop().await.stats;
    assert_eq!((stats.dead_lettered, stats.acknowledged), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_limit_turns_away_is_not_a_try() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    async fn slow(attempt: Attempt, State(floor): State<Floor>, event: Event) {
        assert_eq!(attempt.0, 1);
        floor.begin(&event);
        tokio::time::sleep(Duration::from_secs(1)).await;
        floor.end(&event);
    }
    let router = Router::new()
        .on_pattern("work", "job", slow.id("slow").retry(0))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(LoadShedLayer::new())
        .with_state(floor.clone());
    publish(&bus.bus(), (0..5).map(|n| job(n, ""))).await;
    let running = start(&bus.bus(), router, |s| s.concurrency(4));
    settled(&bus, 5).await;
    assert_eq!(floor.state().most_at_once, 1);
    let stats = running.stop().await.stats;
    assert_eq!(
        (stats.acknowledged, stats.failed, stats.dead_lettered),
        (5, 0, 0)
    );
    assert!(stats.turned_away > 0);
}

#[tokio::test(start_paused = true)]
async fn staged_effects_of_a_failed_try_are_gone() {
    let bus = TestBus::default();
    let out = TopicName::new("out").unwrap();
    async fn emits(attempt: Attempt, event: Event) -> Result<Effects, Fail> {
        let out = TopicName::new("out").unwrap();
        let staged = Effects {
            events: vec![(out, job(attempt.0, event.id().as_str()))],
            reply: None,
        };
        match attempt.0 {
            3 => Ok(staged),
            _ => Err(Fail::transient("not yet")),
        }
    }
    let router = Router::new().on_pattern("work", "job", emits.id("emits"));
    publish(&bus.bus(), [job("x", "a")]).await;
    let running = start(&bus.bus(), router, |s| s);
    settled(&bus, 1).await;
    let published: Vec<_> = bus.state().topics[&out]
        .iter()
        .map(|e| e.id().to_string())
        .collect();
    assert_eq!(published, ["3"]);
    assert_eq!(running.stop().await.stats.published, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_bus_is_waited_for_and_the_handler_is_not_called_again() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let full = || SettleError::Unavailable(Unavailable::Full("the disk".into()));
    let busy = || SettleError::Effect(PublishError::Unavailable(Unavailable::Overloaded));
    bus.state()
        .settle_errors
        .extend([full(), busy(), full(), SettleError::Stale]);
    publish(&bus.bus(), [job("ok-0", "a"), job("ok2-0", "a")]).await;
    let running = start(&bus.bus(), moody_router(&floor, 0), |s| s);
    settled(&bus, 1).await;
    assert_eq!(
        floor.state().begun,
        ["ok-0", "ok2-0"],
        "each was handled once"
    );
    assert_eq!(acknowledged(&bus), [1]);
    let stats = running.stop().await.stats;
    assert_eq!(
        (stats.stale, stats.acknowledged, stats.unsettled),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn outputs_that_the_bus_refuses_make_a_dead_letter() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let large = PublishError::TooLarge {
        size_bytes: 9,
        max_bytes: 8,
    };
    bus.state()
        .settle_errors
        .push_back(SettleError::Effect(large));
    publish(&bus.bus(), [job("ok-0", "a")]).await;
    let running = start(&bus.bus(), moody_router(&floor, 0), |s| s);
    settled(&bus, 1).await;
    let dead = bus.dead_letters("workers");
    assert_eq!(dead[0].failure.reason, "rejected");
    assert!(dead[0].failure.error.contains("9 bytes are more than"));
    let failure = &dead[0].failure;
    assert_eq!(failure.handler.as_deref(), Some("moody"));
    assert_eq!(failure.version.as_deref(), Some("7"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_done_for_ends_the_dispatcher_with_the_reason() {
    let broken = Unavailable::SyncFailed("EIO".into());
    let errors = [
        SettleError::Unavailable(broken),
        SettleError::Indeterminate("EIO".into()),
        SettleError::Unavailable(Unavailable::Closed),
    ];
    for error in errors {
        let (bus, floor) = (TestBus::default(), Floor::new(0));
        bus.state().settle_errors.push_back(error.clone());
        publish(&bus.bus(), [job("ok-0", "a")]).await;
        let running = start(&bus.bus(), moody_router(&floor, 0), |s| s);
        assert_eq!(running.task.await.unwrap(), Err(ServeError::Settle(error)));
    }
    for error in [PullError::Gone, PullError::Unavailable(Unavailable::Closed)] {
        let (bus, floor) = (TestBus::default(), Floor::new(0));
        bus.state().pull_errors.push_back(error.clone());
        let running = start(&bus.bus(), moody_router(&floor, 0), |s| s);
        assert_eq!(running.task.await.unwrap(), Err(ServeError::Pull(error)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_is_tried_again() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let damaged = PullError::Other("a hiccup".into());
    bus.state().pull_errors.extend([damaged.clone(), damaged]);
    publish(&bus.bus(), [job("ok-0", "a")]).await;
    let running = start(&bus.bus(), moody_router(&floor, 0), |s| s);
    settled(&bus, 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_result_goes_back_to_the_caller() {
    async fn answer(attempt: Attempt, event: Event) -> Result<Reply<String>, Fail> {
        match (event.id().as_str(), attempt.0) {
            ("good", 2) => Ok(Reply("the second try".to_owned())),
            ("good", _) => Err(Fail::transient("once more")),
            _ => Err(Fail::permanent("no such order")),
        }
    }
    let bus = TestBus::default();
    let router = Router::new().on_pattern("work", "job", answer.id("answer"));
    let running = start(&bus.bus(), router, |s| s);
    let ask = |id| {
        let bus = bus.bus();
        async move {
            bus.request(topic(), job(id, "k"), Duration::from_secs(60))
                .await
        }
    };
    let reply = ask("good").await.unwrap();
    assert_eq!(reply.data().unwrap(), "\"the second try\"");
    let error = ask("bad").await.unwrap_err();
    assert!(matches!(&error, RequestError::DeadLettered(why) if why.contains("no such order")));
    running.stop().await;
}

/// Counts what it is told.
#[derive(Default)]
struct Told {
    added: AtomicU32,
    failed: AtomicU32,
    handled: AtomicU32,
    acknowledged: AtomicU32,
}

impl Hooks for Told {
    fn added(&self, events: usize) {
        self.added.fetch_add(events as u32, Ordering::Relaxed);
    }

    fn attempted(&self, attempted: &Attempted<'_>) {
        assert_eq!(attempted.handler.unwrap().id, "moody");
        let counter = match attempted.kind {
            VerdictKind::Failed(FailClass::Transient) => &self.failed,
            VerdictKind::Handled => &self.handled,
            _ => return,
        };
        assert_eq!(
            attempted.again_after.is_some(),
            attempted.kind != VerdictKind::Handled
        );
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn settled(&self, settled: &Settled<'_>) {
        assert_eq!(settled.end, End::Acknowledged);
        assert!(settled.took >= Duration::from_secs(1));
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_are_told_of_everything() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), [job("error-1", "a"), job("error-2", "b")]).await;
    let told = Arc::new(Told::default());
    let hooks = Arc::clone(&told);
    let running = start(&bus.bus(), moody_router(&floor, 2), |s| s.hooks(hooks));
    settled(&bus, 2).await;
    running.stop().await;
    let counts = [&told.added, &told.failed, &told.handled, &told.acknowledged];
    assert_eq!(counts.map(|c| c.load(Ordering::Relaxed)), [2, 3, 2, 2]);
}

struct Faulty;

impl Hooks for Faulty {
    fn attempted(&self, attempted: &Attempted<'_>) {
        assert_ne!(
            attempted.delivery.event.id(),
            &"ok2-0",
            "a fault of the hook"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_outside_of_handlers_ends_the_dispatcher_and_loses_nothing() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(
        &bus.bus(),
        [job("ok-0", "a"), job("ok2-0", "a"), job("ok3-0", "a")],
    )
    .await;
    let running = start(&bus.bus(), moody_router(&floor, 0), |s| {
        s.hooks(Arc::new(Faulty))
    });
    let error = running.task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("a fault of the hook"), "{error}");
    assert_eq!(acknowledged(&bus), [0]);
    assert_eq!(bus.state().abandoned.len(), 2, "the rest was given back");
    assert_eq!(bus.state().held_at_leave, Some(0));
}

//! The end: intake stops, running handlers finish and settle, the rest is given back, then the
//! member leaves.

use std::time::Duration;

use tidemill::{Event, Fail, Handler as _, Retry, Router, State};

use crate::bus::TestBus;
use crate::tools::{Floor, job, publish, start};

async fn pass(State(floor): State<Floor>, event: Event) {
    floor.pass(&event).await;
}

fn router(floor: &Floor) -> Router {
    Router::new()
        .on_pattern("work", "job", pass.id("pass"))
        .with_state(floor.clone())
}

#[tokio::test(start_paused = true)]
async fn running_handlers_finish_and_what_waits_is_given_back() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), (0..10).map(|n| job(n, ""))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(3).queue(8));
    floor.until(|s| s.begun.len() == 3).await;
    running.stop.send(()).unwrap();
    // The queue is closed when what waited is back at the bus.
    while bus.state().abandoned.len() < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bus.state().held_at_leave,
        None,
        "it does not leave before its handlers end"
    );
    floor.open(3);
    let served = running.task.await.unwrap().unwrap();
    assert_eq!((served.stats.acknowledged, served.cancelled), (3, 0));
    assert_eq!(
        floor.state().begun.len(),
        3,
        "nothing was begun after the end"
    );
    assert_eq!(
        bus.state().held_at_leave,
        Some(0),
        "everything was settled or given back"
    );
}

#[tokio::test(start_paused = true)]
async fn handlers_that_do_not_end_are_cancelled_after_the_grace_period() {
    let (bus, floor) = (TestBus::default(), Floor::new(1));
    publish(&bus.bus(), (0..3).map(|n| job(n, ""))).await;
    let grace = Duration::from_secs(5);
    let running = start(&bus.bus(), router(&floor), |s| s.grace(grace));
    floor
        .until(|s| s.begun.len() == 3 && s.ended.len() == 1)
        .await;
    let began = tokio::time::Instant::now();
    let served = running.stop().await;
    assert_eq!(began.elapsed(), grace);
    assert_eq!((served.stats.acknowledged, served.cancelled), (1, 2));
    assert_eq!(bus.state().abandoned.len(), 2);
    assert_eq!(bus.state().held_at_leave, Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_for_another_try_does_not_hold_the_end_up() {
    async fn fails(State(floor): State<Floor>, event: Event) -> Result<(), Fail> {
        floor.begin(&event);
        Err(Fail::transient("not now"))
    }
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let hour = Duration::from_secs(3600);
    let retry = Retry::times(9).backoff(hour, hour);
    let router = Router::new()
        .on_pattern("work", "job", fails.id("fails").retry(retry))
        .with_state(floor.clone());
    publish(&bus.bus(), [job(1, "a"), job(2, "a")]).await;
    let running = start(&bus.bus(), router, |s| s);
    while running.dispatcher.stats().retried == 0 {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    running.stop().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(bus.state().abandoned.len(), 2);
}

#[tokio::test]
async fn a_dropped_dispatcher_gives_everything_back() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    publish(&bus.bus(), (0..10).map(|n| job(n, ""))).await;
    let running = start(&bus.bus(), router(&floor), |s| s.concurrency(3));
    floor.until(|s| s.begun.len() == 3).await;
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    drop(running.dispatcher);
    while bus.state().abandoned.len() < 10 {
        tokio::task::yield_now().await;
    }
}

//! Settlements that the bus does not take at once: how long they wait, how often that is told, and
//! that nothing is lost or held up at the end.

use std::time::Duration;

use tidemill::core::SettleError;
use tidemill::core::error::{PublishError, Unavailable};
use tidemill::dispatcher::{ServeError, Stats};
use tidemill::limits::GRACE_DEFAULT;
use tidemill::{Event, Fail, Handler as _, Router};
use tokio::time::Instant;

use crate::bus::TestBus;
use crate::tools::{Running, job, publish, start};
use crate::warnings;

fn full() -> SettleError {
    SettleError::Unavailable(Unavailable::Full("the disk".into()))
}

fn refused() -> SettleError {
    SettleError::Effect(PublishError::Other("not this one".into()))
}

fn overloaded() -> SettleError {
    SettleError::Unavailable(Unavailable::Overloaded)
}

async fn sunday(event: Event) -> Result<(), Fail> {
    match event.id().as_str() {
        "never" => Err(Fail::permanent("it is Sunday")),
        _ => Ok(()),
    }
}

fn serve(bus: &TestBus) -> Running {
    let handler = sunday.id("sunday").retry(0);
    start(
        &bus.bus(),
        Router::new().on_pattern("work", "job", handler),
        |s| s,
    )
}

/// Waits until the dispatcher says so.
async fn until(running: &Running, there: impl Fn(&Stats) -> bool) {
    while !there(&running.dispatcher.stats()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_delayed_settlements_are_told_once_at_their_beginning_and_once_at_their_end() {
    warnings::forget();
    let bus = TestBus::default();
    bus.state().settle_errors.extend((0..200).map(|_| full()));
    publish(&bus.bus(), (0..50).map(|n| job(n, &n.to_string()))).await;
    let running = serve(&bus);
    until(&running, |stats| stats.settle_delayed == 50).await;
    assert_eq!(running.dispatcher.describe().delayed, 50);
    assert_eq!(warnings::told().len(), 1, "{:?}", warnings::told());
    until(&running, |stats| stats.acknowledged == 50).await;
    let told = warnings::told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("settling is delayed"), "{told:?}");
    assert!(told[1].contains("no longer delayed"), "{told:?}");
    assert!(told[1].contains("events=50 tries=200 "), "{told:?}");
    assert_eq!(running.dispatcher.describe().delayed, 0);
    let stats = running.stop().await.stats;
    assert_eq!((stats.settle_delayed, stats.settle_retried), (50, 200));
}

#[tokio::test(start_paused = true)]
async fn delays_that_come_and_go_are_not_told_each_time() {
    warnings::forget();
    let bus = TestBus::default();
    let running = serve(&bus);
    for n in 1..=100 {
        bus.state().settle_errors.push_back(full());
        publish(&bus.bus(), [job(n, "")]).await;
        until(&running, |stats| stats.acknowledged == n).await;
    }
    // A hundred delays of some twenty milliseconds each are less than the gap between warnings.
    assert_eq!(warnings::told().len(), 2, "{:?}", warnings::told());
    tokio::time::sleep(Duration::from_secs(10)).await;
    bus.state().settle_errors.push_back(full());
    publish(&bus.bus(), [job(101, "")]).await;
    until(&running, |stats| stats.acknowledged == 101).await;
    let told = warnings::told();
    assert!(told[3].contains("events=100 tries=100 "), "{told:?}");
    assert_eq!(running.stop().await.stats.settle_delayed, 101);
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_begins_soon_after_another_is_told_when_it_lasts() {
    warnings::forget();
    let bus = TestBus::default();
    let running = serve(&bus);
    for (n, errors) in [(1, 1), (2, 30)] {
        bus.state()
            .settle_errors
            .extend((0..errors).map(|_| full()));
        publish(&bus.bus(), [job(n, "")]).await;
        until(&running, |stats| stats.acknowledged == n).await;
    }
    let told = warnings::told();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[3].contains("events=1 tries=30 "), "{told:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_dead_letter_waits_longer_each_time_and_is_kept() {
    warnings::forget();
    let bus = TestBus::default();
    bus.state().settle_errors.extend((0..12).map(|_| refused()));
    publish(&bus.bus(), [job("never", "a")]).await;
    let began = Instant::now();
    let running = serve(&bus);
    until(&running, |stats| stats.dead_lettered == 1).await;
    // 20 ms doubled seven times, then four times 5 s; each with up to a quarter more.
    let took = began.elapsed().as_secs_f64();
    assert!((25.1..31.5).contains(&took), "{took}");
    assert_eq!(bus.state().settlements, 13);
    let told = warnings::told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("refused and tried again"), "{told:?}");
    assert!(told[0].contains("not this one"), "{told:?}");
    assert_eq!(bus.dead_letters("workers").len(), 1);
    assert_eq!(running.stop().await.stats.settle_retried, 12);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_can_never_be_kept_ends_the_dispatcher_and_says_which() {
    let too_large = SettleError::Effect(PublishError::TooLarge {
        size_bytes: 9,
        max_bytes: 8,
    });
    let bus = TestBus::default();
    bus.state().settle_errors.push_back(too_large.clone());
    publish(&bus.bus(), [job("never", "a")]).await;
    let running = serve(&bus);
    let error = running.task.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("work/0@0"), "{text}");
    match error {
        ServeError::DeadLetter { position, error } => {
            assert_eq!((position.offset.0, error), (0, too_large));
        }
        other => panic!("{other}"),
    }
    assert_eq!(bus.state().abandoned.len(), 1, "the event was not lost");
}

#[tokio::test(start_paused = true)]
async fn what_a_busy_bus_takes_in_a_moment_is_settled_during_the_drain() {
    let bus = TestBus::default();
    bus.state()
        .settle_errors
        .extend((0..90).map(|_| overloaded()));
    publish(&bus.bus(), (0..9).map(|n| job(n, &n.to_string()))).await;
    let running = serve(&bus);
    until(&running, |stats| stats.settle_delayed == 9).await;
    let served = running.stop().await;
    assert_eq!(served.stats.acknowledged, 9);
    assert_eq!((served.stats.unsettled, served.cancelled), (0, 0));
    assert_eq!(bus.state().abandoned.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_stays_busy_holds_the_end_up_for_the_grace_period_and_no_longer() {
    let bus = TestBus::default();
    bus.state()
        .settle_errors
        .extend((0..10_000).map(|_| overloaded()));
    publish(&bus.bus(), (0..9).map(|n| job(n, &n.to_string()))).await;
    let running = serve(&bus);
    until(&running, |stats| stats.settle_delayed == 9).await;
    let began = Instant::now();
    let served = running.stop().await;
    assert_eq!(began.elapsed(), GRACE_DEFAULT);
    assert_eq!((served.stats.acknowledged, served.cancelled), (0, 9));
    assert_eq!(bus.state().abandoned.len(), 9);
    assert_eq!(bus.state().held_at_leave, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_ends_at_once_although_settlements_wait_for_somebody() {
    for error in [full(), refused()] {
        let bus = TestBus::default();
        bus.state()
            .settle_errors
            .extend((0..1000).map(|_| error.clone()));
        publish(&bus.bus(), (0..9).map(|n| job(n, &n.to_string()))).await;
        publish(&bus.bus(), [job("never", "never")]).await;
        let running = serve(&bus);
        // All of them wait for seconds by now.
        until(&running, |stats| stats.settle_retried >= 90).await;
        let began = Instant::now();
        let stats = running.stop().await.stats;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(stats.unsettled, 10);
        assert_eq!(bus.state().abandoned.len(), 10);
        assert_eq!(bus.state().held_at_leave, Some(0));
    }
}

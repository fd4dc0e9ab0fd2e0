//! What is refused at the start, and what can be told about a dispatcher.

use tidemill::core::bus::Support;
use tidemill::{BuildError, Event, Handler as _, Order, Router, ServeError, serve};

use crate::bus::TestBus;
use crate::tools::{Floor, job, publish, start};

async fn nothing(_: Event) {}

fn router() -> Router {
    Router::new().on_pattern("work", "job", nothing.id("nothing").version("3"))
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_to_change() {
    let bus = TestBus::default();
    let error = serve(bus.bus(), router()).build().unwrap_err();
    assert_eq!(error, ServeError::NoGroup);
    let error = serve(bus.bus(), router()).group("").build().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a group name has 1 to 255 bytes")
    );
    let error = serve(bus.bus(), Router::new())
        .group("g")
        .await
        .unwrap_err();
    assert_eq!(error, ServeError::Build(BuildError::Empty));

    let needs = Router::new().on_pattern("work", "job", nothing.id("n").needs(Order::PerKey));
    let error = serve(bus.bus(), needs).group("g").ordering(Order::None);
    let error = error.build().unwrap_err().to_string();
    assert!(error.contains("\"n\" needs the order PerKey"), "{error}");

    bus.state().without_order = true;
    assert_eq!(bus.bus().guarantees().order_per_key, Support::Refused);
    let error = serve(bus.bus(), router()).group("g").build().unwrap_err();
    assert!(error.to_string().contains("does not give order per key"));
    let plan = serve(bus.bus(), router()).group("g").ordering(Order::None);
    assert!(plan.build().is_ok());
}

#[tokio::test]
async fn a_dispatcher_tells_about_itself_and_runs_once() {
    let bus = TestBus::default();
    let running = start(&bus.bus(), router(), |s| s.name("front").concurrency(7));
    let info = running.dispatcher.describe();
    assert_eq!(
        (info.name.as_str(), info.group.as_str()),
        ("front", "workers")
    );
    assert_eq!((info.queue_len, info.running, info.concurrency), (0, 0, 7));
    assert_eq!(
        (
            info.handlers[0].id.as_str(),
            info.handlers[0].version.as_str()
        ),
        ("nothing", "3")
    );
    assert_eq!(info.id, running.dispatcher.id());
    let other = serve(bus.bus(), router()).group("workers").build().unwrap();
    assert_ne!(other.id(), running.dispatcher.id());
    assert_eq!(other.name(), "workers");
    publish(&bus.bus(), [job(1, "")]).await;
    while running.dispatcher.stats().acknowledged == 0 {
        tokio::task::yield_now().await;
    }
    let again = running.dispatcher.run(async {}).await;
    assert_eq!(again, Err(ServeError::Started));
    running.stop().await;
}

#[tokio::test]
async fn serving_ends_by_its_own_shutdown() {
    let (bus, floor) = (TestBus::default(), Floor::new(0));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = serve(bus.bus(), router())
        .group("workers")
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        });
    stop.send(()).unwrap();
    let served = serving.await.unwrap();
    assert_eq!(served.stats.acknowledged, 0);
    assert_eq!(floor.state().begun.len(), 0);
}

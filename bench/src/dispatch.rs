//! What a small JSON event costs in instructions and allocations: one call of a handler, from a
//! delivery to its verdict, without a bus; and the whole way through a dispatcher, from a bus
//! that costs nothing and back to it (`served`, keys on different lanes).
//!
//! `cargo run --release -p tidemill-bench --bin dispatch` prints a table. Instructions are
//! counted by valgrind's callgrind, which must be installed: each case runs with two numbers of
//! calls, and the difference is divided by the difference of the numbers.

use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::layer::{CatchPanicLayer, TraceLayer};
use tidemill::{
    Attempt, Data, Delivery, Emit, Event, EventId, EventType, GroupName, Json, Key, Message,
    Offset, Partition, Position, Router, Source, TopicName, VerdictKind,
};
use tower::ServiceBuilder;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

mod counter;
mod null_bus;

use null_bus::NullBus;

const CASES: [&str; 9] = [
    "bytes",
    "bare",
    "json",
    "layers",
    "stack",
    "emit",
    "served-bytes",
    "served-bare",
    "served-layers",
];
/// Keys that the events of the `served` cases have.
const KEYS: usize = 100;
const FEW: u64 = 2_000;
const MANY: u64 = 4_000;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "orders", key = "order_id")]
struct OrderPaid {
    order_id: u64,
    cents: u32,
    express: bool,
}

async fn take(Data(order): Data<OrderPaid>) {
    black_box(order.order_id);
}

async fn take_json(Json(order): Json<OrderPaid>) {
    black_box(order.order_id);
}

async fn take_bytes(data: tidemill::Bytes) {
    black_box(data.len());
}

async fn emit(Data(order): Data<OrderPaid>) -> Emit<OrderPaid> {
    Emit(order)
}

fn router(case: &str) -> Result<Router, Box<dyn Error>> {
    Ok(match case {
        "bytes" => Router::new().on_pattern("orders", "order_*", take_bytes),
        "bare" => Router::new().on(take),
        "json" => Router::new().on_pattern("orders", "order_*", take_json),
        "layers" => Router::new()
            .on(take)
            .layer(CatchPanicLayer)
            .layer(TimeoutLayer::new(Duration::from_secs(5)))
            .layer(ConcurrencyLimitLayer::new(64))
            .layer(TraceLayer),
        // The same four, erased together.
        "stack" => Router::new().on(take).layer(
            ServiceBuilder::new()
                .layer(TraceLayer)
                .layer(ConcurrencyLimitLayer::new(64))
                .layer(TimeoutLayer::new(Duration::from_secs(5)))
                .layer(CatchPanicLayer),
        ),
        "emit" => Router::new().on(emit),
        other => return Err(format!("unknown case {other:?}; one of {CASES:?}").into()),
    })
}

fn delivery(key: Option<usize>) -> Result<Delivery, Box<dyn Error>> {
    let id = EventId::new("019d2c5e-7c1a-7d27-9c1f-3a5d4b6e8f10")?;
    let mut event = Event::builder(id, Source::new("/bench")?, EventType::new("order_paid")?).data(
        "application/json",
        &br#"{"order_id":123456,"cents":1999,"express":true}"#[..],
    );
    if let Some(key) = key {
        event = event.key(&Key::new(key.to_string())?);
    }
    let event = event.build()?;
    Ok(Delivery {
        event: Arc::new(event),
        position: Position {
            topic: TopicName::new("orders")?,
            partition: Partition(0),
            offset: Offset(42),
        },
        attempt: Attempt(1),
        group: GroupName::new("billing")?,
    })
}

/// Calls so often, and returns the allocations of the calls.
fn run(case: &str, calls: u64) -> Result<u64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let _entered = runtime.enter();
    if let Some(case) = case.strip_prefix("served-") {
        return runtime.block_on(serve(case, calls));
    }
    let app = router(case)?.finish()?;
    let delivery = delivery(None)?;
    let one = || match app.call(delivery.clone()).now_or_never() {
        Some(verdict) if verdict.kind == VerdictKind::Handled => Ok(()),
        other => Err(format!("the call did not end well: {other:?}")),
    };
    one()?;
    let before = counter::allocations();
    for _ in 0..calls {
        one()?;
    }
    Ok(counter::allocations() - before)
}

/// Serves so many events, and returns the allocations from the first event to the last
/// settlement, those of the start included.
async fn serve(case: &str, events: u64) -> Result<u64, Box<dyn Error>> {
    let given: Result<Vec<_>, _> = (0..KEYS).map(|key| delivery(Some(key))).collect();
    let (bus, counts) = NullBus::open(given?, events);
    let dispatcher = tidemill::serve(bus, router(case)?).group("bench").build()?;
    let before = counter::allocations();
    let mut acknowledged = 0;
    dispatcher
        .run(async { acknowledged = counts.all().await })
        .await?;
    match acknowledged == events {
        true => Ok(counter::allocations() - before),
        false => Err(format!("{acknowledged} of {events} events were acknowledged").into()),
    }
}

/// The instructions of this program for `calls` calls, as callgrind counts them.
fn instructions(case: &str, calls: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([case, &calls.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind ({error}); install it"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1));
    let count = line.ok_or_else(|| format!("valgrind counted nothing: {text}"))?;
    Ok(count.trim().parse()?)
}

fn table() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<16}{:>20}{:>20}",
        "case", "instructions/event", "allocations/event"
    );
    for case in CASES {
        let more = instructions(case, MANY)? - instructions(case, FEW)?;
        let allocations = (run(case, MANY)? - run(case, FEW)?) as f64 / (MANY - FEW) as f64;
        println!("{case:<16}{:>20}{allocations:>20.2}", more / (MANY - FEW));
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [] => table(),
        [case, calls] => calls
            .parse()
            .map_err(Box::from)
            .and_then(|calls| run(case, calls).map(drop)),
        _ => Err("no arguments for the table, or a case and a number of calls".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! What one call of a handler costs in instructions and allocations: from a delivery of a small
//! JSON event to its verdict, without a bus.
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
    App, Attempt, Data, Delivery, Emit, Event, EventId, EventType, GroupName, Json, Message,
    Offset, Partition, Position, Router, Source, TopicName, VerdictKind,
};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;

mod counter;

const CASES: [&str; 5] = ["bytes", "bare", "json", "layers", "emit"];
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

fn app(case: &str) -> Result<App, Box<dyn Error>> {
    let router = match case {
        "bytes" => Router::new().on_pattern("orders", "order_*", take_bytes),
        "bare" => Router::new().on(take),
        "json" => Router::new().on_pattern("orders", "order_*", take_json),
        "layers" => Router::new()
            .on(take)
            .layer(CatchPanicLayer)
            .layer(TimeoutLayer::new(Duration::from_secs(5)))
            .layer(ConcurrencyLimitLayer::new(64))
            .layer(TraceLayer),
        "emit" => Router::new().on(emit),
        other => return Err(format!("unknown case {other:?}; one of {CASES:?}").into()),
    };
    Ok(router.finish()?)
}

fn delivery() -> Result<Delivery, Box<dyn Error>> {
    let id = EventId::new("019d2c5e-7c1a-7d27-9c1f-3a5d4b6e8f10")?;
    let event = Event::builder(id, Source::new("/bench")?, EventType::new("order_paid")?)
        .data(
            "application/json",
            &br#"{"order_id":123456,"cents":1999,"express":true}"#[..],
        )
        .build()?;
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
    let app = app(case)?;
    let delivery = delivery()?;
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
        "{:<10}{:>20}{:>20}",
        "case", "instructions/call", "allocations/call"
    );
    for case in CASES {
        let more = instructions(case, MANY)? - instructions(case, FEW)?;
        let allocations = run(case, MANY)? as f64 / MANY as f64;
        println!("{case:<10}{:>20}{allocations:>20.2}", more / (MANY - FEW));
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

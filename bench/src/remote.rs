//! How many events a second a handler takes that returns one for each, over the embedded broker
//! and over a server in another process: the same handler, the same broker, the same disk.
//!
//! `cargo run --release -p tidemill-bench --bin remote -- DIR [EVENTS]` runs both in turn, three
//! times, in folders under DIR, which it removes again, and prints medians and their ratio.
//! Settlement and returned event are one commit that is synced (`every_commit`), in both.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::broker::Broker;
use tidemill::{Bus, BusExt, Data, Emit, Message, Router, State};
use tidemill_server::{Config, Server};
use tokio::sync::Notify;

const RUNS: usize = 3;
const EVENTS_DEFAULT: usize = 50_000;
/// Different keys, so that order does not bound the concurrency.
const KEYS: usize = 1_000;
const CONCURRENCY: usize = 256;

/// Events a second that were published and that were handled.
type Figures = (f64, f64);

/// One of both.
type Of = fn(&Figures) -> f64;

type Failed = Box<dyn Error + Send + Sync>;

#[derive(Message, Serialize, Deserialize, JsonSchema, Clone)]
#[message(type = "order_created", topic = "orders", key = "customer")]
struct OrderCreated {
    order_id: u64,
    customer: u64,
    cents: u32,
}

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "payments", key = "customer")]
struct OrderPaid {
    order_id: u64,
    customer: u64,
}

#[derive(Clone)]
struct Progress {
    left: Arc<AtomicUsize>,
    done: Arc<Notify>,
}

async fn charge(
    State(progress): State<Progress>,
    Data(order): Data<OrderCreated>,
) -> Emit<OrderPaid> {
    if progress.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        progress.done.notify_one();
    }
    Emit(OrderPaid {
        order_id: order.order_id,
        customer: order.customer,
    })
}

/// Publishes the orders, then has them handled; answers events a second of both.
async fn measure(bus: &Bus, events: usize) -> Result<Figures, Failed> {
    let begun = Instant::now();
    for first in (0..events).step_by(500) {
        let orders: Vec<_> = (first..events.min(first + 500))
            .map(|n| OrderCreated {
                order_id: n as u64,
                customer: (n % KEYS) as u64,
                cents: 1999,
            })
            .collect();
        bus.send_all(&orders).await?;
    }
    let published = per_second(events, begun.elapsed());
    let progress = Progress {
        left: Arc::new(AtomicUsize::new(events)),
        done: Arc::new(Notify::new()),
    };
    let done = Arc::clone(&progress.done);
    let router = Router::new().on(charge).with_state(progress);
    let begun = Instant::now();
    tidemill::serve(bus.clone(), router)
        .group("billing")
        .concurrency(CONCURRENCY)
        .with_graceful_shutdown(async move { done.notified().await })
        .await?;
    let took = begun.elapsed();
    let made = bus.topics().await?;
    let made = made.iter().filter(|topic| topic.topic == "payments");
    let made: u64 = made
        .flat_map(|t| &t.partitions)
        .map(|p| p.end.0 - p.earliest.0)
        .sum();
    if made != events as u64 {
        return Err(format!("{events} events were handled and {made} came out").into());
    }
    Ok((published, per_second(events, took)))
}

fn per_second(events: usize, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server in another process.
struct Other(Child);

impl Other {
    fn start(folder: &Path) -> Result<(Self, String), Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--serve")
            .arg(folder)
            .stdout(Stdio::piped())
            .stdin(Stdio::piped());
        let mut child = Self(command.spawn()?);
        let out = child.0.stdout.take().ok_or("the server has no output")?;
        let mut address = String::new();
        BufReader::new(out).read_line(&mut address)?;
        Ok((child, format!("tidemill://{}", address.trim())))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serve(folder: &Path) -> Result<(), Failed> {
    let broker = Broker::open(folder).await?;
    let server = Server::bind(broker, Config::at(([127, 0, 0, 1], 0).into())).await?;
    println!("{}", server.http_addr());
    std::io::stdout().flush()?;
    server.run(std::future::pending()).await;
    Ok(())
}

async fn run(dir: &Path, events: usize) -> Result<(), Failed> {
    let mut figures: [Vec<Figures>; 2] = [Vec::new(), Vec::new()];
    for run in 0..RUNS {
        let folder = Folder(dir.join(format!("embedded-{run}")));
        let broker = Broker::open(&folder.0).await?;
        figures[0].push(measure(&broker.bus(), events).await?);
        broker.close().await;
        drop(folder);
        let folder = Folder(dir.join(format!("remote-{run}")));
        let (other, address) = Other::start(&folder.0)?;
        figures[1].push(measure(&tidemill::open(address).await?, events).await?);
        drop(other);
    }
    let median = |figures: &[Figures], of: Of| {
        let mut all: Vec<f64> = figures.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    println!("events a second, median of {RUNS} runs of {events} events, {CONCURRENCY} handlers");
    println!("| | embedded | remote | remote / embedded |");
    println!("|---|---|---|---|");
    let rows: [(&str, Of); 2] = [
        ("publish, 500 a call", |f| f.0),
        ("handle, one event returned", |f| f.1),
    ];
    for (name, of) in rows {
        let (embedded, remote) = (median(&figures[0], of), median(&figures[1], of));
        println!(
            "| {name} | {embedded:.0} | {remote:.0} | {:.0} % |",
            remote / embedded * 100.0
        );
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["--serve", folder] => serve(Path::new(folder)).await,
        [dir] => run(Path::new(dir), EVENTS_DEFAULT).await,
        [dir, events] => match events.parse() {
            Ok(events) => run(Path::new(dir), events).await,
            Err(_) => Err("EVENTS is a whole number".into()),
        },
        _ => Err("say where: cargo run --release -p tidemill-bench --bin remote -- DIR".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remote: {error}");
            ExitCode::FAILURE
        }
    }
}

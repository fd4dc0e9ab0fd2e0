//! What the whole shop does: its seven services on one bus in a folder, each with its database, and
//! buyers at its HTTP door who create, pay and confirm; a simulated carrier ships at once.
//!
//! `cargo run --release -p tidemill-bench --bin shop -- DIR [SECONDS] [BUYERS]` prints the orders
//! that were shipped a second, the time from `POST /order/create` until the order is told to be
//! shipped, and the processor time and memory of it all, buyers included. Every commit of log and
//! databases is synced. DIR must be new.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tidemill::{Bus, BusExt as _, Message as _, TopicName};
use tidemill_shop::database::Place;
use tidemill_shop::events::{OrderStatus, OrderUpdated, PriceChanged};
use tidemill_shop::http;
use tidemill_shop::logistics::Carrier;
use tidemill_shop::money::Pence;
use tidemill_shop::shop::{Shop, ShopOptions};
use tidemill_shop::stock::Opening;
use tidemill_shop::tail::Tail;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Longest time that is told apart, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Different products, each bought by many.
const PRODUCTS: i64 = 100;

/// Longest wait for the last orders to be shipped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Orders by when their creation was asked for, and the times of those that were shipped.
struct Times {
    begun: HashMap<i64, Instant>,
    shipped: HashMap<i64, Instant>,
    took: Histogram<u64>,
    created: Histogram<u64>,
}

type Shared = Arc<Mutex<Times>>;

fn locked(times: &Shared) -> std::sync::MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Times {
    fn new() -> Fallible<Self> {
        Ok(Self {
            begun: HashMap::new(),
            shipped: HashMap::new(),
            took: Histogram::new_with_bounds(1, LONGEST_US, 3)?,
            created: Histogram::new_with_bounds(1, LONGEST_US, 3)?,
        })
    }

    /// Both ends may be known first.
    fn meet(&mut self, order: i64) {
        if let (Some(begun), Some(shipped)) = (self.begun.get(&order), self.shipped.get(&order)) {
            let took = shipped.saturating_duration_since(*begun).as_micros();
            self.took
                .saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
            self.begun.remove(&order);
            self.shipped.remove(&order);
        }
    }
}

/// A connection that asks one thing after another.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: SocketAddr) -> Fallible<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    fn post(&mut self, path: &str, body: &Value) -> Fallible<(u16, Value)> {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let code = line.split(' ').nth(1).ok_or("no answer")?.parse()?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((code, serde_json::from_slice(&body)?))
    }

    /// One order of one user: created, paid, confirmed.
    fn buy(&mut self, user: i64, times: &Shared) -> Fallible<()> {
        let products = json!([{"product_id": 1 + user % PRODUCTS, "quantity": 1}]);
        let wanted = json!({"user_id": user, "products": products});
        let begun = Instant::now();
        let (code, created) = self.post("/order/create", &wanted)?;
        let order = created.get("order_id").and_then(Value::as_i64);
        let order = order.filter(|_| code == 201);
        let order = order.ok_or_else(|| format!("{code} {created}"))?;
        {
            let mut times = locked(times);
            let took = u64::try_from(begun.elapsed().as_micros())?;
            times.created.saturating_record(took);
            times.begun.insert(order, begun);
            times.meet(order);
        }
        let named = json!({"order_id": order});
        for path in ["/order/pay", "/order/confirm"] {
            let (code, answer) = self.post(path, &named)?;
            if code != 200 {
                return Err(format!("{path}: {code} {answer}").into());
            }
        }
        Ok(())
    }
}

/// Hears of orders that are shipped.
async fn hear(mut tail: Tail, times: Shared) {
    while let Ok(events) = tail.next().await {
        let now = Instant::now();
        let updated = events
            .iter()
            .filter(|event| event.ty().as_str() == OrderUpdated::TYPE);
        for event in updated {
            let data = event.data().map(AsRef::as_ref).unwrap_or_default();
            if let Ok(order) = OrderUpdated::decode(data)
                && order.status == OrderStatus::Shipped
            {
                let mut times = locked(&times);
                times.shipped.insert(order.order_id, now);
                times.meet(order.order_id);
            }
        }
    }
}

async fn products(bus: &Bus) -> Fallible<()> {
    for product_id in 1..=PRODUCTS {
        let price = PriceChanged {
            product_id,
            version: 1,
            sku: format!("B{product_id}"),
            name: format!("THING {product_id}"),
            price_pence: Pence(100 + product_id),
            opening: None,
            supply: None,
        };
        bus.send(&price).await?;
    }
    Ok(())
}

/// Processor time of this process so far, in seconds, and its memory in MiB; `None` where the
/// system has no /proc.
fn used() -> Option<(f64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // The 14th and 15th field, in hundredths of a second on Linux.
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some((ticks as f64 / 100.0, kib / 1024))
}

async fn run(folder: &Path, time: Duration, buyers: i64) -> Fallible<()> {
    if folder.exists() {
        return Err(format!("{} is there; name a new folder", folder.display()).into());
    }
    let bus = tidemill::open(folder.join("bus").to_string_lossy()).await?;
    let options = ShopOptions {
        opening: Opening {
            seed: 1,
            least: 1_000_000,
            most: 1_000_000,
        },
        carrier: Carrier::AtOnce,
        ..ShopOptions::default()
    };
    let shop = Shop::open(&Place::Folder(folder.join("shop")), options)?;
    let serving = shop.serve(&bus);
    products(&bus).await?;
    let times: Shared = Arc::new(Mutex::new(Times::new()?));
    let tail = Tail::at_end(&bus, TopicName::new(OrderUpdated::TOPIC)?).await?;
    let hearing = tokio::spawn(hear(tail, Arc::clone(&times)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async { drop(stopped.await) };
    let door = tokio::spawn(http::serve(bus.clone(), listener, until));
    // The first orders may come before their products' prices are known everywhere.
    let mut first = Client::new(address)?;
    while first.buy(0, &times).is_err() {}
    *locked(&times) = Times::new()?;

    let before = used();
    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..buyers)
        .map(|buyer| {
            let (times, over) = (Arc::clone(&times), Arc::clone(&over));
            std::thread::spawn(move || -> Fallible<u64> {
                let mut client = Client::new(address)?;
                let mut bought = 0;
                while !over.load(Ordering::Relaxed) {
                    client.buy(1 + buyer + buyers * i64::try_from(bought)?, &times)?;
                    bought += 1;
                }
                Ok(bought)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut bought = 0;
    for thread in threads {
        bought += thread.join().map_err(|_| "a buyer panicked")??;
    }
    let waiting = Instant::now();
    while locked(&times).took.len() < bought && waiting.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
    tell(&times, bought, begun.elapsed(), before)?;
    // The door may be gone already.
    let _ = stop.send(());
    door.await??;
    hearing.abort();
    serving.stop().await?;
    shop.close().await;
    Ok(())
}

fn tell(times: &Shared, bought: u64, took: Duration, before: Option<(f64, u64)>) -> Fallible<()> {
    let times = locked(times);
    if times.took.len() < bought {
        return Err(format!("{bought} were bought and {} shipped", times.took.len()).into());
    }
    let seconds = took.as_secs_f64();
    println!(
        "orders shipped     {bought}, {:.0} a second",
        bought as f64 / seconds
    );
    for (name, of) in [
        ("create to shipped", &times.took),
        ("POST create alone", &times.created),
    ] {
        let millis = |quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
        let (p50, p99) = (millis(0.5), millis(0.99));
        println!("{name}  p50 {p50:.1} ms, p99 {p99:.1} ms");
    }
    if let (Some((cpu_before, _)), Some((cpu, mib))) = (before, used()) {
        let each = (cpu - cpu_before) * 1000.0 / bought.max(1) as f64;
        println!("processor time     {each:.2} ms an order; memory {mib} MiB");
    }
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: i64| {
        let word = words.get(at);
        word.map_or(Some(usual), |word| word.parse().ok())
    };
    let (Some(folder), Some(seconds), Some(buyers)) = (words.first(), number(1, 10), number(2, 16))
    else {
        eprintln!("usage: shop DIR [SECONDS] [BUYERS]");
        return ExitCode::from(2);
    };
    let time = Duration::from_secs(seconds.unsigned_abs());
    let done = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&PathBuf::from(folder), time, buyers.max(1))));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

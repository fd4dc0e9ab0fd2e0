//! `kill -9` at ten random moments under load: a child process runs the whole shop on disk, with
//! generated orders and with buyers who create, pay and confirm through HTTP. After each kill
//! another child goes on with the same data. In the end every order that was acknowledged is there
//! once, and orders, stock, money and log add up.
//!
//! The moments and the load are printed; `SHOP_KILL_SEED` repeats the moments (not the machine's
//! timing).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::disk_bus;
use support::http::Client;
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoOptions, Format, Http, Load};
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::Traffic;
use tidemill_shop::stock::Opening;

const KILLS: u64 = 10;
const BUYERS: usize = 8;
const TRAFFIC_RATE: u32 = 150;
/// Longest wait for one step, and for the first one of a round.
const STEP: Duration = Duration::from_secs(20);
const FOLDER: &str = "SHOP_KILL_FOLDER";
const RATE: &str = "SHOP_KILL_RATE";

/// Runs the shop where it is started as the child; does nothing in an ordinary test run.
#[test]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let rate = env::var(RATE).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let success = runtime.block_on(run_child(PathBuf::from(folder), rate));
    std::process::exit(if success { 0 } else { 1 });
}

async fn run_child(folder: PathBuf, rate: u32) -> bool {
    let bus = disk_bus(&folder).await;
    let opening = Opening {
        seed: 1,
        least: 10_000_000,
        most: 10_000_000,
    };
    let options = DemoOptions {
        place: Place::Folder(folder.join("shop")),
        shop: ShopOptions {
            opening,
            ..ShopOptions::default()
        },
        load: match rate {
            0 => Load::None,
            rate => Load::Traffic {
                traffic: Traffic::default(),
                rate,
            },
        },
        run_for: None,
        http: Some(Http {
            address: "127.0.0.1:0".parse().unwrap(),
            or_free: false,
        }),
        format: Format::Json,
    };
    // The parent closes the input when the child is to end by itself.
    let until = async {
        tokio::task::spawn_blocking(|| std::io::stdin().lines().count())
            .await
            .unwrap();
    };
    let report = demo::run(bus, options, &mut std::io::stdout(), until).await;
    report.unwrap().is_success()
}

/// A child and what it says.
struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Running {
    fn start(folder: &Path, rate: u32) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(FOLDER, folder)
            .env(RATE, rate.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the child ended");
            if let Some((_, said)) = line.split_once(r#"{"shop":"http://"#) {
                break said.trim_end_matches("\"}\n").parse().unwrap();
            }
        };
        Self {
            child,
            input,
            output,
            address,
        }
    }

    fn kill(mut self) {
        // On Unix this is SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets the child end by itself; its summary.
    fn finish(mut self) -> Value {
        drop(self.input);
        let mut summary = None;
        for line in self.output.lines() {
            let line = line.unwrap();
            if line.starts_with(r#"{"summary""#) {
                summary = Some(serde_json::from_str(&line).unwrap());
            }
        }
        let code = self.child.wait().unwrap();
        let summary: Value = summary.expect("the child says a summary before it ends");
        assert!(code.success(), "{summary:#}");
        summary["summary"].clone()
    }
}

/// How far a buyer got, as far as the shop acknowledged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Step {
    Asked,
    Created(i64),
    Paid(i64),
    Confirmed(i64),
}

/// One order of one user of its own.
#[derive(Clone, Copy, Debug)]
struct Purchase {
    user: i64,
    step: Step,
}

/// What all buyers share.
#[derive(Default)]
struct Ledger {
    next_user: AtomicI64,
    /// Orders that wait for their next step, and those where nothing more is to be done.
    open: Mutex<VecDeque<Purchase>>,
    done: Mutex<Vec<Purchase>>,
    acknowledged: Mutex<u64>,
    /// Woken at each acknowledged step.
    step: Condvar,
}

impl Ledger {
    /// Goes on with an open order, or begins a new one.
    fn next(&self, fresh: bool) -> Option<Purchase> {
        if let Some(open) = self.open.lock().unwrap().pop_front() {
            return Some(open);
        }
        fresh.then(|| Purchase {
            user: 1_000_000 + self.next_user.fetch_add(1, Ordering::Relaxed),
            step: Step::Asked,
        })
    }

    /// Takes an order through its steps; puts it back where the shop broke off.
    fn go_on(&self, client: &mut Client, mut purchase: Purchase) -> std::io::Result<()> {
        loop {
            match step(client, purchase) {
                Ok(next) => {
                    purchase.step = next;
                    *self.acknowledged.lock().unwrap() += 1;
                    self.step.notify_all();
                }
                Err(error) => {
                    // An order whose creation was not answered may be there or not.
                    match purchase.step {
                        Step::Asked => self.done.lock().unwrap().push(purchase),
                        _ => self.open.lock().unwrap().push_back(purchase),
                    }
                    return Err(error);
                }
            }
            if matches!(purchase.step, Step::Confirmed(_)) {
                self.done.lock().unwrap().push(purchase);
                return Ok(());
            }
        }
    }

    /// One buyer at work until `stop`, or until the shop is gone.
    fn buy(&self, address: SocketAddr, stop: &AtomicBool, fresh: bool) {
        let mut client = Client::new(address);
        while !stop.load(Ordering::Relaxed) {
            let Some(purchase) = self.next(fresh) else {
                return;
            };
            if self.go_on(&mut client, purchase).is_err() {
                assert!(fresh, "the last child broke off");
                return;
            }
        }
    }
}

/// One step of one order, and what was acknowledged. A step that had been done before the kill,
/// but whose answer was lost with it, is refused as out of turn now and tells so by its status.
fn step(client: &mut Client, purchase: Purchase) -> std::io::Result<Step> {
    let order = |id| json!({"order_id": id});
    let reached = |answer: &(u16, Value), status: &str| {
        assert!(
            [200, 202, 409].contains(&answer.0),
            "{purchase:?} {answer:?}"
        );
        answer.1["status"] == status
    };
    match purchase.step {
        Step::Asked => {
            let products = json!([{"product_id": 1, "quantity": 1}]);
            let body = json!({"user_id": purchase.user, "products": products});
            let (code, answer) = client.post("/order/create", &body)?;
            assert!([201, 202].contains(&code), "{code} {answer}");
            Ok(Step::Created(answer["order_id"].as_i64().unwrap()))
        }
        Step::Created(id) => {
            let begun = Instant::now();
            loop {
                let paid = client.post("/order/pay", &order(id))?;
                if reached(&paid, "pending_confirmation") {
                    return Ok(Step::Paid(id));
                }
                assert!(begun.elapsed() < STEP, "{purchase:?} is stuck: {paid:?}");
            }
        }
        Step::Paid(id) => {
            let confirmed = client.post("/order/confirm", &order(id))?;
            assert!(
                reached(&confirmed, "confirmed"),
                "{purchase:?} {confirmed:?}"
            );
            Ok(Step::Confirmed(id))
        }
        Step::Confirmed(_) => Ok(purchase.step),
    }
}

/// Buyers at work for `time`, then the kill, and the buyers' ends.
fn round(running: Running, ledger: &Arc<Ledger>, time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let address = running.address;
    let buyers: Vec<_> = (0..BUYERS)
        .map(|_| {
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            thread::spawn(move || ledger.buy(address, &stop, true))
        })
        .collect();
    // The clock starts with the first step, so that the kill falls under load.
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let before = *acknowledged;
    let busy = ledger
        .step
        .wait_timeout_while(acknowledged, STEP, |now| *now == before);
    assert!(
        !busy.unwrap().1.timed_out(),
        "the shop acknowledges nothing"
    );
    // The moment of the kill is the point of the test: nothing is waited for here.
    let begun = Instant::now();
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        thread::park_timeout(left);
    }
    running.kill();
    stop.store(true, Ordering::Relaxed);
    buyers.into_iter().for_each(|buyer| buyer.join().unwrap());
}

/// A product to buy: there is one as soon as the generated traffic began.
fn until_there_is_a_product(address: SocketAddr) {
    let mut client = Client::new(address);
    while client.get("/stock/1").unwrap().0 != 200 {}
    while client.get("/products").unwrap().1["products"] == json!([]) {}
}

#[test]
fn kill_9_at_ten_moments_loses_and_doubles_no_accepted_order() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = env::var("SHOP_KILL_SEED").map_or(now.as_nanos() as u64, |s| s.parse().unwrap());
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut random = seed;
    for kill in 1..=KILLS {
        // Knuth's MMIX generator; its high bits are the good ones.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let time = Duration::from_millis(100 + (random >> 33) % 1400);
        let running = Running::start(folder.path(), TRAFFIC_RATE);
        until_there_is_a_product(running.address);
        let (before, begun) = (*ledger.acknowledged.lock().unwrap(), Instant::now());
        round(running, &ledger, time);
        let steps = *ledger.acknowledged.lock().unwrap() - before;
        let rate = steps as f64 / begun.elapsed().as_secs_f64();
        println!(
            "kill {kill} after {time:?}: {steps} steps acknowledged to {BUYERS} buyers, {rate:.0} \
             a second, beside {TRAFFIC_RATE} generated orders a second"
        );
        std::io::stdout().flush().unwrap();
    }
    // What the kills interrupted is finished.
    let running = Running::start(folder.path(), 0);
    ledger.buy(running.address, &AtomicBool::new(false), false);
    check_orders(running.address, &ledger.done.lock().unwrap());
    let summary = running.finish();
    println!("{summary:#}");
    check_summary(&summary, &ledger.done.lock().unwrap());
}

/// Every acknowledged order is there once, as it was acknowledged; one that was not is there once
/// at most.
fn check_orders(address: SocketAddr, purchases: &[Purchase]) {
    let mut client = Client::new(address);
    for purchase in purchases {
        let path = format!("/orders?user_id={}", purchase.user);
        let (_, answer) = client.get(&path).unwrap();
        let orders = answer["orders"].as_array().unwrap();
        match purchase.step {
            Step::Confirmed(id) => {
                assert_eq!(orders.len(), 1, "{purchase:?} {answer}");
                assert_eq!(orders[0]["order_id"], id);
                assert_eq!(orders[0]["status"], "confirmed");
            }
            _ => assert!(orders.len() <= 1, "{purchase:?} {answer}"),
        }
    }
}

/// The child held databases and log against each other; here the figures are held against what
/// the buyers know.
fn check_summary(summary: &Value, purchases: &[Purchase]) {
    let confirmed = |p: &&Purchase| matches!(p.step, Step::Confirmed(_));
    let bought = purchases.iter().filter(confirmed).count() as u64;
    let unanswered = purchases.len() as u64 - bought;
    let balance = &summary["balance"];
    let generated = summary["log"]["accepted"].as_u64().unwrap();
    assert_eq!(balance["confirmed"], bought + generated);
    // Generated orders go the whole way; those of the buyers wait for a carrier.
    assert_eq!(balance["delivered"], generated);
    assert!(balance["by_hand"].as_u64().unwrap() <= unanswered);
    assert_eq!(balance["unfinished"], 0);
    assert_eq!(summary["log"]["doubled"], 0);
    println!(
        "{bought} bought, {generated} generated, {unanswered} without an answer: all there once"
    );
}

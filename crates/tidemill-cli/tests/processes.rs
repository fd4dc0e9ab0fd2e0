//! Every service of the shop as a process of its own, on the bus of a server at `tidemill://`: each
//! of them is killed in turn, the door and the server too, while orders are under way. The others
//! go on, and in the end every order is delivered and everything adds up.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Running, tidemill};
use tidemill_shop::balance::Balance;
use tidemill_shop::database::Place;
use tidemill_shop::process::{self, Process};
use tidemill_shop::shop::{SERVICES, Shop, ShopOptions};

const SERVICE: &str = "SHOP_PROCESS_SERVICE";
const BUS: &str = "SHOP_PROCESS_BUS";
const DATA: &str = "SHOP_PROCESS_DATA";
const HTTP: &str = "SHOP_PROCESS_HTTP";

/// Longest wait for an answer, and for an order to get to its end.
const ANSWER: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(90);

/// What stands for the HTTP door among the services.
const DOOR: &str = "door";

/// Runs one service where it is started as the child; does nothing in an ordinary test run.
#[test]
fn child() {
    let Ok(service) = env::var(SERVICE) else {
        return;
    };
    let door = service == DOOR;
    let process = Process {
        bus: env::var(BUS).unwrap(),
        services: if door { Vec::new() } else { vec![service] },
        place: Place::Folder(PathBuf::from(env::var(DATA).unwrap())),
        options: ShopOptions {
            topics: true,
            ..ShopOptions::default()
        },
        http: door.then(|| env::var(HTTP).unwrap().parse().unwrap()),
    };
    // The parent closes the input when the child is to end by itself.
    let until = async {
        tokio::task::spawn_blocking(|| std::io::stdin().lines().count())
            .await
            .unwrap();
    };
    let ready = |http| println!("\nready {http:?}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(process::run(process, ready, until))
        .unwrap();
}

/// One service's process.
struct Service {
    child: Child,
    input: Option<ChildStdin>,
}

impl Service {
    fn start(service: &str, bus: &str, data: &Path, http: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(SERVICE, service)
            .env(BUS, bus)
            .env(DATA, data)
            .env(HTTP, http)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = output.any(|line| line.unwrap().starts_with("ready "));
        assert!(ready, "{service} does not start");
        // What it says later fits the pipe's buffer.
        std::mem::forget(output);
        Self { child, input }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn stop(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// One request; `None` where it was not answered.
fn call(address: &str, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, serde_json::from_str(body).ok()?))
}

/// Tries until it is answered with this code.
fn until(address: &str, (method, path): (&str, &str), body: &Value, code: u16) -> Value {
    let begun = Instant::now();
    loop {
        match call(address, method, path, body) {
            Some((found, answer)) if found == code => return answer,
            other => assert!(begun.elapsed() < PATIENCE, "{method} {path}: {other:?}"),
        }
    }
}

/// Does the next step of an order, whichever that is; whether it is delivered.
fn go_on(address: &str, order: i64) -> bool {
    let nothing = json!({});
    let named = json!({"order_id": order});
    let shown = call(address, "GET", &format!("/orders/{order}"), &nothing);
    let Some((200, shown)) = shown else {
        return false;
    };
    let status = shown["status"].as_str().unwrap();
    let step = |status: &str| {
        let path = format!("/shipments?order_id={order}");
        let (_, found) = call(address, "GET", &path, &nothing)?;
        let id = found["shipments"][0]["shipment_id"].as_i64()?;
        let path = format!("/shipments/{id}/status");
        call(address, "POST", &path, &json!({"status": status}))
    };
    // Whether it was done, done before, or not done is seen at the next look.
    let _ = match status {
        "pending_payment" => call(address, "POST", "/order/pay", &named),
        "pending_confirmation" => call(address, "POST", "/order/confirm", &named),
        "confirmed" => step("shipped"),
        "shipped" => step("delivered"),
        "delivered" => return true,
        other => panic!("order {order} is {other}"),
    };
    false
}

fn deliver(address: &str, order: i64) {
    let begun = Instant::now();
    while !go_on(address, order) {
        assert!(begun.elapsed() < PATIENCE, "order {order} is not delivered");
    }
}

fn server(data: &Path, http: &str) -> Running {
    let mut command = tidemill();
    command.args(["serve", "--data", data.to_str().unwrap(), "--http", http]);
    Running::start(command)
}

/// An address that nobody has now.
fn free() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// What answers while a service is gone.
fn other(victim: &str) -> &'static str {
    match victim {
        "stock" => "/products",
        _ => "/stock",
    }
}

#[test]
fn any_process_may_be_killed_while_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (log, data) = (folder.path().join("log"), folder.path().join("data"));
    let (http, shop) = (free(), free());
    let bus = format!("tidemill://{http}");
    let mut running = server(&log, &http);
    running.line("http");
    let start = |name: &str| Service::start(name, &bus, &data, &shop);
    let begun = Instant::now();
    let names: Vec<&str> = SERVICES.into_iter().chain([DOOR]).collect();
    let mut services: Vec<Service> = names.iter().map(|name| start(name)).collect();
    let new = json!({"name": "Kettle", "price": 19.99, "stock": 100});
    let product = until(&shop, ("POST", "/products"), &new, 201)["id"].clone();
    let wanted = json!({"user_id": 1, "products": [{"product_id": product, "quantity": 2}]});
    // Where the stock was killed just before, it may be slow to answer: the order is there.
    let create = || loop {
        let created = call(&shop, "POST", "/order/create", &wanted);
        if let Some((201 | 202, order)) = created {
            return order["order_id"].as_i64().unwrap();
        }
    };
    for (at, victim) in names.iter().enumerate() {
        let order = create();
        std::thread::scope(|scope| {
            services[at].kill();
            let buyer = scope.spawn(|| deliver(&shop, order));
            if *victim != DOOR {
                until(&shop, ("GET", other(victim)), &json!({}), 200);
            }
            services[at] = start(victim);
            buyer.join().unwrap();
        });
        println!("{victim} was killed: {:?}", begun.elapsed());
    }
    let order = create();
    running.stop("KILL");
    let mut running = server(&log, &http);
    running.line("http");
    deliver(&shop, order);
    // One whose creation was not answered may be there, too.
    let listed = until(&shop, ("GET", "/orders?user_id=1"), &json!({}), 200);
    let orders = listed["orders"].as_array().unwrap();
    let ids = orders
        .iter()
        .map(|order| order["order_id"].as_i64().unwrap());
    ids.for_each(|order| deliver(&shop, order));
    assert!(orders.len() > names.len(), "{listed}");
    let shelf = until(
        &shop,
        ("GET", &format!("/stock/{product}")),
        &json!({}),
        200,
    );
    let held = 2 * i64::try_from(orders.len()).unwrap();
    assert_eq!(
        (&shelf["held"], &shelf["available"]),
        (&json!(held), &json!(100 - held))
    );
    services.into_iter().for_each(Service::stop);
    running.stop("TERM").done();
    let shop = Shop::open(&Place::Folder(data), ShopOptions::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let balance = runtime.block_on(Balance::of(&shop)).unwrap();
    assert!(balance.is_even(), "{balance:?}");
    assert_eq!(balance.delivered, orders.len() as u64);
}

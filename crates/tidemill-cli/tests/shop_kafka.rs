//! The demo's shop driven by plain kafka-python programs: one orders, one carries, one watches.
//!
//! The clients are installed into the target folder. Where that is not possible the test is
//! skipped and says why, except under `CI=true`, where that is a failure.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use support::{Running, tidemill};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A Python with kafka-python; `None` after saying why there is none.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-clients");
    let script = "crates/tidemill-server/tests/clients/kafka/install.sh";
    let install = Command::new("sh")
        .arg(Path::new(ROOT).join(script))
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if install.status.success() {
        return Some(folder.join("new/bin/python"));
    }
    let why = String::from_utf8_lossy(&install.stderr).into_owned();
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "the stock Kafka clients cannot be installed: {why}"
    );
    eprintln!("skipped: the stock Kafka clients cannot be installed: {why}");
    None
}

fn program(python: &Path, name: &str, arguments: &[&str]) -> thread::JoinHandle<Output> {
    let mut command = Command::new(python);
    command
        .arg(Path::new(ROOT).join("apps/shop/kafka").join(name))
        .args(arguments)
        .stdin(Stdio::null());
    thread::spawn(move || command.output().unwrap())
}

fn done(program: thread::JoinHandle<Output>) -> String {
    let output = program.join().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{error}");
    text
}

fn get(address: &str, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn plain_kafka_python_programs_order_carry_and_watch() {
    let Some(python) = python() else {
        return;
    };
    let mut command = tidemill();
    command.args(["demo", "--bus", "memory:", "--rate", "0", "--json"]);
    for flag in ["--http", "--kafka", "--shop", "--messages"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut running = Running::start(command);
    let mut after = |start: &str| {
        let rest = running.line(start);
        rest.trim_end_matches("\"}").to_owned()
    };
    let kafka = &after("{\"kafka\":\"");
    let shop = after("{\"shop\":\"http://");
    // All three at once; what is told of four orders is two messages each, and three arrive.
    // The second one is told to be created, changed and confirmed.
    let watch = program(&python, "watch.py", &[kafka, "9"]);
    let carrier = program(&python, "logistics.py", &[kafka, "3"]);
    let orders = program(&python, "orders.py", &[kafka, "4"]);
    assert_eq!(done(orders), "sent 4 orders\n");
    assert_eq!(done(carrier), "delivered 3 orders\n");
    let told = done(watch);
    for line in [
        "1 {\"order_id\": 1, \"type\": \"order-create\"}\n",
        "1 {\"order_id\": 1, \"type\": \"order-update\"}\n",
        "3 {\"order_id\": 3, \"type\": \"order-delete\"}\n",
    ] {
        assert_eq!(told.matches(line).count(), 1, "{told}");
    }
    let second = told.matches("2 {\"order_id\": 2, \"type\": \"order-update\"}\n");
    assert_eq!(second.count(), 2, "{told}");
    for (order, status) in [
        (1, "delivered"),
        (2, "delivered"),
        (3, "cancelled"),
        (4, "delivered"),
    ] {
        // The order hears of its shipment's arrival a moment after it is reported.
        loop {
            let shown = get(&shop, &format!("/orders/{order}"));
            if shown["status"] == status {
                break;
            }
            assert_eq!(shown["status"], "shipped", "{shown}");
        }
    }
    let ended = running.stop("TERM").done();
    let last: Value = serde_json::from_str(ended.lines().last().unwrap()).unwrap();
    assert_eq!(last["summary"]["balance"]["unfinished"], 0, "{ended}");
}

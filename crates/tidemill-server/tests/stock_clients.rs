//! Stock clients of other languages against the server: `python-socketio` and `socket.io-client`,
//! with polling, with WebSocket, and with an upgrade from one to the other; and stock validators of
//! OpenAPI documents and JSON Schemas.
//!
//! The clients are installed into the target folder. Where that is not possible the tests are
//! skipped and say why, except under `CI=true`, where that is a failure.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use support::{Running, stock};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::OnceCell;

/// No script takes longer.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(240);

fn scripts() -> PathBuf {
    stock::scripts("clients")
}

/// Where the clients are; `None` after saying why they are not there.
async fn installed() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    stock::installed(&INSTALLED, "clients", "stock-clients").await
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new(folder.join("venv/bin/python"));
    command.arg(scripts().join("client.py"));
    command
}

fn node(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(scripts().join(script));
    command.env("NODE_PATH", folder.join("node/node_modules"));
    command
}

/// Runs a script that checks by itself, and asks for at least `holding` behaviours.
async fn check(mut script: Command, transport: &str, holding: usize) {
    let server = Running::start().await;
    script
        .arg(format!("http://{}", server.address))
        .arg(transport);
    ended_well(script, holding).await;
}

async fn ended_well(mut script: Command, holding: usize) {
    script.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, script.output());
    let output = output.await.expect("the script ends in time").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    assert_eq!(text.matches("holds: ").count(), holding, "{text}");
    print!("{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_socketio_with_polling_and_websocket() {
    let Some(folder) = installed().await else {
        return;
    };
    check(python(&folder), "polling", 6).await;
    check(python(&folder), "websocket", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_valid_and_says_what_the_doors_answer() {
    let Some(folder) = installed().await else {
        return;
    };
    let server = Running::start().await;
    let mut script = Command::new(folder.join("venv/bin/python"));
    script.arg(scripts().join("openapi.py"));
    script.arg(format!("http://{}", server.address));
    ended_well(script, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_verifier_of_standard_webhooks_takes_what_is_sent() {
    let Some(folder) = installed().await else {
        return;
    };
    let server = Running::start().await;
    let mut script = Command::new(folder.join("venv/bin/python"));
    script.arg(scripts().join("webhooks.py"));
    script.arg(format!("http://{}", server.address));
    ended_well(script, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_io_client_with_polling_and_websocket_and_upgrade() {
    let Some(folder) = installed().await else {
        return;
    };
    for transport in ["polling", "websocket", "upgrade"] {
        check(node(&folder, "client.js"), transport, 3).await;
    }
}

/// A running script, read line by line.
struct Script {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(SCRIPT_TIMEOUT, self.lines.next_line());
        let line = line.await.expect("a line comes in time").unwrap();
        line.expect("the script goes on")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_after_a_restart_of_the_server() {
    let Some(folder) = installed().await else {
        return;
    };
    let server = Running::start().await;
    let address = server.address;
    let mut command = node(&folder, "restart.js");
    command.arg(format!("http://{address}"));
    let mut script = Script::start(command);
    assert_eq!(script.line().await, "connected 1");
    server.client().event("{\"n\":1}").await;
    assert_eq!(script.line().await, "event {\"n\":1}");
    server.stop().await;

    let server = Running::with(|config| config.http = address).await;
    assert_eq!(script.line().await, "connected 2");
    server.client().event("{\"end\":true}").await;
    assert_eq!(script.line().await, "event {\"end\":true}");
    assert!(script.child.wait().await.unwrap().success());
}

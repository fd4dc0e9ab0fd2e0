//! Other projects' own test suites, against this server: `cargo xtask suite NAME`. How each went
//! is in `docs/COMPATIBILITY.md`.
//!
//! Suites come from package registries into a folder below `target/`; nothing of them is in the
//! tree. This room may not know what a suite tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::tools;

/// What can be run, for the usage text.
pub(crate) const USAGE: &str =
    "  suite kafka-python [--as VERSION] [--broker HOST:PORT] [ARG of pytest...]
                       kafka-python's integration tests, as if against Kafka VERSION (4.1)
  suite librdkafka [--broker HOST:PORT] [TEST,...]
                       librdkafka's own tests
  suite kafka-programs [--broker HOST:PORT]
                       Kafka Streams and Kafka Connect";

/// The version of Apache Kafka that kafka-python's tests take this server for.
const KAFKA_VERSION: &str = "4.1";

/// Runs one; answers whether all that ran passed.
///
/// # Errors
/// When it cannot be run, or there is none of this name.
pub(crate) fn run(root: &Path, name: &str, rest: &[&str]) -> Result<bool, String> {
    match name {
        "kafka-python" => scripted(root, name, Some(KAFKA_VERSION), rest),
        "librdkafka" | "kafka-programs" => scripted(root, name, None, rest),
        other => Err(format!("no suite is called {other:?}\n{USAGE}")),
    }
}

/// A suite's own script, with the version that it takes this server for where it asks for one.
fn scripted<'a>(
    root: &Path,
    name: &str,
    mut version: Option<&'a str>,
    mut rest: &[&'a str],
) -> Result<bool, String> {
    let mut broker = None;
    loop {
        rest = match rest {
            ["--as", text, rest @ ..] if version.is_some() => {
                version = Some(text);
                rest
            }
            ["--broker", text, rest @ ..] => {
                broker = Some((*text).to_owned());
                rest
            }
            _ => break,
        };
    }
    let folder = root.join("target/tmp/suites").join(name);
    let server = match broker {
        Some(_) => None,
        None => Some(Server::start(root, &folder.join("data"))?),
    };
    let ours = || server.as_ref().map(|server| server.address.clone());
    let address = broker.or_else(ours).unwrap_or_default();
    let script = format!("crates/tidemill-server/tests/suites/{name}/run.sh");
    let mut command = Command::new("sh");
    command.arg(root.join(script)).arg(&folder).arg(&address);
    command.args(version);
    let status = command.args(rest).stdin(Stdio::null()).status();
    let status = status.map_err(|e| format!("cannot start the tests of {name}: {e}"))?;
    Ok(status.success())
}

/// A server with new data on a free port. It ends when this is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(root: &Path, data: &Path) -> Result<Self, String> {
        tools::cargo(root, &["build", "--locked", "--package", "tidemill-cli"])?;
        if data.exists() {
            let removed = std::fs::remove_dir_all(data);
            removed.map_err(|e| format!("cannot remove {}: {e}", data.display()))?;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.map_err(|e| format!("there is no free port: {e}"))?;
        let address = address.to_string();
        let mut command = Command::new(root.join("target/debug/tidemill"));
        command.arg("serve").arg("--data").arg(data);
        command.args(["--http", "127.0.0.1:0", "--kafka", &address]);
        // What it is told to advertise counts as a setting of the node.
        command.args(["--kafka-advertise", &address, "--kafka-node-id", "0"]);
        command.args(["--kafka-default-partitions", "4"]);
        command.args(["--kafka-group-min-session-timeout-ms", "1000"]);
        // Tests of permissions have them changed as they like, and others know none.
        command.args(["--kafka-acls", "open"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.spawn();
        let child = child.map_err(|e| format!("cannot start the server: {e}"))?;
        let mut server = Self { child, address };
        server.ready()?;
        Ok(server)
    }

    /// Waits until it says where clients of Kafka find it.
    fn ready(&mut self) -> Result<(), String> {
        let stdout = self.child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let listens = |line: std::io::Result<String>| line.is_ok_and(|l| l.starts_with("kafka "));
        match lines.any(listens) {
            true => Ok(()),
            false => Err("the server ended before it listened".to_owned()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

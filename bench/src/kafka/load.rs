//! librdkafka's own program for measuring, `rdkafka_performance`, as the client: its ceiling is
//! what it does against the broker that librdkafka plays inside the same process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::Fallible;

/// The client, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    program: PathBuf,
    /// `None`: the broker inside it.
    broker: Option<SocketAddr>,
}

impl Load {
    pub(crate) fn new(peers: &std::path::Path, broker: Option<SocketAddr>) -> Self {
        let program = peers.join("librdkafka/source/examples/rdkafka_performance");
        Self { program, broker }
    }

    fn command(&self) -> Command {
        // Not tied to its time, so that a stuck server ends the measure.
        let mut command = Command::new("timeout");
        command.arg("300").arg(&self.program);
        match self.broker {
            Some(address) => command.args(["-b", &address.to_string()]),
            None => command.args(["-b", "inside", "-X", "test.mock.num.brokers=1"]),
        };
        command
    }

    /// Produces so many records to partitions that librdkafka chooses, waiting for all of them
    /// to be acknowledged by all replicas; answers records a second.
    pub(crate) fn produce(&self, topic: &str, records: usize, bytes: usize) -> Fallible<f64> {
        let mut command = self.command();
        command.args(["-P", "-a", "-1", "-t", topic, "-i", "600000"]);
        command.args(["-c", &records.to_string(), "-s", &bytes.to_string()]);
        // As many on their way as make the server the bound, in batches of librdkafka's defaults.
        command.args(["-X", "queue.buffering.max.messages=500000"]);
        command.args(["-X", "queue.buffering.max.kbytes=1048576"]);
        per_second(command, records, "delivered")
    }

    /// Reads so many records of the first partition, from its beginning; answers records a second.
    pub(crate) fn consume(&self, topic: &str, records: usize) -> Fallible<f64> {
        let mut command = self.command();
        command.args([
            "-C",
            "-t",
            topic,
            "-p",
            "0",
            "-o",
            "beginning",
            "-B",
            "1000",
        ]);
        command.args(["-c", &records.to_string(), "-i", "600000"]);
        per_second(command, records, "messages")
    }
}

/// What it says at its end: `... 1000 delivered (offset 0, 0 failed) in 8ms: 125000 msgs/s ...`.
fn per_second(mut command: Command, records: usize, what: &str) -> Fallible<f64> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let before = |line: &str, word: &str| -> Option<f64> {
        let (text, _) = line.split_once(word)?;
        text.split_whitespace().next_back()?.parse().ok()
    };
    let line = said.lines().rfind(|line| line.contains("msgs/s"));
    let told = line.and_then(|line| Some((before(line, what)?, before(line, "msgs/s")?)));
    match told {
        Some((done, rate)) if output.status.success() && done >= records as f64 => Ok(rate),
        _ => {
            let why = String::from_utf8_lossy(&output.stderr);
            let ended = output.status;
            Err(format!("rdkafka_performance ended with {ended}: {said} {why}").into())
        }
    }
}

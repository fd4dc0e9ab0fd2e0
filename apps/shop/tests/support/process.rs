//! Processes of the shop's own binary.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill-shop"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A process that is ready. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    http: Option<SocketAddr>,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut http = None;
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                output.read_line(&mut line).unwrap() > 0,
                "{arguments:?} ended"
            );
            if let Some(address) = line.trim().strip_prefix("shop: http://") {
                http = Some(address.parse().unwrap());
            }
            if line.starts_with("ready: ") {
                break;
            }
        }
        Self {
            child,
            http,
            output,
        }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http.unwrap()
    }

    /// SIGTERM, which it ends from well.
    pub(crate) fn stop(mut self) {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Runs the binary: a command to its end, or a server until it is told to stop.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

pub(crate) mod data;
pub(crate) mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a command may take to end by itself before the test calls it off.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, with nothing of the tester's environment that it would read.
pub(crate) fn tidemill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let ours = |(name, _): &(std::ffi::OsString, _)| name.to_string_lossy().starts_with("TIDEMILL");
    for (name, _) in std::env::vars_os().filter(ours) {
        command.env_remove(name);
    }
    // Its port is one for all; tests of that door choose another.
    command.env("TIDEMILL_KAFKA", "off");
    command.stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The output of a command that was done.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The error of a command that failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.err
    }

    /// The error of a command that was used wrongly.
    #[track_caller]
    pub(crate) fn misused(self) -> String {
        assert_eq!(self.code, Some(2), "{self:?}");
        self.err
    }
}

/// How it ended, of a command that was run whole.
pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    ended(tidemill().args(arguments).output().unwrap())
}

/// Runs a command to its end in this environment.
pub(crate) fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = tidemill();
    command.args(arguments).envs(environment.iter().copied());
    ended(command.output().unwrap())
}

/// Runs a command that reads `input`.
pub(crate) fn run_with_input(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = tidemill();
    command.args(arguments).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    ended(child.wait_with_output().unwrap())
}

/// A command that runs until it is told to stop, read line by line.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads on to the line that begins with `word` and gives what stands after it.
    #[track_caller]
    pub(crate) fn line(&mut self, word: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if self.out.read_line(&mut line).unwrap() == 0 {
                let mut err = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut err)
                    .unwrap();
                panic!("no line begins with {word:?}; it printed:\n{seen}{err}");
            }
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
            seen.push_str(&line);
        }
    }

    /// Waits until it hears Ctrl-C instead of ending at it.
    pub(crate) fn hears_ctrl_c(&self) {
        let status = format!("/proc/{}/status", self.pid());
        patiently("it does not listen to Ctrl-C", || {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
            let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
            // SIGINT is number 2.
            caught & (1 << 1) != 0
        });
    }

    /// Sends both signals so that they come at the same moment, however busy the machine is: while
    /// the process is stopped. Does not wait for the end.
    pub(crate) fn send_together(&self, signals: [Signal; 2]) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        let status = format!("/proc/{}/stat", self.pid());
        patiently("it does not stop", || {
            let status = std::fs::read_to_string(&status).unwrap();
            // Behind the name of the program, which is in brackets.
            status.rsplit(')').next().unwrap().starts_with(" T ")
        });
        for signal in signals.into_iter().chain([Signal::CONT]) {
            kill_process(pid, signal).unwrap();
        }
    }

    /// Sends a signal again and again until the end.
    pub(crate) fn signal_until_the_end(mut self, signal: &str) -> Ended {
        patiently("it does not end", || {
            let ended = self.child.try_wait().unwrap().is_some();
            if !ended {
                send_signal(self.pid(), signal);
            }
            ended
        });
        self.end()
    }

    /// Sends a signal once, and waits for the end, which must come.
    pub(crate) fn stop_in_time(mut self, signal: &str) -> Ended {
        send_signal(self.pid(), signal);
        patiently("it does not end", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.end()
    }

    /// Sends a signal, as in `INT`, and waits for the end.
    pub(crate) fn stop(self, signal: &str) -> Ended {
        send_signal(self.pid(), signal);
        self.end()
    }

    /// Reads no more, as `head` does, and waits for the end, which must come.
    pub(crate) fn hang_up(mut self) -> Ended {
        let (tell, told) = mpsc::channel::<()>();
        let pid = self.pid();
        let watchdog = std::thread::spawn(move || {
            if told.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                send_signal(pid, "KILL");
            }
        });
        let nothing = Command::new("true").stdout(Stdio::piped()).spawn();
        let mut nothing = nothing.unwrap();
        self.out = BufReader::new(nothing.stdout.take().unwrap());
        nothing.wait().unwrap();
        let ended = self.end();
        drop(tell);
        watchdog.join().unwrap();
        ended
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let mut err = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        Ended {
            code: self.child.wait().unwrap().code(),
            out,
            err,
        }
    }
}

/// Looks until something is so.
#[track_caller]
pub(crate) fn patiently(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{otherwise}");
        std::thread::yield_now();
    }
}

fn send_signal(pid: u32, signal: &str) {
    let kill = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .status();
    assert!(kill.unwrap().success());
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running server and its URL.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) url: String,
}

impl Server {
    /// Serves `data` on a free port.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// As [`Server::start`], with further options.
    pub(crate) fn start_with(data: &Path, options: &[&str]) -> Self {
        let mut command = tidemill();
        command
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--http", "127.0.0.1:0"])
            .args(options);
        let mut running = Running::start(command);
        let url = running.line("http ");
        Self { running, url }
    }

    /// Runs a client command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&[arguments, &["--server", &self.url]].concat())
    }
}

/// Posts CloudEvents JSON by hand and gives the answer as it came.
pub(crate) fn post(url: &str, path: &str, body: &str) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/cloudevents+json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Makes a superblock one of the next format version, with the checksum right (FORMAT.md,
/// section 2).
pub(crate) fn raise_format_version(superblock: &mut [u8]) {
    superblock[8] += 1;
    let sum = crc32c(superblock[..12].iter().chain(&superblock[16..]));
    superblock[12..16].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    let sum = bytes.fold(u32::MAX, |sum, byte| {
        let step = |sum: u32, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        (0..8).fold(sum ^ u32::from(*byte), step)
    });
    !sum
}

//! A server as a process of its own, with all the processes that it begins. A module of the
//! binaries that measure servers of others.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;

/// Longest time until a server listens.
const START: Duration = Duration::from_secs(60);

/// A port that nobody has now.
#[allow(dead_code, reason = "not every measure asks for it")]
pub(crate) fn free() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A running server; ends when dropped, with what it began.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    end: Option<Command>,
}

impl Server {
    /// Runs `command` until it listens at `address`.
    pub(crate) fn run(mut command: Command, address: SocketAddr) -> Fallible<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A group of its own, so that all of it can be ended.
        let child = command.process_group(0).spawn()?;
        let server = Self {
            child,
            address,
            end: None,
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > START {
                return Err("it does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// The same, with a command that ends what has left its group.
    #[allow(dead_code, reason = "not every server leaves its group")]
    pub(crate) fn ended_by(mut self, command: Command) -> Self {
        self.end = Some(command);
        self
    }

    /// Processor time of all processes of its group, in user and system mode.
    pub(crate) fn cpu_seconds(&self) -> Fallible<f64> {
        let group = self.child.id().to_string();
        let mut ticks = 0.0;
        for entry in std::fs::read_dir("/proc")? {
            let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else {
                continue;
            };
            let Some((_, after_name)) = stat.rsplit_once(')') else {
                continue;
            };
            // proc(5): the group is field 5, times are 14 and 15; two are before the name's end.
            let fields: Vec<&str> = after_name.split_whitespace().collect();
            if fields.get(2) == Some(&group.as_str()) {
                for at in [11, 12] {
                    ticks += fields.get(at).ok_or("stat is short")?.parse::<f64>()?;
                }
            }
        }
        Ok(ticks / 100.0)
    }

    /// Its memory that no file holds, of the process that was begun.
    #[allow(dead_code, reason = "not every measure asks for it")]
    pub(crate) fn memory_bytes(&self) -> Fallible<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no memory in its status")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
        if let Some(end) = &mut self.end {
            let _ = end.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

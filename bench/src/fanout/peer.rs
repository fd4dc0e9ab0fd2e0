//! The servers that take turns, each a process of its own, and who publishes to them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;

/// A server, and how its clients are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Null,
    Tidemill,
    TidemillStream,
    TidemillWebSocket,
    Node,
    Python,
}

impl Peer {
    pub(crate) const ALL: [Self; 6] = [
        Self::Null,
        Self::Tidemill,
        Self::Node,
        Self::Python,
        Self::TidemillStream,
        Self::TidemillWebSocket,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null (Socket.IO)",
            Self::Tidemill => "Tidemill, Socket.IO",
            Self::TidemillStream => "Tidemill, server-sent events",
            Self::TidemillWebSocket => "Tidemill, WebSocket",
            Self::Node => "socket.io 4.8, Node",
            Self::Python => "python-socketio 5.18, uvicorn",
        }
    }

    fn command(self, folder: &Path, peers: &Path, address: SocketAddr) -> Fallible<Command> {
        let own = std::env::current_exe()?;
        let port = address.port().to_string();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut command;
        match self {
            Self::Null => {
                command = Command::new(own);
                command.args(["null", &port]);
            }
            Self::Node => {
                command = Command::new("node");
                command.arg(scripts.join("socketio_server.js")).arg(port);
                command.env("NODE_PATH", peers.join("node/node_modules"));
            }
            Self::Python => {
                command = Command::new(peers.join("venv/bin/python"));
                command.arg(scripts.join("socketio_server.py")).arg(port);
            }
            Self::Tidemill | Self::TidemillStream | Self::TidemillWebSocket => {
                command = Command::new(own.with_file_name("tidemill"));
                command.args(["serve", "--http", &address.to_string(), "--data"]);
                command.arg(folder);
            }
        }
        Ok(command)
    }
}

/// A running server; ends when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    pub(crate) fn start(peer: Peer, folder: &Path, peers: &Path) -> Fallible<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = peer.command(folder, peers, address)?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{}: {error}", peer.name()))?;
        let process = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} does not listen", peer.name()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Resident memory.
    pub(crate) fn memory_bytes(&self) -> Fallible<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Processor time of all its threads, in user and system mode.
    pub(crate) fn cpu_seconds(&self) -> Fallible<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, after_name) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |at: usize| -> Fallible<f64> {
            Ok(fields.get(at).ok_or("stat is short")?.parse::<f64>()?)
        };
        // Fields 14 and 15 of proc(5), of which two are before the name's end; 100 ticks a second.
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection over which events are posted, one after another.
pub(crate) struct Publisher {
    stream: BufReader<TcpStream>,
}

impl Publisher {
    pub(crate) fn connect(address: SocketAddr) -> Fallible<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    /// Posts an event for a room that says when it was made, and waits for the answer.
    pub(crate) fn publish(&mut self, room: &str, made: u64, bytes: usize) -> Fallible<()> {
        let head = format!("{{\"room\":\"{room}\",\"t\":{made},\"pad\":\"");
        let pad = "x".repeat(bytes.saturating_sub(head.len() + 2));
        let body = format!("{head}{pad}\"}}");
        let request = format!(
            "POST /event HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.contains(" 200 ") {
            return Err(format!("the publish was answered {line:?}").into());
        }
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
        Ok(())
    }
}

//! A server as a process of its own, with all the processes that it begins, and a plain connection
//! for HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fallible;

/// Longest time until a server listens.
const START: Duration = Duration::from_secs(60);

/// A port that nobody has now.
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

/// A connection that asks by HTTP/1.1, one thing after another; a new one where the server says
/// that it closes, as RabbitMQ's does after a thousand answers.
pub(crate) struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    line: String,
    closes: bool,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Fallible<Self> {
        Ok(Self {
            address,
            stream: connect(address)?,
            line: String::new(),
            closes: false,
        })
    }

    /// Sends a request, head and body as they are; answers the body of a 2xx.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Fallible<Vec<u8>> {
        if std::mem::take(&mut self.closes) {
            self.stream = connect(self.address)?;
        }
        self.stream.get_mut().write_all(request)?;
        self.line.clear();
        if self.stream.read_line(&mut self.line)? == 0 {
            return Err("the server closed the connection without an answer".into());
        }
        let well = self
            .line
            .split(' ')
            .nth(1)
            .is_some_and(|status| status.starts_with('2'));
        let status = self.line.trim().to_owned();
        let mut length = 0;
        loop {
            self.line.clear();
            self.stream.read_line(&mut self.line)?;
            let header = self.line.trim();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or((header, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "connection" => self.closes = value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        match well {
            true => Ok(body),
            false => Err(format!("{status} {}", String::from_utf8_lossy(&body)).into()),
        }
    }
}

fn connect(address: SocketAddr) -> Fallible<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(256 * 1024, stream))
}

/// A request with a body.
pub(crate) fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// How often `part` stands in `text`.
pub(crate) fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len())
        .filter(|window| *window == part)
        .count()
}

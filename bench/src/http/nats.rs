//! NATS JetStream over its own protocol: publishes whose acknowledgement is waited for, and a pull
//! consumer. `sync_interval: always`, so that an acknowledgement means what it means here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::server::{Server, free};
use crate::{Client, Fallible, VALUE_BYTES};

pub(crate) fn start(folder: &Path, peers: &Path) -> Fallible<Server> {
    let address = free()?;
    std::fs::create_dir_all(folder)?;
    let store = folder.display();
    let settings = format!(
        "listen: {address}\njetstream {{ store_dir: \"{store}\", sync_interval: always }}\n"
    );
    let file = folder.join("nats.conf");
    std::fs::write(&file, settings)?;
    let mut command = Command::new(peers.join("bin/nats-server"));
    command.arg("-c").arg(file);
    let server = Server::run(command, address)?;
    let mut first = Connection::open(address, "setup")?;
    let stream = br#"{"name":"bench","subjects":["bench"],"storage":"file","num_replicas":1}"#;
    first.ask("$JS.API.STREAM.CREATE.bench", stream)?;
    Ok(server)
}

/// See the module.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    inbox: String,
    consumer: String,
    line: String,
    consumes: bool,
    left: usize,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr, number: usize) -> Fallible<Self> {
        Self::open(address, &number.to_string())
    }

    fn open(address: SocketAddr, name: &str) -> Fallible<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream: BufReader::with_capacity(256 * 1024, stream),
            inbox: format!("_INBOX.{name}"),
            consumer: format!("c{name}"),
            line: String::new(),
            consumes: false,
            left: 0,
        };
        let inbox = &connection.inbox;
        let hello = format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {inbox} 1\r\n");
        connection.stream.get_mut().write_all(hello.as_bytes())?;
        Ok(connection)
    }

    /// The next message that comes: its payload, with its headers before it if it has some.
    fn message(&mut self) -> Fallible<Vec<u8>> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                return Err("the server closed the connection".into());
            }
            let mut words = self.line.split_whitespace();
            match words.next() {
                Some("MSG" | "HMSG") => {
                    let bytes: usize = words.next_back().ok_or("no length")?.parse()?;
                    let mut payload = vec![0; bytes + 2];
                    self.stream.read_exact(&mut payload)?;
                    payload.truncate(bytes);
                    return Ok(payload);
                }
                Some("PING") => self.stream.get_mut().write_all(b"PONG\r\n")?,
                Some("-ERR") => return Err(self.line.clone().into()),
                _ => {}
            }
        }
    }

    fn say(&mut self, subject: &str, payload: &[u8], times: usize) -> Fallible<()> {
        let head = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len());
        let one = [head.as_bytes(), payload, b"\r\n"].concat();
        self.stream.get_mut().write_all(&one.repeat(times))?;
        Ok(())
    }

    fn ask(&mut self, subject: &str, payload: &[u8]) -> Fallible<Vec<u8>> {
        self.say(subject, payload, 1)?;
        let answer = self.message()?;
        let text = String::from_utf8_lossy(&answer);
        match text.contains("\"error\"") {
            true => Err(text.into_owned().into()),
            false => Ok(answer),
        }
    }
}

impl Client for Connection {
    fn publish(&mut self, events: usize) -> Fallible<()> {
        self.say("bench", &[b'x'; VALUE_BYTES], events)?;
        for _ in 0..events {
            let answer = self.message()?;
            if !answer.starts_with(b"{\"stream\"") {
                return Err(String::from_utf8_lossy(&answer).into_owned().into());
            }
        }
        Ok(())
    }

    fn fetch(&mut self, most: usize) -> Fallible<usize> {
        if !self.consumes {
            let consumer = &self.consumer;
            let how = format!(
                "{{\"stream_name\":\"bench\",\"config\":{{\"durable_name\":\"{consumer}\",\
                 \"ack_policy\":\"none\",\"deliver_policy\":\"all\"}}}}"
            );
            let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.bench.{consumer}");
            let made = self.ask(&subject, how.as_bytes())?;
            let made: serde_json::Value = serde_json::from_slice(&made)?;
            let left = made.get("num_pending").and_then(serde_json::Value::as_u64);
            self.left = usize::try_from(left.ok_or("no count of what is there")?)?;
            self.consumes = true;
        }
        // Beyond the end a pull would wait, and answer with a status.
        let wanted = most.min(self.left);
        if wanted == 0 {
            return Ok(0);
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.bench.{}", self.consumer);
        let how = format!("{{\"batch\":{wanted},\"expires\":1000000000}}");
        self.say(&subject, how.as_bytes(), 1)?;
        for _ in 0..wanted {
            self.message()?;
        }
        self.left -= wanted;
        Ok(wanted)
    }
}

//! Very many clients in one thread. Each knows just enough of its protocol to be sent events; of an
//! event it looks for when it was made (`"t":` and nanoseconds), wherever that stands.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::Fallible;
use crate::peer::Peer;

/// Longest time that is told apart, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;
/// Clients that connect at once.
const CONNECTING: usize = 64;
/// Longest time for all to connect.
const CONNECT: Duration = Duration::from_secs(120);
/// Events that a WebSocket client asks for at once.
const FETCH: &str = "\"max_events\":100,\"wait_ms\":30000";

struct Heard {
    begun: Instant,
    events: AtomicUsize,
    latencies: Mutex<Histogram<u64>>,
}

impl Heard {
    /// One event, made at this many nanoseconds after the beginning; 0 is one that does not count.
    fn event(&self, made: u64) {
        if made == 0 {
            return;
        }
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let took = now.saturating_sub(made) / 1_000;
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        latencies.saturating_record(took);
        drop(latencies);
        self.events.fetch_add(1, Ordering::Release);
    }
}

/// The clients, connected; they go when dropped.
pub(crate) struct Clients {
    heard: Arc<Heard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn connect(peer: Peer, address: SocketAddr, count: usize) -> Fallible<Self> {
        let heard = Arc::new(Heard {
            begun: Instant::now(),
            events: AtomicUsize::new(0),
            latencies: Mutex::new(Histogram::new_with_bounds(1, LONGEST_US, 3)?),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, mut all_ready) = mpsc::unbounded_channel();
        let shared = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async move {
                let places = Arc::new(Semaphore::new(CONNECTING));
                for _ in 0..count {
                    let client = Client {
                        peer,
                        address,
                        heard: Arc::clone(&shared),
                        ready: ready.clone(),
                    };
                    tokio::spawn(client.run(Arc::clone(&places)));
                }
                drop(ready);
                let _ = stopped.await;
            });
        });
        let clients = Self {
            heard,
            stop: Some(stop),
            thread: Some(thread),
        };
        let begun = Instant::now();
        for number in 0..count {
            let waiting = loop {
                match all_ready.try_recv() {
                    Ok(outcome) => break outcome,
                    Err(mpsc::error::TryRecvError::Disconnected) => return Err("no client".into()),
                    Err(mpsc::error::TryRecvError::Empty) if begun.elapsed() > CONNECT => {
                        break Err(format!("{} of {count} clients connected", number));
                    }
                    Err(mpsc::error::TryRecvError::Empty) => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            };
            waiting.map_err(|why| format!("{}: {why}", peer.name()))?;
        }
        Ok(clients)
    }

    /// Nanoseconds since the clients began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.heard.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until so many events were heard, over all clients and from the beginning on.
    pub(crate) fn wait_for(&self, events: usize, patience: Duration) -> Fallible<()> {
        let begun = Instant::now();
        loop {
            let heard = self.heard.events.load(Ordering::Acquire);
            if heard >= events {
                return Ok(());
            }
            if begun.elapsed() > patience {
                return Err(format!("{heard} of {events} events came").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The 50th and the 99th percentile of what was heard so far.
    pub(crate) fn latencies_ms(&self) -> (f64, f64) {
        let latencies = self
            .heard
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        (at(0.5), at(0.99))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Client {
    peer: Peer,
    address: SocketAddr,
    heard: Arc<Heard>,
    ready: mpsc::UnboundedSender<Result<(), String>>,
}

/// A masked frame of text; the mask is zero.
fn masked(text: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    match text.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text.as_bytes());
    out
}

/// The first whole frame: its opcode, where its payload begins and ends.
fn frame_in(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second & 0x7f {
        126 => {
            let length = bytes.get(2..4)?.try_into().ok()?;
            (4, usize::from(u16::from_be_bytes(length)))
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
        }
        short => (2, usize::from(short)),
    };
    let end = head + length;
    (bytes.len() >= end).then_some((first & 0x0f, head, end))
}

/// The numbers behind each `name` in a text.
fn numbers<'a>(text: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.windows(name.len()).position(|part| part == name)?;
        rest = rest.get(at + name.len()..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    })
}

impl Client {
    async fn run(self, places: Arc<Semaphore>) {
        let place = places.acquire_owned().await;
        let begun = self.begin().await;
        drop(place);
        match begun {
            Ok((stream, rest)) => {
                let _ = self.ready.send(Ok(()));
                // It ends with the server.
                let _ = self.listen(stream, rest).await;
            }
            Err(error) => {
                let _ = self.ready.send(Err(error.to_string()));
            }
        }
    }

    /// Connects until events come; with bytes that were read beyond that.
    async fn begin(&self) -> Fallible<(TcpStream, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (path, more) = match self.peer {
            Peer::TidemillStream => ("/v1/topics/prices/stream", ""),
            Peer::TidemillWebSocket => ("/v1/ws", "sec-websocket-protocol: tidemill.v1\r\n"),
            _ => ("/socket.io/?EIO=4&transport=websocket", ""),
        };
        let upgrade = match self.peer {
            Peer::TidemillStream => "",
            _ => {
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
        };
        let address = self.address;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{upgrade}{more}\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut rest = Vec::new();
        let end = loop {
            read(&mut stream, &mut rest).await?;
            if let Some(at) = rest.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = if self.peer == Peer::TidemillStream {
            "200"
        } else {
            "101"
        };
        if !rest.starts_with(format!("HTTP/1.1 {status}").as_bytes()) {
            return Err(String::from_utf8_lossy(&rest).into_owned().into());
        }
        rest.drain(..end);
        let said = self.said();
        for (say, wait_for) in said {
            if !say.is_empty() {
                stream.write_all(&masked(say)).await?;
            }
            loop {
                if let Some((_, from, to)) = frame_in(&rest) {
                    let found = rest.get(from..to).unwrap_or_default();
                    let is_it = found.starts_with(wait_for.as_bytes());
                    rest.drain(..to);
                    if is_it {
                        break;
                    }
                    continue;
                }
                read(&mut stream, &mut rest).await?;
            }
        }
        if self.peer == Peer::TidemillWebSocket {
            stream.write_all(&masked(&fetch(2, 1))).await?;
        }
        Ok((stream, rest))
    }

    /// What is said until events come, each with what its answer begins with.
    fn said(&self) -> &'static [(&'static str, &'static str)] {
        match self.peer {
            Peer::TidemillStream => &[],
            Peer::TidemillWebSocket => &[
                ("{\"type\":\"hello\"}", "{\"type\":\"welcome\""),
                (
                    "{\"type\":\"fetch\",\"id\":1,\"topic\":\"prices\",\"partition\":0,\
                     \"offset\":0,\"max_events\":100}",
                    "{\"type\":\"fetched\"",
                ),
            ],
            _ => &[
                ("", "0"),
                ("40", "40"),
                ("420[\"subscribe\",{\"room\":\"prices\"}]", "430"),
            ],
        }
    }

    async fn listen(&self, mut stream: TcpStream, mut rest: Vec<u8>) -> Fallible<()> {
        let mut call = 2;
        loop {
            match self.peer {
                Peer::TidemillStream => {
                    let lines = rest
                        .iter()
                        .rposition(|byte| *byte == b'\n')
                        .map_or(0, |at| at + 1);
                    let text = rest.get(..lines).unwrap_or_default();
                    numbers(text, b"\"t\":").for_each(|made| self.heard.event(made));
                    rest.drain(..lines);
                }
                _ => {
                    while let Some((opcode, from, to)) = frame_in(&rest) {
                        let payload = rest.get(from..to).unwrap_or_default();
                        numbers(payload, b"\"t\":").for_each(|made| self.heard.event(made));
                        let answer = match (opcode, self.peer) {
                            (1, Peer::TidemillWebSocket) => {
                                numbers(payload, b"\"next\":").next().map(|next| {
                                    call += 1;
                                    fetch(call, next)
                                })
                            }
                            (1, _) if payload == b"2" => Some("3".to_owned()),
                            _ => None,
                        };
                        rest.drain(..to);
                        if let Some(answer) = answer {
                            stream.write_all(&masked(&answer)).await?;
                        }
                    }
                }
            }
            read(&mut stream, &mut rest).await?;
        }
    }
}

fn fetch(id: u64, from: u64) -> String {
    format!(
        "{{\"type\":\"fetch\",\"id\":{id},\"topic\":\"prices\",\"partition\":0,\
         \"offset\":{from},{FETCH}}}"
    )
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Fallible<()> {
    match stream.read_buf(into).await? {
        0 => Err("the server closed the connection".into()),
        _ => Ok(()),
    }
}

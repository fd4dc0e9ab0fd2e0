//! A server of one topic, in memory, that can be told to lie or to break: what a client does then
//! cannot be seen on a server that is right.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
    Nothing,
    /// It leaves an event out of the first page that it gives.
    Drops,
    /// It gives the first event of the first page twice.
    Doubles,
    /// It changes the places of two events of one key in the first page.
    Swaps,
    /// It gives its first event again so long after the topic was created, once all was read.
    DoublesLate(Duration),
    /// It closes the connection of each publishing call after so many.
    BreaksAfter(usize),
    /// It refuses each publishing call after so many.
    RefusesAfter(usize),
    /// It does not answer publishing calls after so many.
    HangsAfter(usize),
}

/// The server. It answers until the test's process ends.
pub(crate) struct Fake {
    pub(crate) url: String,
}

struct Shared {
    lie: Lie,
    state: Mutex<State>,
    /// Events came.
    came: Condvar,
}

struct State {
    created: Instant,
    /// Each event as it was published.
    events: Vec<Value>,
    /// How many publishing calls were answered.
    calls: usize,
    lied: bool,
}

impl Fake {
    pub(crate) fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            created: Instant::now(),
            events: Vec::new(),
            calls: 0,
            lied: false,
        };
        let shared = Arc::new(Shared {
            lie,
            state: Mutex::new(state),
            came: Condvar::new(),
        });
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = Arc::clone(&shared);
                // It ends when the client goes.
                std::thread::spawn(move || shared.answer_all(connection.unwrap()));
            }
        });
        Self { url }
    }
}

impl Shared {
    fn answer_all(&self, connection: TcpStream) -> Option<()> {
        let mut from = BufReader::new(connection.try_clone().ok()?);
        let mut to = connection;
        loop {
            let (head, body) = request(&mut from)?;
            let mut words = head.split(' ');
            let (status, answer) = self.answer(words.next()?, words.next()?, &body)?;
            let text = answer.to_string();
            let length = text.len();
            let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {length}\r\n\r\n");
            to.write_all(format!("{head}{text}").as_bytes()).ok()?;
        }
    }

    /// The answer to a request; `None` breaks the connection.
    fn answer(&self, method: &str, target: &str, body: &[u8]) -> Option<(u16, Value)> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match (method, path.split('/').nth(4)) {
            ("POST", Some("events")) => self.publish(path, body),
            ("GET", Some("events")) => Some((200, self.fetch(query))),
            ("POST", _) => {
                self.state.lock().unwrap().created = Instant::now();
                Some((201, json!({})))
            }
            ("GET", _) => {
                let end = self.state.lock().unwrap().events.len();
                let partition = json!({"partition": 0, "earliest": 0, "end": end});
                Some((200, json!({"name": "t", "partitions": [partition]})))
            }
            _ => Some((200, json!({}))),
        }
    }

    fn publish(&self, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let topic = path.split('/').nth(3)?;
        let batch: Vec<Value> = serde_json::from_slice(body).unwrap();
        let mut state = self.state.lock().unwrap();
        let calls = state.calls;
        match self.lie {
            Lie::BreaksAfter(most) if calls >= most => return None,
            Lie::RefusesAfter(most) if calls >= most => {
                return Some((503, json!({"detail": "the disk is full"})));
            }
            Lie::HangsAfter(most) if calls >= most => {
                drop(state);
                loop {
                    std::thread::park();
                }
            }
            _ => {}
        }
        let first = state.events.len();
        let accepted = batch.iter().enumerate().map(|(n, event)| {
            json!({"id": event["id"], "topic": topic, "partition": 0, "offset": first + n})
        });
        let accepted: Vec<Value> = accepted.collect();
        state.events.extend(batch);
        state.calls += 1;
        drop(state);
        self.came.notify_all();
        Some((200, json!({ "events": accepted })))
    }

    /// A page from the offset that is asked for, once there is an event, or none after a while.
    fn fetch(&self, query: &str) -> Value {
        let of = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
            let number = value.unwrap().rsplit(['=', ':']).next().unwrap();
            number.parse::<usize>().unwrap()
        };
        let (from, max, wait_ms) = (of("offset"), of("max"), of("wait_ms"));
        let state = self.state.lock().unwrap();
        let wait = match self.lie {
            Lie::DoublesLate(after) if !state.lied => {
                (state.created + after).saturating_duration_since(Instant::now())
            }
            _ => Duration::from_millis(wait_ms as u64),
        };
        // A call may publish fewer events than a lie needs in one page.
        let told_in_a_page = matches!(self.lie, Lie::Drops | Lie::Swaps);
        let nothing = |state: &mut State| {
            let least = if told_in_a_page && !state.lied { 4 } else { 1 };
            state.events.len() < from + least
        };
        let waited = self.came.wait_timeout_while(state, wait, nothing).unwrap();
        let mut state = waited.0;
        let end = state.events.len().min(from + max);
        let found = |offset: usize| {
            let event = &state.events[offset];
            json!({"partition": 0, "offset": offset, "event": event})
        };
        let mut page: Vec<Value> = (from..end).map(found).collect();
        if !state.lied {
            state.lied = self.lie_in(&mut page, &state.events);
        }
        json!({"events": page, "next": {"0": end}})
    }

    /// Tells the lie of this server in a page, if it can be told there.
    fn lie_in(&self, page: &mut Vec<Value>, events: &[Value]) -> bool {
        match self.lie {
            Lie::Drops if page.len() > 1 => drop(page.remove(0)),
            Lie::Doubles if !page.is_empty() => page.push(page[0].clone()),
            Lie::Swaps => {
                let key = |found: &Value| found["event"]["partitionkey"].clone();
                let same = |n: &usize| *n > 0 && key(&page[*n]) == key(&page[0]);
                let Some(other) = (0..page.len()).find(same) else {
                    return false;
                };
                page.swap(0, other);
            }
            Lie::DoublesLate(_) if page.is_empty() => {
                page.push(json!({"partition": 0, "offset": 0, "event": events[0]}));
            }
            _ => return false,
        }
        true
    }
}

/// The first line and the body of a request; `None` when the client has gone.
fn request(from: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        match (line, head.is_empty()) {
            ("", _) => break,
            (_, true) => head = line.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some((head, body))
}

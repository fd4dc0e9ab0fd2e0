//! Tidemill's HTTP doors: structured and batched CloudEvents in, a long poll out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::plain::{Http, request};
use crate::server::{Server, free};
use crate::{BATCH, Client, Fallible, VALUE_BYTES};

pub(crate) fn start(folder: &Path) -> Fallible<Server> {
    let address = free()?;
    let own = std::env::current_exe()?;
    let mut command = Command::new(own.with_file_name("tidemill"));
    command.args(["serve", "--http", &address.to_string(), "--data"]);
    command.arg(folder);
    Server::run(command, address)
}

/// See the module.
pub(crate) struct Connection {
    http: Http,
    single: Vec<u8>,
    batch: Vec<u8>,
    next: u64,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Fallible<Self> {
        let pad = "x".repeat(VALUE_BYTES - 8);
        let event = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/b\",\"type\":\"b\",\
             \"data\":{{\"p\":\"{pad}\"}}}}"
        );
        let batch = format!("[{}]", vec![event.as_str(); BATCH].join(","));
        let post = |kind: &str, body: &str| {
            let headers = format!("content-type: application/{kind}+json\r\n");
            request("POST /v1/topics/bench/events", &headers, body.as_bytes())
        };
        Ok(Self {
            http: Http::new(address)?,
            single: post("cloudevents", &event),
            batch: post("cloudevents-batch", &batch),
            next: 0,
        })
    }
}

impl Client for Connection {
    fn publish(&mut self, events: usize) -> Fallible<()> {
        let wanted = if events == 1 {
            &self.single
        } else {
            &self.batch
        };
        self.http.ask(wanted)?;
        Ok(())
    }

    fn fetch(&mut self, most: usize) -> Fallible<usize> {
        let next = self.next;
        let path = format!("GET /v1/topics/bench/events?offset={next}&max={most}&wait_ms=1000");
        let answer = self.http.ask(&request(&path, "", b""))?;
        let (_, places) = rsplit(&answer, b"\"next\":").ok_or("no place to read on")?;
        let places: Value = serde_json::from_slice(places.strip_suffix(b"}").unwrap_or(places))?;
        let next = places
            .get("0")
            .and_then(Value::as_u64)
            .ok_or("no partition 0")?;
        let came = usize::try_from(next.saturating_sub(self.next))?;
        self.next = next;
        Ok(came)
    }
}

/// What stands before and behind the last `part`.
fn rsplit<'a>(text: &'a [u8], part: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text
        .windows(part.len())
        .rposition(|window| window == part)?;
    Some((text.get(..at)?, text.get(at + part.len()..)?))
}

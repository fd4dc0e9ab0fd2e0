//! A client of server-sent events that reads them as a browser does (WHATWG HTML, section 9.2.6).

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

pub(crate) struct EventSource {
    body: Incoming,
    rest: String,
    pub(crate) last_id: String,
    pub(crate) retry_ms: Option<u64>,
}

/// What a browser would dispatch.
#[derive(Debug)]
pub(crate) struct Dispatched {
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl EventSource {
    pub(crate) async fn open(address: SocketAddr, path: &str, last_id: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let mut request = Request::get(format!("http://{address}{path}"));
        if !last_id.is_empty() {
            request = request.header("last-event-id", last_id);
        }
        let answer = client
            .request(request.body(Empty::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut source = Self {
            body: answer.into_body(),
            rest: String::new(),
            last_id: last_id.to_owned(),
            retry_ms: None,
        };
        // The first block has the place and no data.
        assert!(source.block().await.is_some_and(|data| data.is_none()));
        source
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Dispatched> {
        loop {
            if let Some(dispatched) = self.block().await? {
                return Some(dispatched);
            }
        }
    }

    /// The next block of lines, which may have no data.
    pub(crate) async fn block(&mut self) -> Option<Option<Dispatched>> {
        while !self.rest.contains("\n\n") {
            let frame = self.body.frame().await?.ok()?;
            let bytes = frame.into_data().unwrap();
            self.rest.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let (block, rest) = self.rest.split_once("\n\n").unwrap();
        let (block, rest) = (block.to_owned(), rest.to_owned());
        self.rest = rest;
        let (mut event, mut data) = ("message".to_owned(), Vec::new());
        for line in block.lines().filter(|line| !line.starts_with(':')) {
            match line.split_once(": ").unwrap() {
                ("id", id) => self.last_id = id.to_owned(),
                ("retry", time) => self.retry_ms = Some(time.parse().unwrap()),
                ("event", name) => event = name.to_owned(),
                ("data", line) => data.push(line.to_owned()),
                other => panic!("an unknown field: {other:?}"),
            }
        }
        if data.is_empty() {
            return Some(None);
        }
        let data = serde_json::from_str(&data.join("\n")).unwrap();
        Some(Some(Dispatched { event, data }))
    }
}

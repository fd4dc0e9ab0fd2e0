//! An endpoint of webhooks that notes what it gets and answers as it was told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No test waits longer for a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an endpoint does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This text, after which the connection is closed.
    Text(String),
    /// Nothing for ever.
    Hang,
    /// 200, once somebody says so.
    Held(Arc<Notify>),
    /// The end of the connection, without an answer.
    Close,
    /// The end of the connection, as a reset.
    Reset,
    /// A body of so many bytes.
    Huge(usize),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::with(status, "")
    }

    /// A status and a header line.
    pub(crate) fn with(status: u16, header: &str) -> Self {
        let header = match header {
            "" => String::new(),
            header => format!("{header}\r\n"),
        };
        Self::Text(format!(
            "HTTP/1.1 {status} Said\r\n{header}content-length: 4\r\nconnection: close\r\n\r\nsaid"
        ))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `data` of the event, as text.
    pub(crate) fn data(&self) -> String {
        self.json()["data"].to_string()
    }
}

/// A running endpoint. Ends when dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    got: mpsc::UnboundedReceiver<Got>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Answers request number n (from 0) with what `script` says.
    pub(crate) async fn start(
        script: impl Fn(usize, &Got) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (send, got) = mpsc::unbounded_channel();
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            let mut number = 0;
            let (numbers, mut next) = mpsc::unbounded_channel::<(Got, TcpStream)>();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        tokio::spawn(read(stream, numbers.clone()));
                    }
                    Some((got, stream)) = next.recv() => {
                        let reply = script(number, &got);
                        number += 1;
                        let _ = send.send(got);
                        tokio::spawn(answer(stream, reply));
                    }
                }
            }
        });
        Self { address, got, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?from=tidemill", self.address)
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Got {
        let got = timeout(PATIENCE, self.got.recv()).await;
        got.expect("a request comes in time").unwrap()
    }

    /// Whether no request has come that was not asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.got.try_recv().is_err()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(stream: TcpStream, to: mpsc::UnboundedSender<(Got, TcpStream)>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).await.unwrap_or(0) == 0 {
        return;
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).await.unwrap();
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    let line = line.trim_end().to_owned();
    let got = Got {
        line,
        headers,
        body,
    };
    let _ = to.send((got, reader.into_inner()));
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    match reply {
        Reply::Text(text) => {
            // A client that has read enough may be gone.
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hang => std::future::pending().await,
        Reply::Held(until) => {
            until.notified().await;
            Box::pin(answer(stream, Reply::status(200))).await;
        }
        Reply::Close => drop(stream),
        Reply::Reset => {
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
        Reply::Huge(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let piece = vec![b'x'; 64 * 1024];
            let mut left = bytes;
            while left > 0
                && stream
                    .write_all(&piece[..left.min(piece.len())])
                    .await
                    .is_ok()
            {
                left = left.saturating_sub(piece.len());
            }
        }
    }
}

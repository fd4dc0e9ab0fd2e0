//! A server that answers everything at once with the same few bytes.

use std::process::Command;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Fallible;
use crate::server::{Server, free};
use crate::{Client, tidemill};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

pub(crate) fn start() -> Fallible<Server> {
    let address = free()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["null", &address.port().to_string()]);
    Server::run(command, address)
}

/// Asks as Tidemill is asked; there is nothing to fetch.
pub(crate) struct Connection(pub(crate) tidemill::Connection);

impl Client for Connection {
    fn publish(&mut self, events: usize) -> Fallible<()> {
        self.0.publish(events)
    }

    fn fetch(&mut self, _: usize) -> Fallible<usize> {
        Ok(0)
    }
}

pub(crate) fn serve(port: &str) -> Fallible<()> {
    let port: u16 = port.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let _ = connection(stream).await;
            });
        }
    })
}

async fn connection(stream: TcpStream) -> Fallible<()> {
    let mut stream = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    loop {
        let mut length = 0;
        line.clear();
        while stream.read_line(&mut line).await? > 2 {
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        stream.get_mut().write_all(ANSWER).await?;
    }
}

//! A plain connection for HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::Fallible;

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

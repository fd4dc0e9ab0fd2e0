//! One request from a socket: four bytes of length, then so many bytes, within bounds of size,
//! memory and time. Knows nothing of what is in them.

use std::io;

use bytes::{Bytes, BytesMut};
use tidemill_core::budget::{Budget, Class, Share};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep, timeout_at};

use crate::limits::{
    KAFKA_BUFFER_BYTES, KAFKA_IDLE_TIMEOUT, KAFKA_READ_TIMEOUT, KAFKA_REQUEST_MAX_BYTES,
    MEMORY_LOOK_EVERY,
};

/// A request as it came, without its length. Its memory counts until this is dropped.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) share: Share,
}

/// Reads frames from a stream, one after the other.
#[derive(Debug)]
pub(super) struct Frames {
    memory: Budget,
    max_bytes: usize,
    /// What is taken of who is at the other end.
    bound: usize,
    head: [u8; 4],
    have: usize,
    body: Option<Body>,
    /// When the other side must have sent what it is at.
    deadline: Instant,
}

#[derive(Debug)]
struct Body {
    bytes: BytesMut,
    missing: usize,
    share: Share,
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Frames {
    pub(super) fn new(memory: &Budget) -> Self {
        Self {
            // One request leaves room for others.
            max_bytes: KAFKA_REQUEST_MAX_BYTES.min(memory.max(Class::Requests) / 2),
            bound: usize::MAX,
            memory: memory.clone(),
            head: [0; 4],
            have: 0,
            body: None,
            deadline: Instant::now() + KAFKA_IDLE_TIMEOUT,
        }
    }

    /// Takes no larger frames from now on, whatever there is memory for.
    pub(super) fn at_most(&mut self, bytes: usize) {
        self.bound = bytes;
    }

    /// The next frame; `None` where the other side ended between two. Dropped before it resolves,
    /// nothing that was read is lost. Only who is `idle`, waiting for no answer, has to begin one
    /// in time.
    ///
    /// # Errors
    /// What the socket says, a length that is none, or a frame that did not come in time.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        idle: bool,
    ) -> io::Result<Option<Frame>> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "a request did not come in time");
        while self.have < self.head.len() {
            let head = self.head.get_mut(self.have..).unwrap_or_default();
            let read = stream.read(head);
            let read = match self.have == 0 && !idle {
                true => read.await,
                false => timeout_at(self.deadline, read).await.map_err(|_| late())?,
            };
            match read? {
                0 if self.have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => {
                    if self.have == 0 {
                        self.deadline = Instant::now() + KAFKA_READ_TIMEOUT;
                    }
                    self.have += bytes;
                }
            }
        }
        if self.body.is_none() {
            self.body = Some(self.begin().await?);
            self.deadline = Instant::now() + KAFKA_READ_TIMEOUT;
        }
        while let Some(body) = &mut self.body {
            if body.missing == 0 {
                break;
            }
            // In pieces: memory is touched as it is needed.
            body.bytes.reserve(body.missing.min(KAFKA_BUFFER_BYTES));
            let mut rest = (&mut *stream).take(body.missing as u64);
            let read = timeout_at(self.deadline, rest.read_buf(&mut body.bytes)).await;
            match read.map_err(|_| late())?? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => body.missing -= bytes,
            }
        }
        self.have = 0;
        self.deadline = Instant::now() + KAFKA_IDLE_TIMEOUT;
        Ok(self.body.take().map(|body| Frame {
            bytes: body.bytes.freeze(),
            share: body.share,
        }))
    }

    /// The silence of a client that waits for its answers is none.
    pub(super) fn not_idle(&mut self) {
        if self.have == 0 {
            self.deadline = Instant::now() + KAFKA_IDLE_TIMEOUT;
        }
    }

    /// Takes the memory for a frame, waiting for it as long as the client waits.
    async fn begin(&self) -> io::Result<Body> {
        // The first record of a client's TLS: its type, and its version.
        if let [22, 3, ..] = self.head {
            return Err(wrong(
                "what came is TLS, which is not spoken here: give the server a certificate \
                 (--kafka-tls-cert), or the client security.protocol=PLAINTEXT or SASL_PLAINTEXT",
            ));
        }
        let size = usize::try_from(i32::from_be_bytes(self.head));
        let size = size.map_err(|_| wrong("a request says that it has less than no bytes"))?;
        if size > self.max_bytes.min(self.bound) {
            return Err(wrong("a request is larger than what is taken"));
        }
        let share = loop {
            match self.memory.take(Class::Requests, size) {
                Some(share) => break share,
                None => sleep(MEMORY_LOOK_EVERY).await,
            }
        };
        Ok(Body {
            bytes: BytesMut::with_capacity(size),
            missing: size,
            share,
        })
    }
}

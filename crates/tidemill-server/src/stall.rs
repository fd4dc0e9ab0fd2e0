//! A connection that takes none of its bytes is closed after a while, so that a reader that
//! stopped cannot hold its answers in memory for ever.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream whose writes fail once the other side has taken nothing for `limit`. Keeps `H`, its
/// place among the connections, as long as it lives, also after an upgrade.
pub(crate) struct StallGuard<S, H> {
    inner: S,
    _held: H,
    limit: Duration,
    stalled: Counter,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The stream was given up: every read and write fails from then on.
    given_up: bool,
    /// Who waits to read, and is told when the stream is given up.
    reader: Option<Waker>,
}

fn too_slow() -> io::Error {
    let text = "the other side took no bytes for too long";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl<S, H> StallGuard<S, H> {
    /// Guards `inner`; each connection that is given up counts in `stalled`.
    pub(crate) fn new(inner: S, held: H, limit: Duration, stalled: Counter) -> Self {
        Self {
            inner,
            _held: held,
            limit,
            stalled,
            deadline: None,
            given_up: false,
            reader: None,
        }
    }

    /// Passes on what a write said, and begins or ends the waiting.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.given_up {
            return Poll::Ready(Err(too_slow()));
        }
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let limit = self.limit;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(deadline.as_mut().poll(cx));
        self.deadline = None;
        self.given_up = true;
        self.stalled.inc();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(too_slow()))
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for StallGuard<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given_up {
            return Poll::Ready(Err(too_slow()));
        }
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.reader = read.is_pending().then(|| cx.waker().clone());
        read
    }
}

impl<S: AsyncWrite + Unpin, H: Unpin> AsyncWrite for StallGuard<S, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn only_a_reader_that_stops_is_given_up() {
        let (near, mut far) = tokio::io::duplex(8);
        let stalled = Counter::default();
        let limit = Duration::from_secs(5);
        let mut guarded = StallGuard::new(near, (), limit, stalled.clone());
        guarded.write_all(b"12345678").await.unwrap();

        let slow = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                far.read_exact(&mut byte).await.unwrap();
            }
            far
        });
        guarded.write_all(b"abcd").await.unwrap();
        assert_eq!(stalled.get(), 0, "a slow reader is no stopped one");

        let far = slow.await.unwrap();
        let error = guarded.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(stalled.get(), 1);
        let again = guarded.write_all(b"x").await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::TimedOut);
        assert!(
            guarded.read_u8().await.is_err(),
            "nothing is read from it either"
        );
        assert_eq!(stalled.get(), 1);
        drop(far);
    }
}

//! Standard output and standard error as everybody here uses them: nobody panics because the
//! reader has gone.
//!
//! This room may not know what is said.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::{Notify, oneshot};

use crate::failure::Failure;

/// Writes `text` to standard output as it is. A reader that has gone, as `head` does, is no
/// failure.
///
/// # Errors
/// When it cannot be written for another reason.
pub(crate) fn write(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritten(&error)),
        _ => Ok(()),
    }
}

/// Writes a line to standard output, as [`write`] does.
///
/// # Errors
/// As [`write`].
pub(crate) fn say(line: impl Display) -> Result<(), Failure> {
    write(format!("{line}\n").as_bytes())
}

/// Writes a line to standard error, if anybody reads it.
pub(crate) fn remark(line: impl Display) {
    // Where nobody can be told, nobody is told.
    let _ = writeln!(io::stderr(), "{line}");
}

/// The failure of a standard output that takes nothing.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    Failure::new(format!("cannot write to standard output: {error}"))
}

/// Resolves when nobody can read standard output any more; never, where that cannot be known, as
/// with a file. A thread sleeps in the system until then, so waiting for it costs no time.
pub(crate) async fn hung_up() {
    let (tell, told) = oneshot::channel();
    let watch = move || {
        if wait_for_hang_up() {
            // Nobody waits for it any more when the command has ended.
            let _ = tell.send(());
        }
    };
    let watching = std::thread::Builder::new()
        .name("hang-up".to_owned())
        .spawn(watch);
    match (watching, told.await) {
        (Ok(_), Ok(())) => {}
        // Without the watch, the next write finds out.
        _ => std::future::pending().await,
    }
}

/// Sleeps until nobody can read standard output any more; `false` when that cannot be watched.
fn wait_for_hang_up() -> bool {
    let out = io::stdout();
    loop {
        // Asked for nothing, it reports only what cannot be unasked: errors and hang-ups.
        let mut asked = [PollFd::new(&out, PollFlags::empty())];
        match poll(&mut asked, None) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => {
                let [asked] = &asked;
                return asked.revents().intersects(PollFlags::ERR | PollFlags::HUP);
            }
        }
    }
}

/// Standard output for a command that goes on to a good end of its own when its reader has gone.
pub(crate) struct Stage {
    gone: Arc<Notify>,
}

impl Stage {
    /// The writer, and what is notified when a write finds no reader.
    pub(crate) fn new() -> (Self, Arc<Notify>) {
        let gone = Arc::new(Notify::new());
        let stage = Self {
            gone: Arc::clone(&gone),
        };
        (stage, gone)
    }

    fn forgiven<T>(&self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.gone.notify_one();
                Ok(otherwise)
            }
            result => result,
        }
    }
}

impl Write for Stage {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.forgiven(io::stdout().write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.forgiven(io::stdout().flush(), ())
    }
}

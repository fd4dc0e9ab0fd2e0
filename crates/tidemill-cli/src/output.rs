//! Standard output and standard error as everybody here uses them: nobody panics because the
//! reader has gone.
//!
//! This room may not know what is said.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tidemill::core::shown::commands;
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

/// Writes a line to standard error, if anybody reads it. What would command a terminal is escaped.
pub(crate) fn remark(line: impl Display) {
    // Where nobody can be told, nobody is told.
    // It is for people, wherever it goes: a log of it may be looked at on a terminal later.
    let line = Shown { escaped: true }.lines(&line.to_string());
    let _ = writeln!(io::stderr(), "{line}");
}

/// How what others wrote is shown on standard output: on a terminal, which control characters would
/// command, they and what turns the direction of writing are escaped; everywhere else it stays as
/// it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    escaped: bool,
}

impl Shown {
    /// As standard output needs it.
    pub(crate) fn on_standard_output() -> Self {
        Self {
            escaped: io::stdout().is_terminal(),
        }
    }

    /// A text of several lines.
    pub(crate) fn lines(self, text: &str) -> String {
        let lines: Vec<_> = text.split('\n').map(|line| self.text(line)).collect();
        lines.join("\n")
    }

    /// A line of text.
    pub(crate) fn text(self, line: &str) -> Cow<'_, str> {
        let commands = |c: char| commands(c) && c != '\t';
        if !self.escaped || !line.contains(commands) {
            return Cow::Borrowed(line);
        }
        let shown = |c: char| match commands(c) {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        };
        Cow::Owned(line.chars().map(shown).collect())
    }

    /// A line of JSON, which stays the JSON that it is: what is white space in it stays, and
    /// another control character can only be in a string.
    pub(crate) fn json(self, line: Vec<u8>) -> Vec<u8> {
        let commands = |c: char| commands(c) && !matches!(c, '\t' | '\n' | '\r');
        match str::from_utf8(&line) {
            Ok(text) if self.escaped && text.contains(commands) => {
                let shown = |c: char| match commands(c) {
                    true => format!("\\u{:04x}", u32::from(c)),
                    false => c.to_string(),
                };
                text.chars().map(shown).collect::<String>().into_bytes()
            }
            _ => line,
        }
    }
}

/// The failure of a standard output that takes nothing.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    Failure::new(format!("cannot write to standard output: {error}"))
}

/// The failure of an output that took no word of what is done: it says that too.
///
/// # Errors
/// Where `told` is one.
pub(crate) fn all_the_same(told: Result<(), Failure>, done: impl Display) -> Result<(), Failure> {
    told.map_err(|failure| Failure::new(format!("{failure}; {done} all the same")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_reach_no_terminal_and_every_pipe() {
        let evil = "a\tb\u{1b}[2J\u{9b}\u{7f}\r\nü";
        let (terminal, pipe) = (Shown { escaped: true }, Shown { escaped: false });
        assert_eq!(pipe.text(evil), evil);
        assert_eq!(terminal.text(evil), "a\tb\\u{1b}[2J\\u{9b}\\u{7f}\\r\\nü");
        let turned = "from \u{202e}nimda";
        assert_eq!(pipe.lines(turned), turned);
        assert_eq!(terminal.lines("a\n\u{2066}b"), "a\n\\u{2066}b");
        assert_eq!(terminal.text(turned), "from \\u{202e}nimda");
        let json = "{\"a\":\"\u{9b}\u{7f}ü\"}".as_bytes().to_vec();
        assert_eq!(pipe.json(json.clone()), json);
        let shown = terminal.json(json.clone());
        assert_eq!(shown, b"{\"a\":\"\\u009b\\u007f\xc3\xbc\"}");
        let read = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&shown), read(&json));
    }
}

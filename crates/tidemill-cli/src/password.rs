//! A password from whoever sits at the terminal, who does not see what he types, or from a pipe.
//!
//! Knows nothing of users.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tidemill_server::limits::PASSWORD_MAX_BYTES;

use crate::failure::Failure;

/// The terminal as it was, which it is again at the end.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    /// Shows nothing of what is typed from now on, and gives every key by itself.
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        let shown = LocalModes::ECHO | LocalModes::ECHONL;
        // Ctrl-C comes as a key, so that the terminal is not left quiet.
        quiet.local_modes -= shown | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }

    fn line(&mut self, prompt: &str) -> Result<String, Failure> {
        self.terminal.write_all(prompt.as_bytes())?;
        let mut typed = Vec::new();
        loop {
            let mut key = [0];
            let read = self.terminal.read(&mut key)?;
            let [key] = key;
            match (read, key) {
                // The end, Ctrl-C, Ctrl-D and Ctrl-Z.
                (0, _) | (_, 3 | 4 | 26) => {
                    self.terminal.write_all(b"\n")?;
                    return Err(Failure::new("no password was typed"));
                }
                (_, b'\r' | b'\n') => break,
                (_, 8 | 127) => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
                // Ctrl-U.
                (_, 21) => typed.clear(),
                (_, key) if typed.len() <= PASSWORD_MAX_BYTES => typed.push(key),
                (_, _) => {}
            }
        }
        self.terminal.write_all(b"\n")?;
        text(typed)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done where the terminal has gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks for a new password twice, on the terminal.
///
/// # Errors
/// There is no terminal, what was typed differs, or typing was broken off.
pub(crate) fn asked() -> Result<String, Failure> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let quiet = terminal.and_then(Quiet::new);
    let no_terminal = |_| {
        Failure::usage(
            "there is no terminal to ask for the password; give it with --password-stdin",
        )
    };
    let mut quiet = quiet.map_err(no_terminal)?;
    let first = quiet.line("password: ")?;
    match quiet.line("again: ")? == first {
        true => Ok(first),
        false => Err(Failure::new("the two passwords differ; try again")),
    }
}

/// Reads a password from standard input: all of it, without the line's end.
///
/// # Errors
/// It cannot be read, is no text, or has more than a line.
pub(crate) fn piped() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = PASSWORD_MAX_BYTES as u64 + 3;
    io::stdin().take(most).read_to_end(&mut bytes)?;
    let mut line = text(bytes)?;
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
    match line.contains('\n') {
        false => Ok(line),
        true => Err(Failure::usage(
            "a password is one line; standard input has more",
        )),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage("the password is no text in UTF-8; give one that is"))
}

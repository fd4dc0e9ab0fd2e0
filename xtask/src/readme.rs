//! Runs the README's commands as they stand there, against a release build.
//!
//! What is added to them keeps them apart from what else runs on the machine: folders below
//! `target/`, free ports, and an end. This room may not know what the commands print beyond what
//! the README promises.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::{doors, tools};

/// How the README's commands begin.
const RUN: &str = "    cargo run --release -- ";

/// Runs `demo`, then `serve` with `publish`, `subscribe` and `curl` against it.
///
/// # Errors
/// What did not do what the README says.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(root.join("README.md"))
        .map_err(|e| format!("cannot read README.md: {e}"))?;
    let place = Place::new(root, "target/readme")?;
    let demo = command(&text, "demo")?;
    let data = place.folder.join("demo").display().to_string();
    let mut ports = vec!["--http", "127.0.0.1:0", "--shop", "127.0.0.1:0"];
    ports.extend(["--messages", "127.0.0.1:0"]);
    let ended = place.output(
        &demo,
        &[&["--for", "5s", "--data", &data], &ports[..]].concat(),
        "",
    )?;
    println!("{ended}");

    let mut server = Server::start(&place, &command(&text, "serve")?)?;
    let url = server.url()?;
    let published = place.output(&command(&text, "publish")?, &[], &url)?;
    println!("{published}");
    let read = place.output(&command(&text, "subscribe")?, &["--max", "1"], &url)?;
    println!("{read}");
    if !read.contains("order_created") {
        return Err("the README's subscriber did not get what its publisher sent".to_owned());
    }
    tools::ensure_curl()?;
    let line = text.lines().find_map(|line| line.strip_prefix("    curl "));
    let line = line.ok_or("the README has no line that begins with curl")?;
    match doors::curl(&format!("curl {line}"), &url)? {
        (200, answer) => println!("{answer}"),
        (status, answer) => {
            return Err(format!("curl {line}\nwas answered with {status}: {answer}"));
        }
    }
    Ok(())
}

/// The words of the README's command of this name.
fn command(text: &str, name: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(RUN));
    let mut named = lines.filter(|line| line.split_whitespace().next() == Some(name));
    let line = named
        .next()
        .ok_or_else(|| format!("the README has no line `{RUN}{name}`"))?;
    // What follows two blanks is the README's own remark.
    Ok(words(line.split("  ").next().unwrap_or(line)))
}

/// Splits as a shell does, as far as blanks and single quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        match n % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// The binary, and an empty folder to run it in.
pub(crate) struct Place {
    binary: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// The release build, in an empty folder at this place below `root`.
    ///
    /// # Errors
    /// When the folder cannot be emptied or made.
    pub(crate) fn new(root: &Path, folder: &str) -> Result<Self, String> {
        let folder = root.join(folder);
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot empty {}: {e}", folder.display()));
            }
            _ => {}
        }
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        Ok(Self {
            binary: root.join("target/release/tidemill"),
            folder,
        })
    }

    /// The program.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[String], more: &[&str], url: &str) -> Result<String, String> {
        let mut command = self.command(words);
        command.args(more);
        if !url.is_empty() {
            command.env("TIDEMILL_SERVER", url);
        }
        let output = command
            .output()
            .map_err(|e| format!("cannot run {words:?}: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{words:?} ended with {}:\n{text}{error}",
            output.status
        ))
    }
}

/// A server, ended when this is dropped.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it with these words of a command line, on a free port.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(place: &Place, words: &[String]) -> Result<Self, String> {
        let mut command = place.command(words);
        command
            .env("TIDEMILL_HTTP", "127.0.0.1:0")
            .env("TIDEMILL_KAFKA", "127.0.0.1:0")
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot serve: {e}"))?;
        let out = child.stdout.take().ok_or("the server has no output")?;
        Ok(Self {
            child,
            out: BufReader::new(out),
        })
    }

    /// The address that it prints.
    ///
    /// # Errors
    /// When it prints none.
    pub(crate) fn url(&mut self) -> Result<String, String> {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            let length = self.out.read_line(&mut line).map_err(|e| e.to_string())?;
            if let Some(at) = line.find("http://") {
                return Ok(line.get(at..).unwrap_or_default().trim().to_owned());
            }
            if length == 0 {
                return Err(format!("the server printed no address but:\n{seen}"));
            }
            seen.push_str(&line);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut rest = String::new();
        let _ = self.out.read_to_string(&mut rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_and_split() {
        let text = "text\n    cargo run --release -- demo     a shop\n    \
            cargo run --release -- publish orders '{\"a\": 1}' --key 1\n";
        assert_eq!(command(text, "demo").unwrap(), ["demo"]);
        let publish = command(text, "publish").unwrap();
        assert_eq!(publish, ["publish", "orders", "{\"a\": 1}", "--key", "1"]);
        assert!(command(text, "serve").is_err());
    }
}

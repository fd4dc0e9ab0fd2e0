//! Runs the code of the guides in docs/ from top to bottom, each guide against a new server:
//! commands of the shell, scripts in Python and JavaScript with the stock clients, and programs of
//! `examples/guides`, which a guide shows as they are.
//!
//! This room may not know what a guide is about.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::doors::{ADDRESS, Addresses, Block, Document, check_one};
use crate::tools;

const GUIDES: [Document; 7] = [
    guide("docs/QUICKSTART.md", "target/guide-quickstart"),
    guide("docs/HANDLERS.md", "target/guide-handlers"),
    guide("docs/SERVICES.md", "target/guide-services"),
    guide("docs/WEBHOOKS.md", "target/guide-webhooks"),
    guide("docs/FROM-FLASK-SOCKETIO.md", "target/guide-socketio"),
    guide("docs/FROM-PIKA.md", "target/guide-pika"),
    guide("docs/FROM-KAFKA-PYTHON.md", "target/guide-kafka"),
];

/// Where the programs are that guides show.
const PROGRAMS: &str = "examples/guides/src/bin";

/// How a guide begins one of them.
const RUN: &str = "cargo run -p tidemill-guides --bin ";

/// No script of a guide runs longer.
const SCRIPT_MAX: Duration = Duration::from_secs(60);

const fn guide(name: &'static str, folder: &'static str) -> Document {
    Document {
        name,
        folder,
        server: "serve",
        addresses: &[ADDRESS],
    }
}

/// Runs all guides.
///
/// # Errors
/// The line of the guide that is not true, and what came instead.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    tools::ensure_curl()?;
    tools::cargo(root, &["build", "--locked", "-p", "tidemill-guides"])?;
    for guide in &GUIDES {
        let mut programs = Programs::new(root)?;
        check_one(root, guide, Some(&mut programs))?;
    }
    Ok(())
}

/// What runs code that is not the shell's. Its programs end when this is dropped.
pub(crate) struct Programs {
    clients: PathBuf,
    /// Where the built programs are, and the names and texts of those that a guide may show.
    built: PathBuf,
    sources: Vec<(String, String)>,
    running: Vec<Child>,
}

impl Programs {
    fn new(root: &Path) -> Result<Self, String> {
        let unreadable = |e: std::io::Error| format!("cannot read {PROGRAMS}: {e}");
        let files = std::fs::read_dir(root.join(PROGRAMS)).map_err(unreadable)?;
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            let path = file?.path();
            let name = path.file_stem().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            Ok((name, std::fs::read_to_string(&path)?))
        };
        let sources: std::io::Result<_> = files.map(read).collect();
        Ok(Self {
            clients: root.join(tools::STOCK_CLIENTS),
            built: root.join("target/debug"),
            sources: sources.map_err(unreadable)?,
            running: Vec::new(),
        })
    }

    /// Runs a block of a guide; answers what it printed, or none where it is not to be run, as a
    /// program that prints nothing which is shown: such a one is started by a command.
    ///
    /// # Errors
    /// What it said when it failed; that a program is none of `examples/guides`.
    pub(crate) fn run(
        &self,
        block: &Block,
        is_shown: bool,
        urls: &Addresses<'_>,
    ) -> Result<Option<String>, String> {
        let clients = &self.clients;
        let mut command = match block.language.as_str() {
            "py" => Command::new(clients.join("venv/bin/python")),
            "js" => Command::new("node"),
            "rust" => {
                let mut programs = self.sources.iter();
                let program = programs.find(|(_, text)| *text == block.text);
                let (name, _) =
                    program.ok_or_else(|| format!("this is no program of {PROGRAMS}"))?;
                if !is_shown {
                    return Ok(None);
                }
                return printed(&mut Command::new(self.built.join(name))).map(Some);
            }
            _ => return Ok(None),
        };
        let there = |text: String, (address, url): &(&str, String)| text.replace(address, url);
        let text = urls.iter().fold(block.text.clone(), there);
        let flag = if block.language == "py" { "-c" } else { "-e" };
        command
            .args([flag, &text])
            .current_dir(clients.join("node"));
        printed(&mut command).map(Some)
    }

    /// Starts a program of `examples/guides`, which goes on beside what follows.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn start(&mut self, command: &str, urls: &Addresses<'_>) -> Result<(), String> {
        let name = command.strip_prefix(RUN);
        let name = name.ok_or_else(|| format!("guides run programs as `{RUN}NAME`"))?;
        let url = urls.first().map_or(ADDRESS, |(_, url)| url.as_str());
        let child = Command::new(self.built.join(name))
            .env("TIDEMILL_BUS", url.replace("http://", "tidemill://"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start {name}: {e}"))?;
        self.running.push(child);
        Ok(())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a program prints, which must end well, and soon.
fn printed(command: &mut Command) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run it: {e}"))?;
    let (printed, read) = mpsc::channel();
    let mut output = child.stdout.take().ok_or("it has no output")?;
    std::thread::spawn(move || {
        let mut text = String::new();
        // The only error is that nobody waits any longer.
        let _ = printed.send(output.read_to_string(&mut text).map(|_| text));
    });
    let printed = read.recv_timeout(SCRIPT_MAX);
    if printed.is_err() {
        // It may end at this very moment.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let printed = printed.map_err(|_| format!("it does not end in {SCRIPT_MAX:?}"))?;
    match status.success() {
        true => printed.map_err(|e| format!("it prints no text: {e}")),
        false => Err(format!("it ended with {status}")),
    }
}
